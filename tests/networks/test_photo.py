"""The photograph U-Net: any size, and what a norm costs in locality."""

import pytest
import torch
import torch.nn.functional as F

from tests.networks.weights import seeded
from undiffuse.networks import PhotoConfig
from undiffuse.networks.photo import reflected

SMALL = dict(widths=(16, 24), blocks=1, embedding=16)
LEVEL = torch.tensor([0.3])


def picture(height, width):
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 64), (17, 31), (33, 40)])
@torch.no_grad()
def test_any_size(size):
    net = seeded(PhotoConfig(**SMALL, stem=4).build(), 1)
    x = picture(*size)
    found = net(x, LEVEL)
    assert found.shape == x.shape and found.isfinite().all()
    assert torch.equal(found, net(reflected(x, 8), LEVEL)[:, :, : size[0], : size[1]])


def test_reflection():
    x = picture(13, 22)
    assert torch.equal(reflected(x, 8), F.pad(x, (0, 2, 0, 3), mode="reflect"))
    assert reflected(x, 1) is x
    to_and_fro = reflected(torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3), 8)
    assert to_and_fro[0, 0, :, :].tolist() == [[1, 2, 3, 2, 1, 2, 3, 2]] * 8


@pytest.mark.parametrize("norm", ["pixel", "none"])
@torch.no_grad()
def test_is_local_without_group_norm(norm):
    """What is 48 pixels away does not matter: 9 convolutions of up to 4 pixels a step reach 31."""
    net = seeded(PhotoConfig(**SMALL, norm=norm).build(), 1)
    x = picture(32, 128)
    torch.testing.assert_close(net(x, LEVEL)[..., :48], net(x[..., :96], LEVEL)[..., :48], rtol=0, atol=1e-5)


@torch.no_grad()
def test_is_told_the_noise_smoothly():
    """A tenth of a percent in sigma moves the answer by little; a factor of four is not mistaken for it."""
    net = seeded(PhotoConfig(**SMALL).build(), 1)
    x = picture(16, 16)
    here, near, far = (net(x, torch.tensor([level])) for level in (0.3, 0.30025, 0.65))
    assert (near - here).norm() < 1e-2 * here.norm() < 0.1 * (far - here).norm()


def test_size_of_the_default():
    """The sum over its layers, by hand: 9 C^2 + C a 3 x 3 convolution."""
    conv = lambda i, o, k=3: k * k * i * o + o  # noqa: E731
    block = lambda c: 2 * conv(c, c) + conv(128, 2 * c, 1) + 4 * c  # noqa: E731
    total = conv(64, 128, 1) + conv(128, 128, 1) + conv(12, 64) + conv(64, 12) + 2 * 64
    total += 4 * block(64) + 4 * block(96) + 2 * block(128)
    total += conv(64, 96, 2) + conv(96, 128, 2) + (4 * 96 * 64 + 64) + (4 * 128 * 96 + 96)
    assert sum(p.numel() for p in PhotoConfig().build().parameters()) == total
