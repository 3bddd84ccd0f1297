"""Moves by singular-value band, against closed forms of a Gaussian prior and a diagonal degradation."""

import math

import pytest
import torch

from undiffuse.analysis.bands import compared, deviation, residual, split
from undiffuse.core.noise import SeededNoise
from undiffuse.operators.build import build
from undiffuse.restore import Problem, measure

SHAPE = (3, 12, 16)
EXACT = dict(rtol=1e-10, atol=1e-10)  # float64, sums of some hundred products


def pictures(seed: int, n: int = 2):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("degrade", ["sr2", "deblur_gauss", "inp:random", "deno", "color", "sr_bicubic4"])
@pytest.mark.parametrize("count", [1, 4])
def test_bands_part_the_picture(degrade, count):
    A = build(degrade, SHAPE)
    by, a, b = split(A, count), pictures(0), pictures(1)
    assert sum(band.modes for band in by.bands) == math.prod(SHAPE)
    torch.testing.assert_close(by.inner(a, b).sum(1), (a * b).flatten(1).sum(1), **EXACT)
    assert all(by.inner(a, a).min(1).values >= 0)
    strongest_first = [band.low for band in by.bands]
    assert strongest_first == sorted(strongest_first, reverse=True)
    assert all(not band.unseen for band in by.bands[:-1])


def test_equal_singular_values_stay_together():
    names = [band.name for band in split(build("sr2", SHAPE), 4).bands]
    assert names == ["s 0.5", "null space"]  # block means: every seen mode has s = 1/2
    assert [band.modes for band in split(build("sr2", SHAPE), 4).bands] == [3 * 6 * 8, 3 * (12 * 16 - 6 * 8)]


def test_quantiles_of_a_blur_hold_about_as_many_modes_each():
    bands = split(build("blur:gaussian,std=1", SHAPE), 4).bands
    seen = [band.modes for band in bands if not band.unseen]
    assert len(seen) == 4
    assert max(seen) - min(seen) <= 0.1 * sum(seen)  # ties of the three channels and of rows with columns


@pytest.mark.parametrize("degrade", ["sr2", "deblur_gauss", "inp:random"])
def test_misfit_is_the_residual_that_A_can_reach(degrade):
    A = build(degrade, SHAPE)
    x, y = pictures(0), A(pictures(1)) + 0.1 * (A.support if A.support is not None else 1)
    reached = A(A.pinv(y)) - A(x)  # the part of y - A x in the range of A
    # modes below the rounding limit of the operator are left out: their share of |y|^2 is below 1e-12
    torch.testing.assert_close(
        split(A).misfit(x, y).sum(1), reached.square().flatten(1).sum(1), rtol=1e-8, atol=1e-8
    )


def test_the_true_picture_leaves_the_noise_in_every_band():
    A = build("blur:gaussian,std=1", (1, 64, 64))
    truth = torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = measure(A, truth, 0.1, SeededNoise([1, 2, 3, 4]))
    by = split(A)
    left = residual(by, truth, y, 0.1)
    for k, band in enumerate(by.bands):
        floor = 5 * math.sqrt(2 / (4 * max(1, band.modes)))  # five deviations of a chi-squared mean
        assert band.unseen or abs(left[:, k].mean() - 1) < floor


def test_a_gaussian_prior_and_missing_pixels_in_closed_form():
    # per pixel: x0 = v / (v + sigma^2) x; with data z = (s y + lam x0) / (s^2 + lam), lam = (sigma_y / sigma)^2, s = 1
    A, v, sigma, sigma_y = build("inp:random", SHAPE), 0.3, 0.7, 0.2
    x, y = pictures(0), A(pictures(1))
    x0 = v / (v + sigma**2) * x
    lam = (sigma_y / sigma) ** 2
    fitted = A.ridge(x0, y, lam)
    parts = compared(split(A), x0 - x, fitted - x0)
    seen = (A.support > 0).expand(SHAPE)
    pull = (y - x0) / (1 + lam)
    for b in range(2):
        prior = (x0 - x)[b][seen]
        data = pull[b][seen]
        torch.testing.assert_close(parts.prior[b, 0], prior.square().mean().sqrt(), **EXACT)
        torch.testing.assert_close(parts.data[b, 0], data.square().mean().sqrt(), **EXACT)
        cosine = (prior * data).sum() / (prior.norm() * data.norm())
        torch.testing.assert_close(parts.cosine[b, 0], cosine, **EXACT)
        torch.testing.assert_close(
            parts.share[b, 0], data.square().sum() / (data.square().sum() + prior.square().sum()), **EXACT
        )
        torch.testing.assert_close(parts.prior[b, 1], (x0 - x)[b][~seen].square().mean().sqrt(), **EXACT)
    assert torch.equal(parts.data[:, 1], torch.zeros(2, dtype=torch.float64))  # the data cannot reach there
    assert torch.equal(parts.share[:, 1], torch.zeros(2, dtype=torch.float64))


def test_opposite_moves_have_cosine_minus_one_and_equal_share():
    by, move = split(build("deno", SHAPE)), pictures(0)
    parts = compared(by, move, -move)
    torch.testing.assert_close(parts.cosine, torch.full_like(parts.cosine, -1), **EXACT)
    torch.testing.assert_close(parts.share, torch.full_like(parts.share, 0.5), **EXACT)


def test_before_the_first_estimate_there_is_no_move_of_the_prior():
    parts = compared(split(build("deno", SHAPE)), None, pictures(0))
    assert parts.prior.isnan().all() and parts.cosine.isnan().all() and parts.share.isnan().all()
    assert parts.data.isfinite().all()


def test_identical_pictures_deviate_by_nothing():
    x = pictures(0)
    assert torch.equal(deviation(split(build("sr2", SHAPE)), x, x), torch.zeros(2, 2, dtype=torch.float64))


def test_without_an_svd_what_is_seen_and_what_is_not():
    A = build("sr2 . blur:gaussian,std=1", SHAPE)
    by, a, b = split(A), pictures(0), pictures(1)
    assert [band.name for band in by.bands] == ["seen", "null space"]
    seen = A.pinv(A(a))
    # conjugate gradient stops at its own tolerance, and the blur makes it squared
    torch.testing.assert_close(by.inner(a, b)[:, 0], (seen * b).flatten(1).sum(1), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(by.inner(a, b).sum(1), (a * b).flatten(1).sum(1), **EXACT)


def test_a_degradation_that_is_not_linear_is_one_band():
    A = build("clip", SHAPE)
    by = split(A)
    assert [band.name for band in by.bands] == ["all"]
    assert by.inner(pictures(0), pictures(0)).shape == (2, 1)


def test_no_band_is_refused():
    with pytest.raises(ValueError, match="0 bands; expected at least 1"):
        split(build("deno", SHAPE), 0)


def test_a_problem_with_holes_counts_no_filler():
    A = build("inp:random", SHAPE)
    y = A(pictures(0)) + torch.where(A.support > 0, 0.0, 7.0)
    problem = Problem(A, y, 0.0)
    assert residual(split(A), pictures(0), problem.y, 0.0)[0, 0] == 0


def test_a_move_below_the_floor_is_none():
    by, large, small = split(build("deno", SHAPE)), pictures(0), 1e-6 * pictures(1)
    parts = compared(by, large, small, floor=1e-5)
    assert torch.equal(parts.data, torch.zeros_like(parts.data)) and parts.cosine.isnan().all()
    assert torch.equal(parts.prior, compared(by, large, large).prior)


def test_bands_that_two_digits_do_not_tell_apart_get_more():
    names = [band.name for band in split(build("sr_bicubic8", (3, 32, 32)), 4).bands]
    assert len(set(names)) == len(names) == 5 and "s 0.12 to 0.12" not in names
