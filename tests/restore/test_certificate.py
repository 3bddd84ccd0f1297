import math

import pytest
import torch
from scipy.stats import chi2

from undiffuse.operators import Identity, Inpaint
from undiffuse.restore import Problem, certify
from undiffuse.restore.certificate import chi_squared_quantile

SHAPE = (3, 32, 40)


def problem(sigma_y: float) -> tuple[Problem, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, *SHAPE, generator=generator) * 2 - 1
    y = x + sigma_y * torch.randn(x.shape, generator=generator)
    return Problem(Identity(SHAPE), y, sigma_y), x


@pytest.mark.parametrize("m", [10, 100, 10_000, 1_000_000])
@pytest.mark.parametrize("p", [0.005, 0.5, 0.995])
def test_quantiles(m, p):
    # What the docstring promises of Wilson and Hilferty's formula.
    assert chi_squared_quantile(p, m) == pytest.approx(chi2.ppf(p, m), rel=3e-2 if m == 10 else 1e-3)


def test_truth_is_consistent():
    exact, x = problem(0.1)
    assert [c.verdict for c in certify(exact, x)] == ["consistent"] * 4
    assert all(c.ratio == pytest.approx(1, abs=4 * math.sqrt(2 / (3 * 32 * 40))) for c in certify(exact, x))


@pytest.mark.parametrize("filler", [1.0, math.nan])
def test_what_a_picture_shows_in_its_gaps_does_not_count(filler):
    exact, x = problem(0.1)
    mask = torch.rand(SHAPE[1:], generator=torch.Generator().manual_seed(1)) > 0.4
    A = Inpaint(SHAPE, mask).float()
    clean = Problem(A, torch.where(mask, exact.y, 0), 0.1)
    painted = Problem(A, torch.where(mask, exact.y, filler), 0.1)
    assert certify(painted, x) == certify(clean, x)
    assert {c.verdict for c in certify(painted, x)} == {"consistent"}
    assert certify(painted, x)[0].measurements == 3 * int(mask.sum())


def test_copying_the_data_is_over_fitting():
    exact, _ = problem(0.1)
    assert {c.verdict for c in certify(exact, exact.y)} == {"close"}
    assert "less is left over" in str(certify(exact, exact.y)[0])


@pytest.mark.parametrize("stated", [0.05, 0.09])
def test_too_small_a_noise_level_is_noticed(stated):
    exact, x = problem(0.1)
    assert {c.verdict for c in certify(Problem(exact.A, exact.y, stated), x)} == {"inconsistent"}


def test_a_tolerated_error_of_the_noise_level_is_tolerated():
    exact, x = problem(0.1)
    assert {c.verdict for c in certify(Problem(exact.A, exact.y, 0.097), x)} == {"consistent"}
    strict = certify(Problem(exact.A, exact.y, 0.09), x, sigma_error=0.0)
    assert {c.verdict for c in strict} == {"inconsistent"}


def test_noise_free_data():
    exact, x = problem(0.0)
    assert {c.verdict for c in certify(exact, x)} == {"consistent"}
    assert {c.verdict for c in certify(exact, x + 0.01)} == {"inconsistent"}


def test_nan_is_never_consistent():
    exact, x = problem(0.1)
    assert {c.verdict for c in certify(exact, x * math.nan)} == {"inconsistent"}
