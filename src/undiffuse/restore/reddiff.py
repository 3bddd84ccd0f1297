"""RED-diff: A Variational Perspective on Solving Inverse Problems with Diffusion Models (Mardani et al., ICLR 2024)."""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.operators.base import LinearOperator
from undiffuse.registry import RESTORERS
from undiffuse.restore.problem import Problem


class Adam(NamedTuple):
    """The estimate being optimised, and Adam's moments (Kingma and Ba 2015)."""

    mu: Tensor
    first: Tensor
    second: Tensor
    updates: int


def first_guess(problem: Problem) -> Tensor:
    """argmin_z |y - A z|^2 + sigma_y^2 |z|^2: without noise A^+ y, as the authors' code begins; with noise A^+ would
    amplify it without bound. Zero for a non-linear degradation.
    """
    zero = problem.y.new_zeros(problem.y.shape[0], *problem.A.in_shape)
    if isinstance(problem.A, LinearOperator):
        return problem.A.ridge(zero, problem.y, problem.sigma_y**2)
    return zero


def reddiff_start(problem: Problem, sigma: Tensor, noise: Noise, /) -> Tensor:
    """`first_guess` + sigma n."""
    guess = first_guess(problem)
    return guess + sigma * noise(guess)


@RESTORERS.register(
    "reddiff",
    summary="RED-diff: Adam on one estimate, the prior as regulariser; any differentiable degradation; 100+ calls",
    example="--algorithm reddiff:lam=0.25,rate=0.1 --steps 200",
    start=reddiff_start,
)
def reddiff(
    denoise: Denoise,
    problem: Problem,
    noise: Noise,
    /,
    *,
    lam: Annotated[float, Field(ge=0, description="weight of the prior, before its factor sigma")] = 0.25,
    rate: Annotated[float, Field(gt=0, le=1, description="Adam's learning rate, [-1, 1] units a step")] = 0.1,
) -> Step:
    """RED-diff (Mardani et al. 2024, algorithm 1): one Adam step a level on

        mean |y - A mu|^2 / 2 + lam sigma mean( stop(eps(mu + sigma n) - n) mu ).

    Adam's betas (0.9, 0.99), lam 0.25 and rate 0.1 are the authors' code's; so is the start (see
    `first_guess`). x = mu + sigma n, so n is read off the state. Returns an estimate near the posterior's
    mode, no sample: its spread over seeds is not an error bar, and the noise level is not used.
    """

    def step(state: State, sigma_next: Tensor) -> State:
        if state.memory is None:
            guess = first_guess(problem)
            adam = Adam(guess, torch.zeros_like(guess), torch.zeros_like(guess), 0)
        else:
            adam = state.memory
        x0 = denoise(state.x, state.sigma)
        pull = (adam.mu - x0) / state.sigma  # eps(x) - n, since x = mu + sigma n
        with torch.enable_grad():
            mu = adam.mu.detach().requires_grad_()
            misfit = ((problem.y - problem.A(mu)) ** 2).flatten(1).mean(1).sum() / 2
            (gradient,) = torch.autograd.grad(misfit, mu)
        pixels = mu[0].numel()
        adam = _update(adam, gradient + lam * state.sigma * pull / pixels, rate)
        return State(adam.mu + sigma_next * noise(adam.mu), sigma_next, adam.mu, adam)

    return step


def _update(adam: Adam, gradient: Tensor, rate: float) -> Adam:
    count = adam.updates + 1
    first = 0.9 * adam.first + 0.1 * gradient
    second = 0.99 * adam.second + 0.01 * gradient**2
    direction = (first / (1 - 0.9**count)) / ((second / (1 - 0.99**count)).sqrt() + 1e-8)
    return Adam(adam.mu - rate * direction, first, second, count)
