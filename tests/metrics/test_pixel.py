import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tests.pictures import photograph
from undiffuse.metrics import psnr, ssim


def pair():
    x = photograph(65, 80)[None].double()
    y = (x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    return x, y


def channels_last(x):
    return (x[0] / 2 + 0.5).permute(1, 2, 0).numpy()


def test_psnr():
    x, y = pair()
    expected = peak_signal_noise_ratio(channels_last(x), channels_last(y), data_range=1)
    assert psnr(y, x).item() == pytest.approx(expected, abs=1e-9)


def test_ssim():
    x, y = pair()
    _, full = structural_similarity(
        channels_last(x), channels_last(y), data_range=1, channel_axis=2, gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False, full=True,
    )  # fmt: skip
    assert ssim(y, x).item() == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-9)


def test_each_image_on_its_own():
    x, y = pair()
    np.testing.assert_allclose(psnr(torch.cat([y, x * 0.5]), torch.cat([x, x]))[0], psnr(y, x)[0], rtol=1e-12)
    assert ssim(torch.cat([y, x]), torch.cat([x, x]))[1].item() == pytest.approx(1)


def test_what_is_clamped_when_saved_is_clamped():
    x, _ = pair()
    assert psnr(torch.full_like(x, 7.0), torch.ones_like(x)).item() == float("inf")


def test_small_pictures_are_refused():
    with pytest.raises(ValueError, match="11x11"):
        ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))
