"""`exact` in float32, as the command line runs it, where much is missing at once."""

import pytest
import torch

from tests.pictures import photograph
from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import State
from undiffuse.operators.build import build
from undiffuse.priors import photo_gaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure


@pytest.mark.parametrize("share", [0.2, 0.3])
def test_a_wide_hole_of_noise_free_data_is_filled_within_range(share):
    """Rounding once filled it with values up to 5.8. A mean has less contrast than the picture (0.27 to 0.23)."""
    x = photograph(192, 256)[None]
    A = build(f"inp:box,missing={share}", (3, 192, 256)).to(x.dtype)
    problem = Problem(A, A(x), 0.0)
    step = RESTORERS["exact"](photo_gaussian(), problem, SeededNoise([0]), sample=False)
    with torch.no_grad():
        filled = step(State(x, torch.tensor(1.0)), torch.tensor(0.0)).x0
    assert A.support is not None
    hole = A.support.expand_as(x) == 0
    assert filled[hole].abs().max() <= 1
    assert filled[hole].std() < x[hole].std()
    assert (filled - x)[hole].square().mean().sqrt() < x[hole].std()


@pytest.mark.parametrize("sigma_y", [0.0, 0.04])
@pytest.mark.parametrize("mask, side", [("random", 64), ("random", 160), ("box,missing=0.2", 160)])
def test_missing_pixels_ask_their_neighbours_only(mask, side, sigma_y, monkeypatch):
    """So that the iterations do not grow with the picture: about 40; in its own basis alone they were 150, 500 for a
    box."""
    prior, x = photo_gaussian(), photograph(side, side)[None]
    A = build(f"inp:{mask}", (3, side, side)).to(x.dtype)
    noise = SeededNoise([0])
    problem = Problem(A, measure(A, x, sigma_y, noise), sigma_y)
    transforms = 0
    vt = type(prior).vt

    def counted(self, x):
        nonlocal transforms
        transforms += 1
        return vt(self, x)

    monkeypatch.setattr(type(prior), "vt", counted)
    with torch.no_grad():
        RESTORERS["exact"](prior, problem, noise, sample=False)(State(x, x.new_ones(())), x.new_zeros(()))
    assert transforms < 2 * 90  # two an iteration, three where wide holes have noise around them


@pytest.mark.parametrize("mask", ["random,missing=0.9", "box,missing=0.3", "half"])
@pytest.mark.parametrize("sigma_y", [0.0, 0.1])
def test_the_search_ends_at_the_posterior(mask, sigma_y):
    """In float64 beside dense algebra, for one channel of 12 x 14 pixels."""
    prior, shape = photo_gaussian().double(), (1, 12, 14)
    n = 12 * 14
    basis = prior.vt(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).flatten(1)
    covariance = basis @ torch.diag(prior.spectrum(*shape).double().flatten()) @ basis.T
    A = build(f"inp:{mask}", shape)
    x = prior.sample(SeededNoise([1]), torch.empty(1, *shape, dtype=torch.float64))
    problem = Problem(A, measure(A, x, sigma_y, SeededNoise([2])), sigma_y)
    kept = A.support.expand(shape).flatten() > 0
    seen = covariance[kept][:, kept] + sigma_y**2 * torch.eye(int(kept.sum()))
    mean = prior.mean_image(1).expand(1, *shape).flatten()
    told = problem.y.flatten()[kept] - mean[kept]
    expected = mean + covariance[:, kept] @ torch.linalg.solve(seen, told)
    step = RESTORERS["exact"](prior, problem, SeededNoise([0]), sample=False)
    found = step(State(x, x.new_ones(())), x.new_zeros(())).x.flatten()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # the tolerance, 1e-9 of the residual
