"""EDM's stochastic sampler (Karras et al., NeurIPS 2022)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.registry import SAMPLERS
from undiffuse.samplers.heun import heun_step


@SAMPLERS.register(
    "churn",
    summary="EDM's stochastic method: some noise is added before each of heun's steps",
    example="--sampler churn:steps=256,s_churn=40",
    order=2,
    calls=2,
    stochastic=True,
)
def churn(
    denoise: Denoise,
    noise: Noise,
    /,
    *,
    steps: Annotated[int, Field(ge=1, description="steps of the grid, over which s_churn is spread")],
    s_churn: Annotated[
        float, Field(ge=0, description="how much noise is exchanged in all; 0 is heun")
    ] = 40.0,
    s_tmin: Annotated[float, Field(ge=0, description="no exchange below this sigma")] = 0.05,
    s_tmax: Annotated[float, Field(gt=0, description="no exchange above this sigma")] = 50.0,
    s_noise: Annotated[
        float, Field(gt=0, description="deviation of the new noise; above 1 restores detail")
    ] = 1.003,
) -> Step:
    """Karras et al. (2022), algorithm 2; defaults: their table 5 for ImageNet-64.

        gamma = min(s_churn / steps, sqrt(2) - 1) for s_tmin <= sigma <= s_tmax, else 0
        sigma_hat = (1 + gamma) sigma,   x_hat = x + sqrt(sigma_hat^2 - sigma^2) s_noise n
        x' = a step of heun from sigma_hat to sigma'

    s_churn = 0 draws no noise and is heun. Otherwise every step draws, used or not, as in the authors'
    code: what an image gets must not depend on the levels that its batch is at. For samples without bias
    s_noise must be 1.
    """
    if not s_tmin < s_tmax:
        raise ValueError(f"s_tmin = {s_tmin}, s_tmax = {s_tmax}; expected s_tmin < s_tmax")
    most = min(s_churn / steps, 2**0.5 - 1)

    def step(state: State, sigma_next: Tensor) -> State:
        x, sigma = state.x, state.sigma
        if most > 0:
            gamma = torch.where((sigma >= s_tmin) & (sigma <= s_tmax), most, 0.0)
            x = x + (gamma * (2 + gamma)).sqrt() * sigma * s_noise * noise(x)
            sigma = (1 + gamma) * sigma
        x, x0 = heun_step(denoise, x, sigma, sigma_next)
        return State(x, sigma_next, x0)

    return step
