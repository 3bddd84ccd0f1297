"""DAPS: Decoupled Annealing Posterior Sampling (Zhang et al., CVPR 2025)."""

import itertools
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.operators.base import LinearOperator
from undiffuse.registry import RESTORERS
from undiffuse.restore.problem import Problem


@RESTORERS.register(
    "daps",
    summary="DAPS: a short path to x0, a draw of x0 given the data, fresh noise; any degradation",
    example="--algorithm daps:ode_steps=5 --steps 50",
    calls="ode_steps",
)
def daps(
    denoise: Denoise,
    problem: Problem,
    noise: Noise,
    /,
    *,
    ode_steps: Annotated[int, Field(ge=1, le=100, description="network calls at each level")] = 5,
    data_std: Annotated[
        float, Field(gt=0, description="deviation of clean pixels: bounds the error of x0")
    ] = 0.5,
    langevin_steps: Annotated[int, Field(ge=1, le=10000, description="for non-linear degradations")] = 100,
    langevin_rate: Annotated[float, Field(gt=0, le=1, description="share of the largest stable step")] = 0.5,
    floor: Annotated[
        float, Field(gt=0, description="smallest sigma_y that Langevin uses, [-1, 1] units")
    ] = 0.01,
) -> Step:
    """DAPS (Zhang et al. 2025, algorithm 1): x0 by an ODE of `ode_steps` Euler steps, a draw from
    N(x0; xode, r^2 I) p(y | x0), then x = draw + sigma' n.

    For a linear degradation the draw is exact, by perturb-and-solve, z = argmin |A z - y - sigma_y n1|^2 /
    sigma_y^2 + |z - xode - r n2|^2 / r^2, where the paper runs Langevin; otherwise Langevin with at least
    `floor` for sigma_y, since its step vanishes with it. The step follows the steepest slope of A met so far
    in the image, so that it cannot diverge; very steep ones (gamma below 0.5, gains above 4) make it short,
    and the data is then not reached. r^2 = sigma^2 data_std^2 / (sigma^2 + data_std^2),
    the error of x0 under N(m, data_std^2 I); the paper's r = sigma, sampled exactly, would not converge. With
    ode_steps = 1 (xode is then the mean E[x0 | x]) this is Gibbs sampling, exact for that prior; more steps
    end at a sample instead of the mean, so that the spread is counted twice: too wide, a number in
    tests/restore/test_bias.py. `ode_steps` network calls a level.
    """
    grid = [(1 - i / ode_steps) ** 7 for i in range(ode_steps + 1)]  # EDM's spacing, relative to sigma

    def step(state: State, sigma_next: Tensor) -> State:
        x, sigma = state.x, state.sigma
        for now, then in itertools.pairwise(grid):
            estimate = denoise(x, now * sigma)
            x = estimate + then / now * (x - estimate)
        A, r = problem.A, sigma * data_std / (sigma**2 + data_std**2).sqrt()
        if isinstance(A, LinearOperator):
            y = problem.y
            if problem.sigma_y > 0:
                n = noise(y)
                y = y + problem.sigma_y * (n if A.support is None else A.support * n)
            draw = A.ridge(x + r * noise(x), y, (problem.sigma_y / r) ** 2)
        else:
            draw = langevin(x, r)
        return State(draw + sigma_next * noise(draw), sigma_next, draw)

    def langevin(centre: Tensor, r: Tensor) -> Tensor:
        sigma_y = max(problem.sigma_y, floor)
        z, steepest = centre, torch.ones_like(centre[:, :1, :1, :1])  # |A'|^2, 1 or more
        for _ in range(langevin_steps):
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                misfit = problem.y - problem.A(z)
                signs = torch.where(misfit < 0, -1.0, 1.0).to(
                    misfit
                )  # A'^T signs: slopes, where A' is diagonal
                (slopes,) = torch.autograd.grad(misfit, z, signs, retain_graph=True)
                (gradient,) = torch.autograd.grad(misfit, z, misfit / sigma_y**2)
            z = z.detach()
            steepest = torch.maximum(steepest, slopes.square().amax((1, 2, 3), keepdim=True))
            rate = langevin_rate / (1 / r**2 + steepest / sigma_y**2)
            z = z - rate * (gradient + (z - centre) / r**2) + (2 * rate).sqrt() * noise(z)
        return z

    return step
