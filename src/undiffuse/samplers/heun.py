"""Heun's method on the probability-flow ODE: EDM's deterministic sampler (Karras et al., NeurIPS 2022)."""

import torch
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.registry import SAMPLERS
from undiffuse.samplers.direction import noise_in


@SAMPLERS.register(
    "heun",
    summary="EDM's second order method, deterministic; two calls a step",
    example="--sampler heun",
    order=2,
    calls=2,
)
def heun(denoise: Denoise, noise: Noise, /) -> Step:
    """Karras et al. (2022), algorithm 1: an Euler step, then the mean of the slopes at both ends.

    2 n - 1 calls for n steps: the step to sigma' = 0 is Euler's. Draws no noise.
    """

    def step(state: State, sigma_next: Tensor) -> State:
        x, x0 = heun_step(denoise, state.x, state.sigma, sigma_next)
        return State(x, sigma_next, x0)

    return step


def heun_step(denoise: Denoise, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> tuple[Tensor, Tensor]:
    """(x at sigma_next, x0 of the first call). Images whose sigma_next is 0 take Euler's answer, x0."""
    x0 = denoise(x, sigma)
    slope = noise_in(x, x0, sigma)
    euler = x0 + sigma_next * slope
    if not (sigma_next > 0).any():  # saves a call, changes no number
        return euler, x0
    end = torch.where(sigma_next > 0, sigma_next, sigma)  # no network is asked about sigma = 0
    slope_next = noise_in(euler, denoise(euler, end), end)
    better = x + (sigma_next - sigma) * (slope + slope_next) / 2
    return torch.where(sigma_next > 0, better, euler), x0
