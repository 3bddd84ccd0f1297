"""Checks for any restoration algorithm, against the posterior of a Gaussian prior in closed form."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import Denoise
from undiffuse.operators.base import Operator
from undiffuse.registry import Entry
from undiffuse.restore import Problem, start


@dataclass(frozen=True)
class IsotropicGaussian:
    """N(mean, deviation^2 I) and its denoiser, written out here so that the checks stand on nothing of ours."""

    mean: Tensor  # (1, C, H, W)
    deviation: float

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.mean + self.deviation**2 / (self.deviation**2 + sigma**2) * (x - self.mean)


def matrix(A: Operator) -> Tensor:
    """A as a dense (m, n) matrix, column by column."""
    n = torch.Size(A.in_shape).numel()
    basis = torch.eye(n, dtype=torch.float64).reshape(n, *A.in_shape)
    return A(basis).reshape(n, -1).T


def gaussian_posterior(
    A: Operator, prior: IsotropicGaussian, y: Tensor, sigma_y: float
) -> tuple[Tensor, Tensor]:
    """Mean (1, C, H, W) and covariance (n, n) of x0 given y of one image, by dense linear algebra."""
    M, variance = matrix(A), prior.deviation**2
    gain = (
        variance * M.T @ torch.linalg.pinv(variance * M @ M.T + sigma_y**2 * _support(A, M), hermitian=True)
    )
    mean = prior.mean.flatten() + gain @ (y.flatten() - M @ prior.mean.flatten())
    return mean.reshape(prior.mean.shape), variance * (torch.eye(M.shape[1]).double() - gain @ M)


def _support(A: Operator, M: Tensor) -> Tensor:
    if A.support is None:
        return torch.eye(M.shape[0], dtype=M.dtype)
    return torch.diag(A.support.expand(A.out_shape).flatten().to(M))


def run(
    entry: Entry,
    denoise: Denoise,
    problem: Problem,
    seeds: list[int],
    *,
    steps: int = 20,
    sigmas: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """The final images of an algorithm, one for each seed; `problem` holds one measurement for each."""
    noise = SeededNoise(seeds)
    step = entry(denoise, problem, noise, **options)
    own = entry.facts.get("grid", lambda n, sigma_y: karras(n))
    grid: Tensor = own(steps, problem.sigma_y) if sigmas is None else sigmas
    x = entry.facts.get("start", start)(problem, grid[0].to(problem.y), noise)
    return last(sample(step, x, grid)).x


def keeps_its_input(entry: Entry, denoise: Denoise, problem: Problem) -> None:
    """y is not written to."""
    before = problem.y.clone()
    run(entry, denoise, problem, list(range(len(problem.y))), steps=3)
    assert torch.equal(problem.y, before)


def same_alone_and_in_a_batch(entry: Entry, denoise: Denoise, problem: Problem, tolerance: float) -> None:
    """Image i depends on its measurement and its seed only: alone, in a batch, in reversed order."""
    seeds = [10 + i for i in range(len(problem.y))]
    together = run(entry, denoise, problem, seeds, steps=4)
    flipped = Problem(problem.A, problem.y.flip(0), problem.sigma_y)
    torch.testing.assert_close(
        run(entry, denoise, flipped, seeds[::-1], steps=4).flip(0), together, rtol=tolerance, atol=tolerance
    )
    for i, seed in enumerate(seeds):
        single = Problem(problem.A, problem.y[i : i + 1], problem.sigma_y)
        torch.testing.assert_close(
            run(entry, denoise, single, [seed], steps=4)[0], together[i], rtol=tolerance, atol=tolerance
        )


def takes_a_grid_for_each_image(entry: Entry, denoise: Denoise, problem: Problem, tolerance: float) -> None:
    """Images on grids of their own get what they get alone; one whose grid has ended stays where it is."""
    assert len(problem.y) == 3, "give three measurements"
    short = karras(3, 0.05, 3.0)
    grids = [karras(6), karras(6, 0.1, 10.0), short]
    sigmas = torch.stack([*grids[:2], torch.cat([short, short.new_zeros(3)])], 1)[:, :, None, None, None]
    together = run(entry, denoise, problem, [0, 1, 2], sigmas=sigmas)
    for i, grid in enumerate(grids):
        single = Problem(problem.A, problem.y[i : i + 1], problem.sigma_y)
        alone = run(entry, denoise, single, [i], sigmas=grid)
        torch.testing.assert_close(together[i], alone[0], rtol=tolerance, atol=tolerance)


def data_is_kept(entry: Entry, denoise: Denoise, problem: Problem, tolerance: float, **options: Any) -> None:
    """Noise-free measurements are reproduced by the result."""
    assert problem.sigma_y == 0
    x = run(entry, denoise, problem, list(range(len(problem.y))), **options)
    torch.testing.assert_close(problem.A(x), problem.y, rtol=tolerance, atol=tolerance)


@dataclass(frozen=True)
class Moments:
    """How draws compare with the exact posterior of one image."""

    bias: float  # rms of (mean - exact mean) over the exact deviation; Monte-Carlo floor 1 / sqrt(draws)
    spread: float  # variance over exact variance, summed over pixels; 1 is right


def moments(draws: Tensor, mean: Tensor, covariance: Tensor) -> Moments:
    """Only directions in which the posterior has any width count towards the spread."""
    exact = covariance.diagonal().sum()
    shift = (draws.mean(0) - mean[0]).square().sum()
    return Moments((shift / exact).sqrt().item(), (draws.var(0).sum() / exact).item())
