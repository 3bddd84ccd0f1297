"""JPEG against a codec, clipping and gamma against their formulas."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from undiffuse.operators import LinearOperator
from undiffuse.registry import OPERATORS


def photograph(height, width):
    return data.astronaut()[60 : 60 + height, 150 : 150 + width]


def codec(pixels, quality):
    with io.BytesIO() as buffer:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
        return np.array(Image.open(buffer))


@pytest.mark.parametrize("size", [(128, 128), (67, 90)], ids=str)
@pytest.mark.parametrize("quality", [5, 20, 50, 75, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels, quality, size):
    """The codec rounds to 8 bits before and after its transform: half a level each time is 59 dB.

    Where such a rounding tips a coefficient to the next multiple of a large table entry, a block differs
    visibly; this is rare, and 38 dB over the picture allows for it. The compression itself is at 25 to 40 dB.
    """
    pixels = photograph(*size) if channels == 3 else photograph(*size)[..., 1]
    x = torch.from_numpy(pixels.reshape(*size, channels)).permute(2, 0, 1)[None].double() / 127.5 - 1
    y = OPERATORS["jpeg"]((channels, *size), quality=quality)(x)
    theirs = (
        torch.from_numpy(codec(pixels, quality).reshape(*size, channels)).permute(2, 0, 1)[None].double()
        / 127.5
        - 1
    )
    psnr = 10 * torch.log10(4 / (y - theirs).square().mean()).item()
    assert psnr > 38
    assert psnr > 10 * torch.log10(4 / (y - x).square().mean()).item() + 5 or quality == 95


def test_jpeg_passes_gradients_through():
    x = (0.5 * torch.rand(1, 3, 9, 12, dtype=torch.float64)).requires_grad_()
    operator = OPERATORS["jpeg"]((3, 9, 12), quality=50)
    weights = torch.randn(1, 3, 9, 12, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((operator(x) * weights).sum(), x)
    kept = weights[..., :8, :8]
    torch.testing.assert_close(
        gradient[..., :8, :8], kept, rtol=0, atol=1e-12
    )  # inside, the chain is the identity


def test_jpeg_of_other_channel_counts_is_refused():
    with pytest.raises(ValueError, match="JPEG of 4 channels; it stores 1 or 3"):
        OPERATORS["jpeg"]((4, 8, 8))


def test_clip():
    x = torch.tensor([-0.9, -0.2, 0.0, 0.4, 0.6])
    assert OPERATORS["clip"]((1, 1, 5))(x).tolist() == pytest.approx([-1, -0.4, 0, 0.8, 1])


@pytest.mark.parametrize("gamma", [0.45, 1.0, 2.2])
def test_gamma(gamma):
    operator = OPERATORS["gamma"]((1, 1, 101), gamma=gamma)
    assert not isinstance(operator, LinearOperator)
    v = torch.linspace(0, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(operator(2 * v - 1), 2 * v**gamma - 1, rtol=0, atol=1e-12)
    x = torch.tensor([-1.5, -1.0, -1 + 1e-3, 0.0, 1.2], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(operator(x).sum(), x)
    assert slope.isfinite().all() and (slope > 0).all()


@pytest.mark.parametrize(("channels", "size"), [(3, (24, 32)), (1, (19, 13))])
def test_what_a_jpeg_leaves_open(channels, size):
    """`nearest` is stored as y is and moves no picture that is; `estimate` lies between it and the data."""
    generator = torch.Generator().manual_seed(0)
    x, other = (0.3 * torch.randn(2, 2, channels, *size, generator=generator, dtype=torch.float64)).clamp(
        -0.9, 0.9
    )
    A = OPERATORS["jpeg"]((channels, *size), quality=30)
    y = A(x)
    inside = (y.abs() < 1).all()  # else the clamp of the decoder hides what was stored
    assert inside
    whole = [
        n // 8 * 8 for n in size
    ]  # blocks beyond the edge repeat a picture's last pixels, which may change
    found = A.nearest(other, y)
    assert torch.allclose(A(found)[..., : whole[0], : whole[1]], y[..., : whole[0], : whole[1]], atol=1e-9)
    again = A.nearest(found, y)
    assert torch.allclose(again[..., : whole[0], : whole[1]], found[..., : whole[0], : whole[1]], atol=1e-9)
    assert (found - x).square().sum() < (other - x).square().sum()
    sure = A.estimate(x, y, torch.tensor(1e-12), 0.0)
    assert torch.allclose(sure, A.nearest(x, y), atol=1e-6)
    assert torch.allclose(
        A.estimate(other, y, torch.tensor(1e9), 0.0), y, atol=1e-4
    )  # 0.499 of a step, at the edge
    steps = (A.tables / 127.5) ** 2 / 12  # of rounding: as much noise again halves the share of the data
    half = A.estimate(found, y, steps.mean().expand(()), 0.0)
    assert 0 < (half - found).norm() < (y - found).norm()
