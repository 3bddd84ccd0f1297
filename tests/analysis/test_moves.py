"""The moves of prior and data along a restoration, against what each algorithm is known to do."""

import pytest
import torch

from undiffuse.analysis.moves import followed
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.operators.build import build
from undiffuse.priors import Gaussian, photo_gaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure, start

SHAPE, SIGMA_Y, SEEDS = (1, 8, 8), 0.1, [3, 4]
EXACT = dict(rtol=1e-10, atol=1e-10)  # float64; sums over some ten steps


def problem(degrade="inp:random", sigma_y=SIGMA_Y):
    A = build(degrade, SHAPE)
    truth = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Problem(A, measure(A, 0.5 * truth, sigma_y, SeededNoise([1, 2])), sigma_y)


def ready(name, given, steps=6):
    """(make, the grid, the start, its noise) of an algorithm."""
    entry = RESTORERS[name]
    grid = entry.facts.get("grid", lambda n, sigma_y: karras(n, sigma_max=10.0))(steps, given.sigma_y)
    noise = SeededNoise(SEEDS)
    x = entry.facts.get("start", start)(given, grid[0].to(given.y), noise)

    def make(denoise, y, noise):
        return entry(denoise, Problem(given.A, y, given.sigma_y), noise)

    return make, grid, x, noise


def moves(name, given, denoise, steps=6):
    make, grid, x, noise = ready(name, given, steps)
    return list(followed(make, denoise, given.A, given.y, noise, x, grid))


PRIOR = Gaussian(0.2, 0.3)
NAMES = ["ddrm", "ddnm_plus", "diffpir", "dpir", "pigdm", "daps", "dps", "ilvr", "reddiff"]


@pytest.mark.parametrize("name", NAMES)
def test_following_changes_nothing_and_the_moves_add_up(name):
    given = problem()
    found = moves(name, given, PRIOR)
    make, grid, x, noise = ready(name, given)
    alone = last(sample(make(PRIOR, given.y, noise), x, grid))
    assert torch.equal(found[-1].state.x, alone.x)
    torch.testing.assert_close(
        found[-1].estimate, alone.x, **EXACT
    )  # at the last level nothing is added to it
    begun = x if found[0].prior is not None else found[0].answer
    total = begun + sum(move.data for move in found) + sum(m.prior for m in found if m.prior is not None)
    torch.testing.assert_close(total, alone.x, **EXACT)
    assert torch.equal(torch.stack([move.sigma for move in found]), grid[:-1].to(x))


@pytest.mark.parametrize("name", ["ddrm", "ddnm_plus", "diffpir", "ilvr"])
def test_what_is_not_measured_is_moved_by_the_prior_alone(name):
    given = problem()
    hidden = (given.A.support == 0).expand(SHAPE)
    for move in moves(name, given, PRIOR):
        torch.testing.assert_close(move.data[:, hidden], torch.zeros_like(move.data[:, hidden]), **EXACT)


def test_ddrm_replaces_what_is_measured_well_enough():
    # eq. 8 with s = 1: at sigma' >= sigma_y the estimate becomes y; below, sqrt(1 - eta^2) sigma' / sigma_y of the way
    given = problem()
    seen = (given.A.support > 0).expand(SHAPE)
    grid = ready("ddrm", given)[1]
    for move, sigma_next in zip(moves("ddrm", given, PRIOR), grid[1:], strict=True):
        share = 1.0 if sigma_next >= SIGMA_Y else (1 - 0.85**2) ** 0.5 * sigma_next / SIGMA_Y
        torch.testing.assert_close(move.data[:, seen], share * (given.y - move.answer)[:, seen], **EXACT)


def test_diffpir_with_a_gaussian_prior_in_closed_form():
    # x0 = m + v (x - m) / (v + sigma^2); z = (y + lam x0) / (1 + lam), lam = sigma_y^2 (1 / sigma^2 + 4), where s = 1
    given, before = problem(), None
    seen = (given.A.support > 0).expand(SHAPE)
    _, _, x, _ = ready("diffpir", given)
    for move in moves("diffpir", given, PRIOR):
        x0 = 0.2 + 0.3 * (x - 0.2) / (0.3 + move.sigma**2)
        lam = SIGMA_Y**2 * (1 / move.sigma**2 + 4)
        torch.testing.assert_close(move.answer, x0, **EXACT)
        torch.testing.assert_close(move.data[:, seen], ((given.y - x0) / (1 + lam))[:, seen], **EXACT)
        if before is None:
            assert move.prior is None
        else:
            torch.testing.assert_close(move.prior, x0 - before, **EXACT)
        before, x = move.estimate, move.state.x


def test_dpir_fits_first_and_its_prior_moves_the_fit():
    given = problem()
    _, _, x, _ = ready("dpir", given)
    first = moves("dpir", given, PRIOR)[0]
    z = x + first.data  # argmin |y - z|^2 + lam (sigma_y / sigma)^2 |z - x|^2
    seen = (given.A.support > 0).expand(SHAPE)
    lam = 0.23 * (SIGMA_Y / first.sigma) ** 2
    torch.testing.assert_close(z[:, seen], ((given.y + lam * x) / (1 + lam))[:, seen], **EXACT)
    torch.testing.assert_close(first.prior, PRIOR(z, first.sigma) - z, **EXACT)


def test_data_that_agree_with_the_prior_move_nothing():
    # a prior that is sure of one picture, and noise-free data of that picture
    sure = torch.full((2, *SHAPE), 0.25, dtype=torch.float64)
    A = build("sr2", SHAPE)
    given = Problem(A, A(sure), 0.0)
    for move in moves("ddrm", given, lambda x, sigma: 0 * x + 0.25):
        torch.testing.assert_close(move.data, torch.zeros_like(sure), **EXACT)


def test_the_network_is_asked_no_more_often():
    given, calls = problem(), []

    def counted(x, sigma):
        calls.append(sigma)
        return PRIOR(x, sigma)

    moves("ddrm", given, counted)
    assert len(calls) == 6


def test_an_algorithm_that_asks_no_prior_is_refused():
    A = build("sr2", SHAPE)
    given = Problem(A, torch.zeros(2, *A.out_shape, dtype=torch.float64), 0.1)
    with pytest.raises(ValueError, match="does not ask the prior"):
        moves("exact", given, photo_gaussian())
