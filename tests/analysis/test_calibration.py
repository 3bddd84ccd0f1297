"""Ranks of the truth among draws: exact where the draws are of the posterior, and what they say where not."""

import math

import pytest
import torch

from undiffuse.analysis.calibration import covered, curve, places
from undiffuse.contracts.restorer import run
from undiffuse.core.noise import SeededNoise
from undiffuse.operators.build import build
from undiffuse.priors import photo_gaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure

N = 40_000


def standard(K, spread=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(K)
    truth = torch.randn(N, generator=generator, dtype=torch.float64)
    return shift + spread * torch.randn(K, N, generator=generator, dtype=torch.float64), truth


@pytest.mark.parametrize("K", [1, 2, 7, 8, 39])
def test_draws_of_the_same_distribution_lie_on_the_diagonal(K):
    found = curve(places(*standard(K)))
    assert found.draws == K
    assert found.nominal[-1] == found.measured[-1] == pytest.approx(1)
    for nominal, measured in zip(found.nominal, found.measured, strict=True):
        floor = 5 * math.sqrt(nominal * (1 - nominal) / N) + 1e-12  # five deviations of a share of N truths
        assert abs(measured - nominal) <= floor


def test_narrow_wide_and_shifted_draws():
    # a truth from N(0, 1) lies within +-0.6745 s, the middle half of draws of deviation s, with erf(0.6745 s / sqrt 2)
    for spread in (0.5, 2.0):
        expected = math.erf(0.67449 * spread / math.sqrt(2))
        # 199 draws know their quantiles to 0.5 %, which moves the share by less than 0.01
        assert covered(places(*standard(199, spread)), 0.5) == pytest.approx(expected, abs=0.01)
    assert curve(places(*standard(39, 0.5))).lean < -0.1
    assert curve(places(*standard(39, 2.0))).lean > 0.1
    assert curve(places(*standard(39, 1.0, 3.0))).gap > 0.3


def test_a_truth_that_draws_equal_counts_in_all_its_places():
    draws, truth = torch.ones(3, 5), torch.ones(5)
    assert torch.allclose(places(draws, truth), torch.full((4,), 0.25, dtype=torch.float64))
    mixed = torch.tensor([[0.0], [1.0], [2.0]])
    expected = torch.tensor([0.0, 0.5, 0.5, 0.0], dtype=torch.float64)  # one below, one equal: places 1 and 2
    assert torch.equal(places(mixed, torch.tensor([1.0])), expected)


def test_the_order_of_draws_and_of_pixels_changes_nothing():
    draws, truth = standard(8)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert torch.equal(places(draws.flip(0)[:, order], truth[order]), places(draws, truth))


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected \(K, ...\) and \(...\)"):
        places(torch.zeros(3, 4), torch.zeros(3, 4))


@pytest.mark.parametrize("degrade", ["sr2", "inp:random"])
def test_exact_draws_of_the_photo_gaussian_are_calibrated(degrade):
    prior, shape, K = photo_gaussian(), (1, 12, 12), 19
    found, halved = [], []
    for number in range(12):
        noise = SeededNoise([1000 + number])
        truth = prior.sample(noise, torch.empty(1, *shape, dtype=torch.float64))
        A = build(degrade, shape)
        problem = Problem(A, measure(A, truth, 0.1, noise), 0.1)
        draws = run(RESTORERS["exact"], prior, problem.repeat(K), [K * number + k for k in range(K)], steps=1)
        found.append(places(draws, truth[0]))
        halved.append(places(0.5 * (draws + draws.mean(0)), truth[0]))
    measured = curve(torch.stack(found).mean(0))
    # pixels of a picture move together: 12 pictures of about 20 free modes each make 240 shares, 4 deviations
    assert measured.gap < 4 * 0.5 / math.sqrt(240)
    assert curve(torch.stack(halved).mean(0)).lean < -0.1  # error bars of half the width
