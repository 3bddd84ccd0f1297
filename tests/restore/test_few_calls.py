"""What the grid of DDRM and the multistep of DPIR are worth, on Gaussian priors where the answer is known.

Bias is the rms error of the mean in posterior deviations, spread the variance over the exact one; 100 draws.
"""

import pytest
import torch

from tests.restore.test_closed_form import posed
from undiffuse.contracts.restorer import moments, run
from undiffuse.core.grids import karras
from undiffuse.core.state import State
from undiffuse.operators.build import build
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem
from undiffuse.restore.ddrm import levels

SHAPE, DRAWS = (1, 12, 12), 100


def drawn(name, steps, sigmas=None):
    prior, problem, (mean, covariance) = posed(SHAPE, name, 0.1)
    problem, seeds = problem.repeat(DRAWS), list(range(DRAWS))
    draws = run(RESTORERS["ddrm"], prior, problem, seeds, steps=steps, sigmas=sigmas)
    return moments(draws, mean.reshape(1, *SHAPE), covariance)


@pytest.mark.parametrize(
    ("name", "steps", "own", "full"),
    [
        ("sr2", 5, (0.38, 0.55), (1.09, 0.85)),
        ("inp", 5, (0.98, 0.85), (1.56, 1.18)),
        ("inp", 10, (0.69, 0.70), (1.01, 0.93)),
        ("inp", 20, (0.41, 0.60), (0.70, 0.92)),
        ("inp:box,missing=0.4", 10, (0.61, 0.63), (0.80, 0.73)),
    ],
)
def test_ddrm_is_nearer_on_its_own_grid(name, steps, own, full):
    """The photograph's Gaussian, (bias, spread) on DDRM's grid and on one from 80 to 0.002 with as many calls.

    A bias above the floor of 1 / sqrt(100) = 0.1 is repeatable to about half of that; the variance is that of ten wide
    modes, 14 % / sqrt(10) each.
    """
    found = drawn(name, steps), drawn(name, steps, karras(steps))
    for moment, expected in zip(found, (own, full), strict=True):
        assert (moment.bias, moment.spread) == pytest.approx(expected, abs=0.06)
    assert found[0].bias < found[1].bias


@pytest.mark.parametrize("sigma_y", [0.0, 0.1, 30.0])
def test_levels_end_where_the_data_does(sigma_y):
    sigmas = levels(6, sigma_y)
    assert len(sigmas) == 7 and sigmas[-1] == 0 and (sigmas.diff() < 0).all()
    assert sigmas[-2].item() == pytest.approx({0.0: 0.02, 0.1: 0.1, 30.0: 5.0}[sigma_y])


def error_of_dpir(name, steps, forget):
    prior, problem, (mean, covariance) = posed(SHAPE, name, 0.0)
    entry = RESTORERS["dpir"]
    grid = entry.facts["grid"](steps, 0.0)
    step, x = entry(prior, problem, None), entry.facts["start"](problem, grid[0], None)
    state = State(x, grid[0])
    for sigma in grid[1:]:
        state = step(State(state.x, state.sigma) if forget else state, sigma)
    return ((state.x.flatten() - mean).square().sum() / covariance.diagonal().sum()).sqrt().item()


@pytest.mark.parametrize("steps", [4, 5, 7, 10])
def test_dpir_with_its_memory_is_nearer_to_the_posterior_mean(steps):
    """Missing pixels of the photograph's Gaussian: the multistep takes off two fifths of the error or more."""
    assert error_of_dpir("inp", steps, forget=False) < 0.6 * error_of_dpir("inp", steps, forget=True)


def test_dpir_extrapolates_half_a_call():
    """Denoising with data of no weight: the second call is asked about x + (x - x_1) / 2."""
    asked = []

    def halve(x, sigma):
        asked.append(x)
        return x / 2

    problem = Problem(build("inp:box", (1, 8, 8)), torch.ones(1, 1, 8, 8, dtype=torch.float64), 1e6)
    entry = RESTORERS["dpir"]
    step = entry(halve, problem, None, lam=1e6)
    state = State(torch.ones(1, 1, 8, 8, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64))
    state = step(state, torch.tensor(1.0, dtype=torch.float64))
    step(state, torch.tensor(0.0, dtype=torch.float64))
    # 1 -> 0.5, extrapolated to 0.25; the data pulls by 1e-18.
    torch.testing.assert_close(asked[1], torch.full_like(asked[1], 0.25), rtol=0, atol=1e-12)


def dpir_with_a_pattern(height, *, mirror):
    """8 calls of the photograph's Gaussian, filling half the pixels, whose every answer has columns of +-height."""
    prior, problem, _ = posed(SHAPE, "inp", 0.0)
    columns = height * (-1.0) ** torch.arange(SHAPE[2], dtype=torch.float64)
    entry = RESTORERS["dpir"]
    grid = entry.facts["grid"](8, 0.0)
    step = entry(lambda x, sigma: prior(x, sigma) + columns, problem, None, mirror=mirror)
    state = State(entry.facts["start"](problem, grid[0], None), grid[0])
    for sigma in grid[1:]:
        state = step(state, sigma)
    return state.x


def test_mirrored_calls_change_nothing_for_a_symmetric_prior():
    """The Gaussian knows no left or right: what differs is rounding, 1e-16 a call of values up to 1."""
    plain, mirrored = (dpir_with_a_pattern(0.0, mirror=mirror) for mirror in (False, True))
    torch.testing.assert_close(mirrored, plain, rtol=0, atol=1e-12)


def test_mirrored_calls_cancel_what_a_network_leaves_at_every_second_pixel():
    """DPIR is linear here, so the pattern's share of the answer is a difference; two calls of opposite sign leave
    the change between two levels, less than half of what one sign adds up to."""
    plain, mirrored = (
        (dpir_with_a_pattern(0.01, mirror=mirror) - dpir_with_a_pattern(0.0, mirror=mirror)).abs().max()
        for mirror in (False, True)
    )
    assert 0 < mirrored < plain / 2
