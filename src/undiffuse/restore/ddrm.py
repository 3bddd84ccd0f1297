"""DDRM: Denoising Diffusion Restoration Models (Kawar et al., NeurIPS 2022)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.grids import karras
from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.operators.base import SVDOperator, as_spectrum
from undiffuse.registry import RESTORERS
from undiffuse.restore.problem import Problem, decomposed, noise_in_image, noise_of_modes

TOP, LOWEST = 10.0, 0.02  # sigma of the grid


def levels(steps: int, sigma_y: float) -> Tensor:
    """(steps + 1,) from sigma 10 to the noise of the data, or 0.02 if that is less, Karras-spaced, then 0.

    At higher levels the data says more than x does, below its noise there is little left to draw: calls spent there
    are missing between. On the Gaussian prior of photographs 10 calls of this grid leave the bias of 20 from 80 to
    0.002, and 20 of it two thirds of that (tests/restore/test_few_calls.py). Where nothing is measured of modes wider
    than 10, the colours of a whole picture say, draws are too narrow: give a grid that starts higher.
    """
    return karras(steps, sigma_min=min(max(sigma_y, LOWEST), TOP / 2), sigma_max=TOP)


def ddrm_start(problem: Problem, sigma: Tensor, noise: Noise, /) -> Tensor:
    """x_T of DDRM (eq. 7): modes measured better than sigma start at the measurement, the others at pure noise."""
    A = decomposed(problem, "ddrm")
    n = A.vt(noise(problem.y.new_empty(len(problem.y), *A.in_shape)))
    sigma = as_spectrum(sigma, n)
    tau = noise_in_image(A, problem.sigma_y)
    known = A.inverse_coefficients(problem.y) + (sigma**2 - tau**2).clamp(min=0).sqrt() * n
    return A.v(torch.where(sigma >= tau, known, sigma * n))


@RESTORERS.register(
    "ddrm",
    summary="DDRM: per singular mode, mix prediction, measurement and noise; needs an SVD; 20 calls",
    example="--algorithm ddrm:eta=0.85,eta_b=1",
    start=ddrm_start,
    grid=levels,
)
def ddrm(
    denoise: Denoise,
    problem: Problem,
    noise: Noise,
    /,
    *,
    eta: Annotated[
        float, Field(ge=0, le=1, description="share of fresh noise in modes below the noise or unseen")
    ] = 0.85,
    eta_b: Annotated[
        float, Field(ge=0, le=1, description="trust in the data where it beats the current level")
    ] = 1.0,
) -> Step:
    """DDRM (Kawar et al. 2022, eqs. 7-8), per coefficient of V^T x, with tau = sigma_y / s:

        s = 0           c0 + sigma' (sqrt(1 - eta^2) eps + eta n)
        sigma' <  tau   c0 + sigma' (sqrt(1 - eta^2) (U^T y - s c0) / sigma_y + eta n)
        sigma' >= tau   (1 - eta_b) c0 + eta_b U^T y / s + sqrt(sigma'^2 - eta_b^2 tau^2) n

    Defaults are the paper's. Departures from the authors' code, which `ddrm_published` reproduces: equality
    falls in the last case, as in the paper (the code's strict `>` leaves sigma' = sigma_y = 0 to the first,
    so that its noise-free result misses the data by about 1e-3); a zero singular value uses eps with noise as
    without (the code then takes the frozen noise of the measurement for a direction); each image has its own
    noise; x_T is not divided by sigma_T. The grid is `levels`.

    Noise-free data is kept exactly. With noise it is no posterior sampler: it trusts what it measures as it
    stands, and its variance on a Gaussian is 0.55 to 0.64 of the true one at 20 calls (numbers in
    tests/restore/test_bias.py). Use pigdm for error bars. Needs an SVD: ValueError otherwise.
    """
    A = decomposed(problem, "ddrm")
    uty = A.ut(problem.y)
    mix, blind = _shares(A, problem.sigma_y, eta, eta_b), not bool(A.seen.all())

    def step(state: State, sigma_next: Tensor) -> State:
        x0 = denoise(state.x, state.sigma)
        c0 = A.vt(x0)
        n = noise_of_modes(A, noise, x0, c0)
        share = mix(as_spectrum(state.sigma, c0), as_spectrum(sigma_next, c0))
        mixed = (
            (share.c0 * c0).addcmul_(share.uty, uty).addcmul_(share.n, n)
        )  # new memory costs as much as sums
        if not blind:
            return State(A.v(mixed), sigma_next, x0)
        before: Tensor | None = state.memory  # V^T x, as the step before left it
        c = mixed.addcmul_(share.c, A.vt(state.x) if before is None else before)
        return State(A.v(c), sigma_next, x0, c)

    return step


@dataclass(frozen=True, slots=True)
class Shares:
    """What each mode of the next x takes of V^T x0, V^T x, U^T y and noise."""

    c0: Tensor
    c: Tensor
    uty: Tensor
    n: Tensor


def _shares(A: SVDOperator, sigma_y: float, eta: float, eta_b: float) -> Callable[[Tensor, Tensor], Shares]:
    """(sigma, sigma') -> the cases of `ddrm` collected by what they multiply; cases are products with 0 and 1."""
    keep = (1 - eta**2) ** 0.5
    tau, s, seen = noise_in_image(A, sigma_y), A.s, A.seen.to(A.s)
    inverse, unseen = seen / (s + (1 - seen)), 1 - seen
    trusted = eta_b * inverse
    variance = (trusted * sigma_y) ** 2  # of the noise that the data brings

    def mix(sigma: Tensor, sigma_next: Tensor) -> Shares:
        above = (sigma_next >= tau).to(s)
        towards = (seen - above) * (keep * sigma_next / (sigma_y or 1))  # no mode is below tau without noise
        kept = unseen * (keep * sigma_next / sigma)
        spread = (sigma_next**2 - variance).clamp(min=0).sqrt()
        return Shares(
            c0=1 - eta_b * above - towards * s - kept,
            c=kept,
            uty=above * trusted + towards,
            n=above * spread + (1 - above) * (eta * sigma_next),
        )

    return mix
