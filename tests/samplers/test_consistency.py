"""Multistep consistency sampling of a Gaussian, whose consistency function is known."""

import pytest
import torch

from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import State
from undiffuse.priors import Gaussian
from undiffuse.samplers import consistency, ddim

MEAN, VARIANCE = 0.3, 0.25
LEVELS = torch.tensor([80.0, 3.0, 0.8, 0.0], dtype=torch.float64)


def flowed(x, sigma):
    """Where the probability flow of N(m, v) takes x: m + (x - m) sqrt(v / (v + sigma^2))."""
    return MEAN + (x - MEAN) * (VARIANCE / (VARIANCE + sigma**2)).sqrt()


def test_every_level_has_the_law_of_noisy_data():
    """65536 numbers: the mean is known to sqrt(v + sigma^2) / 256, the variance to 0.55 %. The bounds are four such."""
    noise = SeededNoise([0])
    like = torch.zeros(1, 1, 256, 256, dtype=torch.float64)
    start = MEAN + (VARIANCE + 80.0**2) ** 0.5 * noise(like)
    for state in sample(consistency(flowed, noise), start, LEVELS):
        total = VARIANCE + state.sigma.item() ** 2
        assert state.x.mean().item() == pytest.approx(MEAN, abs=4 * total**0.5 / 256)
        assert state.x.var().item() == pytest.approx(total, rel=0.022)


def test_a_step_is_a_jump_and_fresh_noise():
    x = 3 * SeededNoise([4, 5])(torch.zeros(2, 1, 3, 3, dtype=torch.float64))
    three, one = LEVELS[1], torch.tensor(0.8, dtype=torch.float64)
    found = consistency(flowed, SeededNoise([1, 2]))(State(x, three), one)
    n = SeededNoise([1, 2])(x)
    torch.testing.assert_close(found.x, flowed(x, three) + 0.8 * n, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.x0, flowed(x, three), rtol=0, atol=0)
    kept = (0.8 / 3) ** 2  # what ddim with eta 1 keeps of x - x0, and this does not
    other = ddim(flowed, SeededNoise([1, 2]), eta=1.0)(State(x, three), one).x
    expected = found.x0 + kept * (x - found.x0) + 0.8 * (1 - kept) ** 0.5 * n
    torch.testing.assert_close(other, expected, rtol=0, atol=1e-12)


def test_an_ordinary_prior_comes_out_too_narrow():
    """E[x0 | x] has variance v^2 / (v + sigma^2), of the last level above 0 and of what came before it."""
    noise = SeededNoise([0])
    x = 80 * noise(torch.zeros(1, 1, 256, 256, dtype=torch.float64))
    found = last(sample(consistency(Gaussian(MEAN, VARIANCE), noise), x, LEVELS)).x.var().item()
    expected = 80.0**2
    for sigma, after in zip(LEVELS[:-1].tolist(), LEVELS[1:].tolist(), strict=True):
        expected = expected * (VARIANCE / (VARIANCE + sigma**2)) ** 2 + after**2
    assert found == pytest.approx(expected, rel=0.022)  # four deviations of the variance of 65536 draws
    assert expected < 0.35 * VARIANCE
