"""Errors by noise level against what is known of Gaussian priors."""

import math

import pytest
import torch

from undiffuse.analysis.noise import joined, level, seen
from undiffuse.core.noise import SeededNoise
from undiffuse.priors import Gaussian

SHAPE, D, N = (1, 12, 16), 0.4, 256
NUMBERS = N * 12 * 16
SIGMAS = (0.05, 0.4, 3.0)


def data(n=N, mean=0.1, deviation=D):
    """Draws of N(mean, deviation^2), and noise."""
    noise = SeededNoise(range(n))
    like = torch.empty(n, *SHAPE, dtype=torch.float64)
    return Gaussian(mean, deviation**2).sample(noise, like), noise(like)


def measured(prior, sigma, n=N, **given):
    x0, eps = data(n, **given)
    return level(seen(x0, eps, sigma, prior(x0 + sigma * eps, torch.tensor(sigma))), sigma)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_posterior_error_of_a_gaussian(sigma):
    """E e^2 = d^2 sigma^2 / (d^2 + sigma^2); 49152 numbers know it to sqrt(2 / 49152) = 0.64 %, the root to 0.32 %."""
    found = measured(Gaussian(0.1, D**2), sigma)
    right = D * sigma / math.hypot(D, sigma)
    assert found.x0.value == pytest.approx(right, rel=5 * 0.0032)
    assert found.eps.value == pytest.approx(right / sigma, rel=5 * 0.0032)
    assert found.v.value == pytest.approx(right * math.sqrt(1 + sigma**2) / sigma, rel=5 * 0.0032)
    assert found.x0.deviation == pytest.approx(
        right * 0.0032, rel=0.3
    )  # of 256 images: 1 / sqrt(512) = 4.4 %
    assert abs(found.bias.value) < 5 * found.bias.deviation
    assert found.bias.deviation == pytest.approx(right / math.sqrt(NUMBERS), rel=0.3)
    assert abs(found.pattern) < 5 * math.sqrt(2 / 192) / N  # of 192 squares of means over N images


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_gaussian_is_calibrated(sigma):
    found = measured(Gaussian(0.1, D**2), sigma)
    assert abs(found.slope.value - 1) < 5 * found.slope.deviation
    right = sigma / math.hypot(D, sigma)  # |epshat|^2 = sigma^2 / (d^2 + sigma^2)
    assert found.size.value == pytest.approx(right, rel=5 * 0.0032)
    assert found.right_size == pytest.approx(right, abs=5 * 0.0045 * D**2 / (D**2 + sigma**2) / right)


@pytest.mark.parametrize("wrong", [0.2, 0.8])
def test_slope_of_a_wrong_variance(wrong):
    sigma = 0.4
    found = measured(Gaussian(0.1, wrong**2), sigma)
    right = (wrong**2 + sigma**2) / (D**2 + sigma**2)
    assert abs(found.slope.value - right) < 5 * found.slope.deviation
    assert abs(right - 1) > 20 * found.slope.deviation  # so that the test can fail
    assert found.right_size is not None and (found.size.value > found.right_size) == (wrong < D)


def test_bias_of_a_wrong_mean():
    """D adds (1 - w)(m' - m) everywhere: it is the bias, and its square's share of the error is the pattern's."""
    sigma, shift = 0.4, 0.5
    found = measured(Gaussian(0.1 + shift, D**2), sigma)
    offset = shift * sigma**2 / (D**2 + sigma**2)
    square = offset**2 + (D * sigma) ** 2 / (D**2 + sigma**2)
    assert abs(found.bias.value - offset) < 5 * found.bias.deviation
    assert found.bias.deviation < 0.02 * offset
    assert found.pattern == pytest.approx(offset**2 / square, abs=0.02)


def test_errors_of_white_data_are_white_and_of_smoothed_answers_not():
    x0, n = data()
    x = x0 + 0.4 * n
    x0hat = Gaussian(0.1, D**2)(x, torch.tensor(0.4))
    good = level(seen(x0, n, 0.4, x0hat), 0.4)
    assert good.error_white is not None and good.said_white is not None
    assert good.said_white.flatness > 0.999 and good.error_white.flatness > 0.999
    smooth = torch.nn.functional.avg_pool2d(x0hat, 3, 1, 1, count_include_pad=False)
    bad = level(seen(x0, n, 0.4, smooth), 0.4)
    assert bad.error_white is not None and not bad.error_white.white and bad.error_white.flatness < 0.99


def test_one_who_knows():
    x0, n = data(4)
    found = level(seen(x0, n, 0.4, x0), 0.4)
    assert found.x0.value == found.eps.value == found.v.value == found.bias.value == found.pattern == 0
    assert found.slope.value == found.right_size == 1
    assert found.error_white is None and found.said_white is not None


def test_one_who_says_no_noise():
    x0, n = data()
    found = level(seen(x0, n, 0.4, x0 + 0.4 * n), 0.4)
    assert found.eps.value == pytest.approx(n.square().mean().sqrt().item(), rel=1e-12)
    assert found.size.value == pytest.approx(0, abs=1e-15)


def test_no_right_size_for_an_error_larger_than_the_noise():
    x0, n = data()
    found = level(seen(x0, n, 0.4, x0 + 0.5 * n.roll(1, 0)), 0.4)
    assert found.eps.value > 1 and found.right_size is None


def test_identical_models_have_identical_numbers():
    assert repr(measured(Gaussian(0.1, D**2), 0.4, 8)) == repr(measured(Gaussian(0.1, D**2), 0.4, 8))


def test_order_and_batches_change_nothing():
    x0, n = data(50)
    x0hat = Gaussian(0.3, 0.1)(x0 + 0.4 * n, torch.tensor(0.4))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    whole = level(seen(x0, n, 0.4, x0hat), 0.4)
    parts = [seen(x0[i], n[i], 0.4, x0hat[i]) for i in order.split(7)]
    assert repr(level(joined(parts), 0.4)) == repr(whole)


def test_refused():
    x0, n = data(2)
    with pytest.raises(ValueError, match="sigma = 0"):
        seen(x0, n, 0.0, x0)
    with pytest.raises(ValueError, match="not finite"):
        seen(x0, n, 0.4, x0 * float("nan"))
    with pytest.raises(ValueError, match="1 image"):
        level(seen(x0[:1], n[:1], 0.4, x0[:1] + n[:1]), 0.4)
    tiny = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert level(seen(tiny, tiny, 0.4, 0 * tiny), 0.4).error_white is None  # too small for a spectrum
