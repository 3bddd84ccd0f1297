"""Up the ODE and down again, where its solution is known."""

import pytest
import torch

from undiffuse.core import karras, last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.priors import Gaussian
from undiffuse.registry import SAMPLERS
from undiffuse.samplers.inversion import REVERSIBLE, invert

VARIANCE = torch.linspace(0.05, 0.6, 48, dtype=torch.float64).reshape(3, 4, 4)
PRIOR = Gaussian(torch.full((3, 4, 4), 0.2, dtype=torch.float64), VARIANCE)
PICTURES = PRIOR.sample(SeededNoise([0, 1]), torch.zeros(2, 3, 4, 4, dtype=torch.float64))


def both_ways(name, n):
    """(error of the noise, error of the round trip): largest over the pixels."""
    step, sigmas = SAMPLERS[name](PRIOR, SeededNoise([0, 1])), karras(n, 0.002, 20.0)
    top = last(invert(step, PRIOR, PICTURES, sigmas)).x
    exact = PRIOR.mean + (PICTURES - PRIOR.mean) * ((VARIANCE + sigmas[0] ** 2) / VARIANCE).sqrt()
    back = last(sample(step, top, sigmas)).x
    return (top - exact).abs().max().item() / 20, (back - PICTURES).abs().max().item()


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("euler", 1), ("heun", 2)])
def test_observed_order(name, order):
    """Doubling the steps halves the errors, or quarters them: 0.2 of the exponent is what higher orders leave.

    Heun's errors of the way up and the way down cancel to a further order here, where the ODE is linear.
    """
    coarse, fine = both_ways(name, 200), both_ways(name, 400)
    found = [torch.tensor(a / b).log2().item() for a, b in zip(coarse, fine, strict=True)]
    assert found[0] == pytest.approx(order, abs=0.2) and found[1] > order - 0.2
    assert fine[1] < (0.1 if order == 1 else 2e-3)


def test_all_of_them_are_tested():
    assert {SAMPLERS[name].factory for name in ("ddim", "euler", "heun")} == set(REVERSIBLE)
