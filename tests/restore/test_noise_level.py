import pytest
import torch

from tests.pictures import photograph
from undiffuse.restore import estimate_sigma


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1, 0.3])
def test_on_a_photograph(sigma):
    x = photograph()
    y = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    # The photograph has grain of its own of about 0.01; 10 % is what this picture gives.
    assert estimate_sigma(y) == pytest.approx(sigma, rel=0.1, abs=0.005)


def test_through_a_mask():
    x = photograph()
    generator = torch.Generator().manual_seed(3)
    y = x + 0.1 * torch.randn(x.shape, generator=generator)
    mask = (torch.rand(1, *x.shape[1:], generator=generator) > 0.5).float()
    assert estimate_sigma(y * mask, mask) == pytest.approx(0.1, rel=0.15)


def test_pure_noise_of_any_channel_count():
    y = 0.2 * torch.randn(5, 64, 48, generator=torch.Generator().manual_seed(0))
    assert estimate_sigma(y) == pytest.approx(0.2, rel=0.05)


def test_a_flat_picture_has_none():
    assert estimate_sigma(torch.full((3, 64, 64), 0.25)) == 0


def test_no_picture_and_too_small_a_picture():
    with pytest.raises(ValueError, match="image only"):
        estimate_sigma(torch.zeros(3, 100))
    with pytest.raises(ValueError, match="give its level"):
        estimate_sigma(torch.zeros(1, 10, 10))
