"""DDIM: Denoising Diffusion Implicit Models (Song, Meng and Ermon, ICLR 2021)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step, fresh_noise
from undiffuse.registry import SAMPLERS
from undiffuse.samplers.direction import noise_in


@SAMPLERS.register(
    "ddim",
    summary="DDIM: from deterministic (eta 0) to DDPM's posterior (eta 1)",
    example="--sampler ddim:eta=0.5",
    order=1,
)
def ddim(
    denoise: Denoise,
    noise: Noise,
    /,
    *,
    eta: Annotated[float, Field(ge=0, le=1, description="share of fresh noise; 1 is DDPM")] = 0.0,
) -> Step:
    """x' = x0 + sqrt(sigma'^2 - up^2) eps + up n, up^2 = eta^2 sigma'^2 (sigma^2 - sigma'^2) / sigma^2.

    This is DDIM's eq. 12 with its eq. 16, both in the variance-preserving x_t = sqrt(a) x, a = 1 / (1 +
    sigma^2):

        x'_t = sqrt(a') x0 + sqrt(1 - a' - s^2) eps + s n,   s^2 = eta^2 (1 - a') / (1 - a) (1 - a / a').

    Divide by sqrt(a'): sqrt((1 - a') / a') = sigma', and with s = sqrt(a') up the root becomes
    sqrt(sigma'^2 - up^2). For up itself, (1 - a') / a' = sigma'^2, and

        (1 - a / a') / (1 - a) = ((sigma^2 - sigma'^2) / (1 + sigma^2)) / (sigma^2 / (1 + sigma^2))
                               = (sigma^2 - sigma'^2) / sigma^2.

    eta = 0 draws no noise. Wants many steps where eta is high: the variance is exact for a point x0 only.
    """

    def step(state: State, sigma_next: Tensor) -> State:
        x0 = denoise(state.x, state.sigma)
        eps = noise_in(state.x, x0, state.sigma)
        if eta == 0:
            return State(x0 + sigma_next * eps, sigma_next, x0)
        down, up = fresh_noise(state.sigma, sigma_next, eta)
        return State(x0 + down * eps + up * noise(x0), sigma_next, x0)

    return step
