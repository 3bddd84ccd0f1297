"""`exact` against dense linear algebra: the posterior of the stationary Gaussian, with every kind of degradation."""

import pytest
import torch

from undiffuse.contracts.restorer import IsotropicGaussian, matrix, moments, run
from undiffuse.core.noise import SeededNoise
from undiffuse.operators.build import build
from undiffuse.priors import photo_gaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure

ENTRY = RESTORERS["exact"]
CASES = [
    ((3, 8, 8), "deno"), ((3, 8, 8), "inp"), ((3, 8, 8), "inp:box,missing=0.3"), ((3, 8, 8), "sr2"),
    ((3, 8, 8), "sr_bicubic4"), ((3, 8, 8), "color"), ((3, 8, 8), "cs2"), ((3, 9, 7), "deblur_gauss"),
    ((3, 9, 7), "blur:gaussian,std=1,boundary=zero"), ((1, 10, 11), "blur:motion,taps=5,angle=30"),
    ((3, 9, 7), "blur:motion,taps=3,boundary=circular"), ((4, 6, 5), "inp:channels=0"), ((3, 9, 7), "pool:factor=2"),
    ((3, 8, 8), "inp:box . blur:gaussian,std=1 . sr2"),
]  # fmt: skip


def posed(shape, name, sigma_y):
    """A problem, the dense prior (mean, covariance) and the exact posterior (mean, covariance)."""
    prior, A = photo_gaussian(), build(name, shape)
    n = torch.Size(shape).numel()
    basis = prior.v(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).reshape(n, n).T
    covariance = basis * prior.spectrum(*shape).flatten() @ basis.T
    mean = prior.mean_image(shape[0]).expand(1, *shape).reshape(n)
    noise = SeededNoise([4])
    truth = prior.sample(noise, torch.empty(1, *shape, dtype=torch.float64))
    y = measure(A, truth, sigma_y, noise)
    M = matrix(A)
    inner = M @ covariance @ M.T + sigma_y**2 * torch.eye(M.shape[0])
    gain = covariance @ M.T @ torch.linalg.pinv(inner, hermitian=True, rtol=1e-13)
    posterior = mean + gain @ (y.flatten() - M @ mean), covariance - gain @ M @ covariance
    return prior, Problem(A, y, sigma_y), posterior


@pytest.mark.parametrize("sigma_y", [0.0, 0.05, 0.2])
@pytest.mark.parametrize(("shape", "name"), CASES, ids=lambda case: str(case))
def test_mean(shape, name, sigma_y):
    prior, problem, (mean, covariance) = posed(shape, name, sigma_y)
    x = run(ENTRY, prior, problem, [0], steps=1, sample=False)
    # In posterior deviations of each pixel, so that a known pixel counts as much as an unknown one. 0.01 is
    # the solver's tolerance of 1e-4 times the root of a condition number of 1e4; noise-free pixels: 1e-4
    # absolute.
    allowed = 0.02 * covariance.diagonal().clamp(min=0).sqrt() + 1e-4
    assert ((x.flatten() - mean).abs() / allowed).max().item() < 1


@pytest.mark.parametrize("sigma_y", [0.0, 0.1])
@pytest.mark.parametrize(
    ("shape", "name"), [CASES[1], CASES[3], CASES[7], CASES[9]], ids=lambda case: str(case)
)
def test_draws(shape, name, sigma_y):
    prior, problem, (mean, covariance) = posed(shape, name, sigma_y)
    if covariance.diagonal().max() < 1e-6:  # noise-free and invertible: nothing to draw
        return
    draws = run(ENTRY, prior, problem.repeat(400), list(range(400)), steps=1)
    found = moments(draws, mean.reshape(1, *shape), covariance)
    # 400 draws: floor 0.05 of the mean; the variance is that of a few wide modes, each known to sqrt(2/400) =
    # 7 %.
    assert found.bias < 0.12
    assert found.spread == pytest.approx(1, abs=0.2)


def test_draws_are_uncorrelated_with_each_other_and_named_by_their_seed():
    prior, problem, _ = posed((3, 8, 8), "sr2", 0.1)
    a = run(ENTRY, prior, problem.repeat(3), [1, 2, 3], steps=1)
    b = run(ENTRY, prior, problem, [2], steps=1)
    torch.testing.assert_close(a[1:2], b, atol=1e-9, rtol=0)
    assert (a[0] - a[1]).abs().max() > 0.01


def test_noise_free_data_is_kept():
    for name in ("inp", "sr2", "color", "cs2"):
        prior, problem, _ = posed((3, 8, 8), name, 0.0)
        x = run(ENTRY, prior, problem, [0], steps=1)
        assert (problem.A(x) - problem.y).abs().max() < 1e-10


def test_a_prior_that_is_not_gaussian_is_refused():
    problem = Problem(build("deno", (1, 4, 4)), torch.zeros(1, 1, 4, 4), 0.1)
    with pytest.raises(ValueError, match="Gaussian prior.*; use pigdm"):
        ENTRY(IsotropicGaussian(torch.zeros(1, 1, 4, 4), 1.0), problem, SeededNoise([0]))
