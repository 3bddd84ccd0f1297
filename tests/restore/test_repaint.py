"""RePaint against the exact posterior of correlated pixels, with and without resampling."""

import pytest
import torch

from tests.restore.test_closed_form import posed
from undiffuse.contracts.restorer import moments, run
from undiffuse.core.grids import karras, with_jumps
from undiffuse.core.loop import last, sample, time_travel
from undiffuse.core.noise import SeededNoise
from undiffuse.registry import RESTORERS
from undiffuse.restore import repaint, start

SHAPE, DRAWS = (1, 12, 12), 200


def problem(sigma_y):
    prior, single, (mean, covariance) = posed(SHAPE, "inp:box,missing=0.3", sigma_y)
    sigmas = karras(20, sigma_max=prior.sigma_max(SHAPE))
    return prior, single.repeat(DRAWS), sigmas, (mean.reshape(1, *SHAPE), covariance)


@pytest.mark.parametrize(
    ("sigma_y", "repeats", "bias", "spread"),
    [(0.0, 1, 1.0, 0.95), (0.0, 10, 0.35, 0.60), (0.05, 1, 0.96, 1.14), (0.05, 10, 0.51, 0.93)],
)
def test_known_bias(sigma_y, repeats, bias, spread):
    """Of 200 draws in some ten wide directions, bias has a floor of 0.07, variance one of 0.1 / sqrt(10)."""
    prior, posed_, sigmas, exact = problem(sigma_y)
    draws = run(RESTORERS["repaint"], prior, posed_, list(range(DRAWS)), sigmas=sigmas, repeats=repeats)
    found = moments(draws, *exact)
    assert found.bias == pytest.approx(bias, abs=0.08)
    assert found.spread == pytest.approx(spread, abs=0.1)


def test_jumps():
    """The authors' jumps, as a grid that climbs: closer to the posterior than a plain descent, data kept."""
    prior, posed_, sigmas, exact = problem(0.0)
    noise, climbing = SeededNoise(range(DRAWS)), with_jumps(sigmas, length=5, repeats=10)
    step = time_travel(repaint(prior, posed_, noise, repeats=1), noise)
    draws = last(sample(step, start(posed_, sigmas[0], noise), climbing)).x
    assert moments(draws, *exact).bias < 0.6  # 1.0 without
    torch.testing.assert_close(posed_.A(draws), posed_.y, rtol=0, atol=1e-12)
