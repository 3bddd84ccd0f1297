"""DPS: Diffusion Posterior Sampling for General Noisy Inverse Problems (Chung et al., ICLR 2023)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step, fresh_noise
from undiffuse.registry import RESTORERS
from undiffuse.restore.problem import Problem


@RESTORERS.register(
    "dps",
    summary="DPS: a gradient of the residual through the network; any differentiable degradation; about 1000 calls",
    example="--algorithm dps:zeta=1 --steps 1000",
)
def dps(
    denoise: Denoise,
    problem: Problem,
    noise: Noise,
    /,
    *,
    zeta: Annotated[float, Field(ge=0, description="step along the gradient of |y - A x0|")] = 1.0,
) -> Step:
    """DPS (Chung et al. 2023, algorithm 1): a DDPM step, then -zeta grad |y - A(x0(x))|.

    The paper moves the variance-preserving x / sqrt(1 + sigma^2); in our coordinate its zeta becomes zeta
    sqrt(1 + sigma^2) sqrt(1 + sigma'^2), so published values carry over for a grid of a thousand levels. The
    norm is that of each image, where the authors' code takes one over the batch. The noise level is not used,
    so that noise in the data is restored as if it were picture (a bias, in tests/restore/test_bias.py): no
    posterior sampler, and its spread is no error bar. Three times the memory.
    """

    def step(state: State, sigma_next: Tensor) -> State:
        x, sigma = state.x, state.sigma
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            x0 = denoise(x, sigma)
            residual = (problem.y - problem.A(x0)).flatten(1)
            (gradient,) = torch.autograd.grad(residual.norm(dim=1).sum(), x)
        x, x0 = x.detach(), x0.detach()
        down, up = fresh_noise(sigma, sigma_next, 1.0)
        moved = x0 + down * (x - x0) / sigma + up * noise(x)
        scale = zeta * ((1 + sigma**2) * (1 + sigma_next**2)).sqrt()
        return State(moved - scale * gradient, sigma_next, x0)

    return step
