"""DDNM and DDNM+: Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model (Wang et al., ICLR 2023)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step, renoise
from undiffuse.operators.base import as_spectrum
from undiffuse.operators.proximal import proximal
from undiffuse.registry import RESTORERS
from undiffuse.restore.ddrm import levels
from undiffuse.restore.problem import Problem, decomposed, linear, noise_in_image

Eta = Annotated[float, Field(ge=0, le=1, description="share of fresh noise at each level")]


@RESTORERS.register(
    "ddnm",
    summary="DDNM: swap the range part of the prediction for the data's; noise-free only; any linear degradation",
    example="--algorithm ddnm --noise 0",
    grid=levels,
)
def ddnm(denoise: Denoise, problem: Problem, noise: Noise, /, *, eta: Eta = 0.85) -> Step:
    """DDNM (Wang et al. 2023, eq. 13): x0 + A^+ (y - A x0), then renoised with a share eta of fresh noise.

    Exact data for noise-free y. Noise would be amplified by 1/s at every step, so sigma_y > 0 is refused: use
    ddnm_plus.
    """
    fit = proximal(linear(problem, "ddnm"), problem.y)
    if problem.sigma_y > 0:
        raise ValueError(
            f"ddnm takes noise-free data only (noise {problem.sigma_y / 2:g}); use ddnm_plus, diffpir or pigdm"
        )

    def step(state: State, sigma_next: Tensor) -> State:
        x0 = denoise(state.x, state.sigma)
        kept = fit(x0, 0.0)
        eps = (state.x - x0) / state.sigma
        return State(renoise(kept, eps, sigma_next, eta, noise), sigma_next, kept)

    return step


@RESTORERS.register(
    "ddnm_plus",
    summary="DDNM+: DDNM that takes noise into account, mode by mode; needs an SVD",
    example="--algorithm ddnm_plus --noise 0.05",
    grid=levels,
)
def ddnm_plus(denoise: Denoise, problem: Problem, noise: Noise, /, *, eta: Eta = 0.85) -> Step:
    """DDNM+ (Wang et al. 2023, eqs. 17-19) in our coordinate, per coefficient of V^T x, with tau = sigma_y / s:

        sigma' >= tau   U^T y / s + sqrt(sigma'^2 - tau^2) n
        sigma' <  tau   c0 + lambda (U^T y / s - c0) + sigma' eta n,  lambda = sqrt(1 - eta^2) sigma' / tau
        s = 0           c0 + sigma' (sqrt(1 - eta^2) eps + eta n)

    so that the noise left in every mode is that of level sigma'. Equal to ddnm at sigma_y = 0.
    Not a posterior sampler: see ddrm, whose eta_b = 1 it shares where the data is good.
    """
    A = decomposed(problem, "ddnm_plus")
    known = A.inverse_coefficients(problem.y)
    tau = noise_in_image(A, problem.sigma_y)
    keep = (1 - eta**2) ** 0.5

    def step(state: State, sigma_next: Tensor) -> State:
        x0 = denoise(state.x, state.sigma)
        n = A.vt(noise(x0))
        c0 = A.vt(x0)
        before: Tensor | None = state.memory  # V^T x, as the step before left it
        eps = ((A.vt(state.x) if before is None else before) - c0) / as_spectrum(state.sigma, c0)
        sigma = as_spectrum(sigma_next, c0)
        share = torch.where(sigma >= tau, 1, keep * sigma / tau.clamp(min=torch.finfo(tau.dtype).tiny))
        fitted = c0 + torch.where(A.seen, share * (known - c0), 0)
        above = (sigma**2 - tau**2).clamp(min=0).sqrt() * n
        below = sigma * (eta * n + torch.where(A.seen, 0, keep) * eps)
        c = fitted + torch.where(sigma >= tau, above, below)
        return State(A.v(c), sigma_next, A.v(fitted), c)

    return step
