import numpy as np
import pytest
import torch
from scipy.ndimage import correlate, gaussian_filter

from tests.metrics.weights import pictures
from undiffuse.metrics import ms_ssim


def pair(height, width):
    x, y = pictures(height, width)
    return x[:1], y[:1]


def reference(a, b):
    """Wang et al. 2003 for one channel in [0, 1], by scipy: windows cropped, means of 2 x 2, every second taken."""
    value = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            a, b = (
                correlate(z, np.full((2, 2), 0.25), mode="reflect", origin=-1)[::2, ::2] for z in (a, b)
            )  # origin -1: pixels i and i + 1; beyond the end the last one again

        def mean(z):
            return gaussian_filter(z, 1.5, radius=5)[5:-5, 5:-5]

        ma, mb = mean(a), mean(b)
        va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
        term = (2 * cov + 0.03**2) / (va + vb + 0.03**2)
        if scale == 4:
            term = term * (2 * ma * mb + 0.01**2) / (ma**2 + mb**2 + 0.01**2)
        value *= term.mean() ** weight
    return value


@pytest.mark.parametrize("shape", [(176, 208), (161, 190), (175, 163)])
def test_equals_an_independent_form(shape):
    x, y = pair(*shape)
    expected = [reference(a.numpy(), b.numpy()) for a, b in zip(y[0] / 2 + 0.5, x[0] / 2 + 0.5, strict=True)]
    assert ms_ssim(y, x).item() == pytest.approx(np.mean(expected), abs=1e-9)


def test_equals_pytorch_msssim():
    """ms_ssim(y / 2 + 0.5, x / 2 + 0.5, data_range=1) of pytorch-msssim 1.0.0, in float64, sides of 16 k pixels.

    Its window is made in float32: hence 1e-6. (Odd sides it pads with zeros, unlike the authors.)
    """
    x, y = pair(176, 208)
    assert ms_ssim(y, x).item() == pytest.approx(0.9678608613870844, abs=1e-6)


def test_equal_and_opposite_pictures():
    x, _ = pair(161, 161)
    assert ms_ssim(x, x).item() == pytest.approx(1, abs=1e-12)
    assert ms_ssim(-x, x).item() == 0


def test_small_pictures_are_refused():
    x = torch.zeros(1, 3, 160, 200)
    with pytest.raises(ValueError, match="161x161.*160x200"):
        ms_ssim(x, x)
