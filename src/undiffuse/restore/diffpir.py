"""DiffPIR: Denoising Diffusion Models for Plug-and-Play Image Restoration (Zhu et al., CVPRW 2023)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step, renoise
from undiffuse.registry import RESTORERS
from undiffuse.restore.data_step import data_step
from undiffuse.restore.problem import Problem

WIDTH = 0.5  # deviation of images: no estimate is off by more


@RESTORERS.register(
    "diffpir",
    summary="DiffPIR: a proximal data step at each level; any linear degradation, any noise",
    example="--algorithm diffpir:lam=1,zeta=0.3",
)
def diffpir(
    denoise: Denoise,
    problem: Problem,
    noise: Noise,
    /,
    *,
    lam: Annotated[
        float, Field(gt=0, description="trust in the prior's estimate; 1 = its error is sigma")
    ] = 1.0,
    zeta: Annotated[float, Field(ge=0, le=1, description="share of fresh noise, as a variance")] = 0.3,
) -> Step:
    """DiffPIR (Zhu et al. 2023, algorithm 1), per level:

        z = argmin |y - A z|^2 + lam sigma_y^2 (1 / sigma^2 + 1 / w^2) |z - x0|^2,  w = 0.5
        x' = z + sigma' (sqrt(1 - zeta) (x - z) / sigma + sqrt(zeta) n)

    The noise direction is taken from the fitted estimate (eq. 17), with a variance share zeta of it fresh.
    The paper tunes lam and zeta for each task; lam = 1 says that x0 is off by sigma, its error under a flat
    prior. It has no w: then a mode of small s takes the noise of the data, up to sigma / 2 of it, on top of the
    sigma' that the network is told of, and the share of it that (x - z) / sigma hands on adds up over levels. With
    20 calls from 80 and a blur of 1.5 pixels z reaches 70 in [-1, 1], and the network does not find back: 14.8 dB,
    and 21.6 with w, the deviation of images, by which no estimate is off by more (PiGDM bounds its r_t so, Song et
    al. 2023, with w = 1). sigma_y = 0 gives the limit, the projection on the data (the code floors sigma_y at
    0.001). Not a posterior sampler. Closed form with an SVD, conjugate gradient without. ValueError for a
    degradation that is neither linear nor `Separable`, as JPEG and saturation are: there z is its `estimate`.
    """
    nearer = data_step(problem, "diffpir")

    def step(state: State, sigma_next: Tensor) -> State:
        x0 = denoise(state.x, state.sigma)
        fitted = nearer(x0, 1 / (lam * (1 / state.sigma**2 + 1 / WIDTH**2)))
        eps = (state.x - fitted) / state.sigma
        return State(renoise(fitted, eps, sigma_next, zeta**0.5, noise), sigma_next, fitted)

    return step
