"""PiGDM against the exact posterior of Gaussian priors: mean and spread."""

import pytest
import torch

from tests.pictures import smooth
from tests.restore.test_closed_form import posed as closed_form
from undiffuse.contracts.restorer import IsotropicGaussian, gaussian_posterior, matrix, moments, run
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.operators.build import build
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure, posterior_denoiser, start
from undiffuse.samplers import ddim

SHAPE, DEVIATION, DRAWS = (3, 8, 8), 0.4, 400
OPERATORS = ["deno", "inp", "sr2", "color", "blur:gaussian,taps=5,std=1", "cs2"]


def posed(name, sigma_y):
    A = build(name, SHAPE)
    prior = IsotropicGaussian(0.3 * smooth(1, *SHAPE), DEVIATION)
    noise = SeededNoise([5])
    y = measure(A, prior.mean + DEVIATION * noise(prior.mean), sigma_y, noise)
    return prior, Problem(A, y, sigma_y)


def drawn(prior, problem, steps, **options):
    options = {"covariance": "scalar", "data_std": DEVIATION} | options
    return run(RESTORERS["pigdm"], prior, problem.repeat(DRAWS), list(range(DRAWS)), steps=steps, **options)


@pytest.mark.parametrize("sigma_y", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("name", OPERATORS)
def test_mean_and_spread(name, sigma_y):
    prior, problem = posed(name, sigma_y)
    mean, covariance = gaussian_posterior(problem.A, prior, problem.y, sigma_y)
    if covariance.diagonal().sum() < 1e-9:  # noise-free and invertible: one answer
        x = run(RESTORERS["pigdm"], prior, problem, [0], steps=100, covariance="scalar", data_std=DEVIATION)
        assert (x - mean).abs().max() < 1e-3
        return
    draws = drawn(prior, problem, 100)
    found = moments(draws, mean, covariance)
    # The mean of 400 draws is off by 1/sqrt(400) = 0.05 deviations rms; over n directions that scatters by
    # 0.05/sqrt(2n), below 0.01 for the 48 or more directions here: four of those, and the floor.
    assert found.bias < 0.09
    # The sum of >= 48 variances from 400 draws scatters by sqrt(2 / (400 * 48)) = 1 %; the solver adds 1 % at
    # 100 steps.
    assert found.spread == pytest.approx(1, abs=0.05)


def test_the_answer_is_right_in_every_direction_not_only_in_sum():
    prior, problem = posed("sr2", 0.2)
    mean, covariance = gaussian_posterior(problem.A, prior, problem.y, 0.2)
    draws = drawn(prior, problem, 100).flatten(1)
    values, vectors = torch.linalg.eigh(covariance)
    ratio = (draws @ vectors).var(0) / values
    assert (
        ratio.max() < 1.45 and ratio.min() > 0.65
    )  # 192 chi-squared ratios with 399 degrees: within 5 deviations


@pytest.mark.parametrize("sigma_y", [0.0, 0.1])
def test_tweedie_is_exact_for_a_coloured_prior(sigma_y):
    """A Gaussian prior with a covariance of no special shape, and an operator that does not commute with it."""
    shape = (1, 5, 6)
    n = 30
    root = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / n**0.5
    covariance = root @ root.T + 0.01 * torch.eye(n)

    def denoise(x, sigma):
        gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(n))
        return (x.flatten(1) @ gain.T).reshape(x.shape)

    A = build("inp:box,missing=0.4 . blur:gaussian,taps=3,std=0.8", shape)
    noise = SeededNoise([3])
    truth = (noise(torch.zeros(1, n).double()) @ torch.linalg.cholesky(covariance).T).reshape(1, *shape)
    y = measure(A, truth, sigma_y, noise)
    M = matrix(A)
    gain = (
        covariance @ M.T @ torch.linalg.pinv(M @ covariance @ M.T + sigma_y**2 * M.new_ones(1) * torch.eye(n))
    )
    mean, exact = (gain @ y.flatten()).reshape(1, *shape), covariance - gain @ M @ covariance
    # One call from a sigma at which x says nothing is the posterior mean.
    one = run(
        RESTORERS["pigdm"], denoise, Problem(A, y, sigma_y), [0],
        sigmas=torch.tensor([1e4, 0.0], dtype=torch.float64), iterations=200,
    )  # fmt: skip
    torch.testing.assert_close(one, mean, atol=1e-3, rtol=0)  # x_T leaves prior std^2 / 1e4
    problem = Problem(A, y, sigma_y).repeat(200)
    draws = run(RESTORERS["pigdm"], denoise, problem, list(range(200)), steps=60, iterations=60)
    found = moments(draws, mean, exact)
    assert found.bias < 0.11  # floor 1/sqrt(200) = 0.07
    assert found.spread == pytest.approx(1, abs=0.12)  # some 8 wide directions of 200 draws: 3 %; solver 2 %


@pytest.mark.parametrize(("eta", "expected"), [(0.0, 1.12), (1.0, 0.57)])
def test_twenty_calls(eta, expected):
    """What the docstring says of the default and of the paper's sampler at 20 calls."""
    prior, problem = posed("sr2", 0.05)
    mean, covariance = gaussian_posterior(problem.A, prior, problem.y, 0.05)
    found = moments(drawn(prior, problem, 20, eta=eta), mean, covariance)
    assert found.bias < 0.09
    assert found.spread == pytest.approx(expected, abs=0.04)


def test_twenty_calls_of_deterministic_ddim():
    """The other number of the docstring."""
    prior, problem = posed("sr2", 0.05)
    mean, covariance = gaussian_posterior(problem.A, prior, problem.y, 0.05)
    problem, noise, sigmas = problem.repeat(DRAWS), SeededNoise(range(DRAWS)), karras(20)
    step = ddim(posterior_denoiser(prior, problem, data_std=DEVIATION), noise)
    found = moments(last(sample(step, start(problem, sigmas[0], noise), sigmas)).x, mean, covariance)
    assert found.bias < 0.09
    assert found.spread == pytest.approx(0.74, abs=0.04)


@pytest.mark.parametrize("name", ["deno", "inp", "sr2", "deblur_gauss", "cs2"])
def test_as_it_comes_with_the_prior_of_photographs(name):
    """No option set: Tweedie's covariance by 20 iterations, for a prior whose variances span six decades."""
    shape, draws = (3, 8, 8), 100
    prior, problem, (mean, covariance) = closed_form(shape, name, 0.05)
    sigmas = karras(60, sigma_max=prior.sigma_max(shape))
    x = run(RESTORERS["pigdm"], prior, problem.repeat(draws), list(range(draws)), sigmas=sigmas)
    found = moments(x, mean.reshape(1, *shape), covariance)
    # 100 draws: a floor of 0.1, and the few wide modes that hold most of the variance scatter by 10 % each.
    assert found.bias < 0.15
    assert found.spread == pytest.approx(1, abs=0.15)
