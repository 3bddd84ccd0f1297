"""Multistep consistency sampling (Song, Dhariwal, Chen and Sutskever, ICML 2023)."""

from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.registry import SAMPLERS


@SAMPLERS.register(
    "consistency",
    summary="for consistency models: to the picture in one step, then new noise of the next level",
    example="--sampler consistency",
    stochastic=True,
)
def consistency(denoise: Denoise, noise: Noise, /) -> Step:
    """x' = x0 + sigma' n with fresh n: algorithm 1, whose lowest level is 0 here.

    Right in law at every level for a denoiser that answers with a draw given x, as a consistency model does with where
    x's path ends. An ordinary prior answers with the mean: its pictures come out smooth. That is not ddim with eta = 1,
    which keeps a share (sigma'/sigma)^2 of x - x0. Wants few, well-spaced levels: those of `karras` end at 0.002,
    where a step does next to nothing. The step to 0 draws noise too, so that an image is the same in any batch.
    """

    def step(state: State, sigma_next: Tensor) -> State:
        x0 = denoise(state.x, state.sigma)
        return State(x0 + sigma_next * noise(x0), sigma_next, x0)

    return step
