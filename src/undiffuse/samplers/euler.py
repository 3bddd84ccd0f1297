"""Euler's method on the probability-flow ODE."""

from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.registry import SAMPLERS
from undiffuse.samplers.direction import noise_in


@SAMPLERS.register(
    "euler",
    summary="first order, deterministic; the plainest: DDIM without noise",
    example="--sampler euler",
    order=1,
)
def euler(denoise: Denoise, noise: Noise, /) -> Step:
    """x' = x0 + sigma' eps: Euler's method on dx/dsigma = (x - x0) / sigma (Karras et al. 2022, eq. 3).

    One call a step; the same numbers as ddim with eta = 0. Draws no noise.
    """

    def step(state: State, sigma_next: Tensor) -> State:
        x0 = denoise(state.x, state.sigma)
        return State(x0 + sigma_next * noise_in(state.x, x0, state.sigma), sigma_next, x0)

    return step
