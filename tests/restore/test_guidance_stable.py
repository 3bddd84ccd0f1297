"""PiGDM where its covariance is not the prior's: a Gaussian with wide modes, and a denoiser that is no gradient."""

import pytest
import torch

from tests.restore.test_closed_form import posed
from undiffuse.contracts.restorer import moments, run
from undiffuse.core.grids import karras
from undiffuse.core.noise import SeededNoise
from undiffuse.operators.build import build
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure
from undiffuse.restore.pigdm import _solved

SHAPE = (1, 12, 12)


@pytest.mark.parametrize("name", ["sr2", "inp"])
@pytest.mark.parametrize("data_std", [0.25, 0.5, 1.0])
def test_scalar_with_the_prior_of_photographs(name, data_std):
    """The widest modes vary far more than data_std^2: at 0.25 the mean was off by 40,000 posterior deviations (sr2)."""
    prior, problem, (mean, covariance) = posed(SHAPE, name, 0.1)
    draws = run(
        RESTORERS["pigdm"], prior, problem.repeat(20), list(range(20)),
        sigmas=karras(20, sigma_max=prior.sigma_max(SHAPE)), covariance="scalar", data_std=data_std,
    )  # fmt: skip
    found = moments(draws, mean.reshape(1, *SHAPE), covariance)
    # 20 draws of the posterior have a floor of 0.22, and a variance known to 0.3 / sqrt(10 wide modes). What is left
    # above it, up to 0.6 and 1.6, is due to the wrong covariance.
    assert found.bias < 0.8
    assert 0.8 < found.spread < 1.9


@pytest.mark.parametrize("covariance", ["scalar", "tweedie"])
def test_a_jacobian_that_is_not_symmetric(covariance):
    """A denoiser that also turns the picture by a skew part of 40 %, as networks do: the answer stays in range."""
    A, noise = build("sr2", SHAPE), SeededNoise([0])
    skew = torch.randn(144, 144, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 12
    skew = 0.4 * (skew - skew.T) / 2**0.5

    def turning(x, sigma):
        c = x.flatten(1) / (1 + 4 * sigma**2)
        return (c + c @ skew.T).reshape(x.shape)

    truth = 0.5 * noise(torch.zeros(1, *SHAPE, dtype=torch.float64))
    problem = Problem(A, measure(A, truth, 0.1, noise), 0.1)
    x = run(RESTORERS["pigdm"], turning, problem, [1], covariance=covariance)
    assert x.square().mean().sqrt() < 1  # 0.5 is the truth's


def test_conjugate_gradient_ends_where_the_matrix_is_no_covariance():
    """Symmetric: the solution. With a skew part: the step along the steepest descent, and no more."""
    generator = torch.Generator().manual_seed(0)
    root, skew, b = (torch.randn(12, 12, generator=generator, dtype=torch.float64) for _ in range(3))
    M, b = root @ root.T + torch.eye(12), b[:1]
    torch.testing.assert_close(_solved(lambda z: z @ M, b, 50) @ M, b, rtol=0, atol=1e-3 * b.norm().item())
    N = M + 3 * (skew - skew.T)
    once = (b @ b.T) / (b @ N @ b.T) * b
    torch.testing.assert_close(_solved(lambda z: z @ N, b, 50), once, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_conjugate_gradient_takes_the_step_that_ends_it(seed):
    """A multiple of the identity is solved by one step; the rounding that it leaves is orthogonal to nothing."""
    b = torch.randn(2, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(_solved(lambda z: 0.3 * z, b, 20), b / 0.3, rtol=1e-12, atol=0)
