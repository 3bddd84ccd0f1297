"""DPM-Solver++(3M): the third order multistep member of the family (Lu et al. 2022)."""

import torch
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.registry import SAMPLERS
from undiffuse.samplers.dpmpp_2m import log_step, ratio


@SAMPLERS.register(
    "dpmpp_3m",
    summary="DPM-Solver++(3M): third order for one call a step, deterministic",
    example="--sampler dpmpp_3m",
    order=3,
)
def dpmpp_3m(denoise: Denoise, noise: Noise, /) -> Step:
    """x0 as a parabola in lambda = -log sigma through three calls, integrated exactly.

    Lu et al. (2022), eq. 8 with k = 3:

        x' = exp(-h) x + a0 x0 + a1 D1 + a2 D2
        a0 = 1 - exp(-h),   a1 = h - a0,   a2 = h^2 / 2 - a1

    D1 and D2 are the first and second derivatives of Newton's parabola for steps h_1, h_2 before, of any
    lengths: d_1 = (x0 - x0_1) / h_1, d_2 = (x0_1 - x0_2) / h_2, d_12 = (d_1 - d_2) / (h_1 + h_2), D1 = d_1
    + h_1 d_12, D2 = 2 d_12. The first step is of first order, the second of second, the one to sigma' = 0
    of first. memory: ((x0_1, h_1), (x0_2, h_2)). Draws no noise.
    """

    def step(state: State, sigma_next: Tensor) -> State:
        x0 = denoise(state.x, state.sigma)
        h = log_step(state.sigma, sigma_next)
        a0 = -torch.expm1(-h)
        a1 = h - a0
        x = (1 - a0) * state.x + a0 * x0
        past: tuple[tuple[Tensor, Tensor], ...] = state.memory or ()
        if past:
            x0_1, h_1 = past[0]
            d_1 = ratio(x0 - x0_1, h_1)
            x = x + a1 * d_1
            if len(past) == 2:
                x0_2, h_2 = past[1]
                d_12 = ratio(d_1 - ratio(x0_1 - x0_2, h_2), h_1 + h_2)
                x = x + (a1 * h_1 + h.square() - 2 * a1) * d_12
        return State(torch.where(sigma_next > 0, x, x0), sigma_next, x0, ((x0, h), *past[:1]))

    return step
