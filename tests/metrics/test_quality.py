import math

import pytest
import torch

from tests.metrics.weights import filled, pictures
from undiffuse.core.images import read, rounded, write
from undiffuse.metrics import ms_ssim, psnr, quality, spectrum_error, ssim


def one(height=176, width=180):
    x, y = pictures(height, width)
    return x[:1], y[:1]


def test_each_is_that_of_its_function():
    x, y = one()
    lpips = filled("alex")
    functions = {"psnr": psnr, "ssim": ssim, "ms_ssim": ms_ssim, "lpips": lpips, "spectrum": spectrum_error}
    assert quality(y, x, lpips=lpips) == {name: f(y, x).item() for name, f in functions.items()}


def test_equal_pictures():
    x, _ = one()
    values = quality(x, x, lpips=filled("alex"))
    assert values.pop("psnr") == math.inf
    assert values == {
        "ssim": pytest.approx(1, abs=1e-12), "ms_ssim": pytest.approx(1, abs=1e-12), "lpips": 0, "spectrum": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "side, names",
    [(160, "psnr ssim lpips spectrum"), (30, "psnr ssim spectrum"), (10, "psnr spectrum"), (7, "psnr")],
)
def test_what_the_picture_is_too_small_for_is_left_out(side, names):
    x, y = one(side, side)
    assert list(quality(x, y, lpips=filled("alex"))) == names.split()


def test_batches_and_other_shapes_are_refused():
    x, _ = pictures(20, 20)
    with pytest.raises(ValueError, match="one image"):
        quality(x, x)
    with pytest.raises(ValueError, match="one image"):
        quality(x[:1], x[:1, :, 1:])


def test_of_what_is_saved(tmp_path):
    x, y = (z.float() for z in one())
    for name, z in (("x", x), ("y", y * 1.1)):
        write(z[0], tmp_path / f"{name}.png")
        torch.testing.assert_close(rounded(z)[0], read(tmp_path / f"{name}.png").pixels, rtol=0, atol=2e-7)
    saved = [read(tmp_path / f"{name}.png").pixels[None] for name in ("y", "x")]
    assert quality(rounded(y * 1.1), rounded(x)) == pytest.approx(quality(*saved), rel=1e-5)  # float32 pixels
