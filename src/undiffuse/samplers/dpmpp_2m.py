"""DPM-Solver++(2M) (Lu et al. 2022)."""

import torch
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.registry import SAMPLERS


@SAMPLERS.register(
    "dpmpp_2m",
    summary="DPM-Solver++(2M): second order for one call a step, deterministic",
    example="--sampler dpmpp_2m",
    order=2,
)
def dpmpp_2m(denoise: Denoise, noise: Noise, /) -> Step:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), here with alpha = 1 and lambda = -log sigma.

    With h = log(sigma / sigma') and h_1 of the step before, for uneven steps as they come:

        x' = exp(-h) x + (1 - exp(-h)) (x0 + h / (2 h_1) (x0 - x0_1))

    The first step and the one to sigma' = 0 are of first order. memory: (x0_1, h_1). Draws no noise.
    """

    def step(state: State, sigma_next: Tensor) -> State:
        x0 = denoise(state.x, state.sigma)
        h = log_step(state.sigma, sigma_next)
        target = x0
        if state.memory is not None:
            before, h_before = state.memory
            target = x0 + ratio(h, 2 * h_before) * (x0 - before)
        share = sigma_next / state.sigma.clamp(min=torch.finfo(x0.dtype).tiny)
        x = share * state.x + (1 - share) * target
        return State(torch.where(sigma_next > 0, x, x0), sigma_next, x0, (x0, h))

    return step


def log_step(sigma: Tensor, sigma_next: Tensor) -> Tensor:
    """h = log(sigma / sigma_next); 0 in the step to sigma_next = 0, where it would be infinite."""
    end = torch.where(sigma_next > 0, sigma_next, 1)
    start = torch.where(sigma_next > 0, sigma, 1)
    return (start / end).log()


def ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0: a step before that went nowhere says nothing of a slope."""
    return torch.where(b == 0, 0, a / torch.where(b == 0, 1, b))
