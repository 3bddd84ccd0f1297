"""DDRM as its authors' code runs it (github.com/bahjat-kawar/ddrm, 32b6b3c). For comparison only, never a default."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.operators.base import SVDOperator, as_spectrum
from undiffuse.registry import RESTORERS
from undiffuse.restore.problem import Problem, decomposed


def published_start(problem: Problem, sigma: Tensor, noise: Noise, /) -> Tensor:
    """As `ddrm_start`, strictly, and divided by sigma_T where the network's scale asks for sqrt(1 + sigma_T^2)."""
    A = decomposed(problem, "ddrm_published")
    n = A.vt(noise(A.v(A.ut(problem.y))))
    sigma = as_spectrum(sigma, n)
    above, known, tau = _seen(A, problem, sigma)
    c = torch.where(above, known + (sigma**2 - tau**2).clamp(min=0).sqrt() * n, sigma * n)
    return A.v(c * (1 + sigma**2).sqrt() / sigma)


@RESTORERS.register(
    "ddrm_published",
    summary="DDRM as the authors' code runs it, with its quirks; for comparison only",
    example="--algorithm ddrm_published",
    start=published_start,
)
def ddrm_published(
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
    """`ddrm` with three quirks of the published code: strict comparisons, so that sigma' = sigma_y = 0 returns the
    network's estimate without the data; zero singular values of operators that store them (`explicit_zeros`,
    the deblurrings) take U^T y / sigma_y, which is noise, for a direction when sigma_y > 0; and its scale of
    x_T.
    """
    A = decomposed(problem, "ddrm_published")
    sigma_y = problem.sigma_y
    uty = A.ut(problem.y)
    stored = torch.ones_like(A.s, dtype=torch.bool) if getattr(A, "explicit_zeros", False) else A.s > 0
    keep = (1 - eta**2) ** 0.5

    def step(state: State, sigma_next: Tensor) -> State:
        x0 = denoise(state.x, state.sigma)
        n = A.vt(noise(x0))
        c0, eps = A.vt(x0), A.vt((state.x - x0) / state.sigma)
        sigma = as_spectrum(sigma_next, c0)
        above, known, tau = _seen(A, problem, sigma)
        c = c0 + sigma * (keep * eps + eta * n)
        misfit = (uty - A.s * c0) / (sigma_y or 1)
        c = torch.where(stored & (A.s * sigma < sigma_y), c0 + sigma * (keep * misfit + eta * n), c)
        spread = (sigma**2 - (eta_b * tau) ** 2).clamp(min=0).sqrt()
        c = torch.where(above, (1 - eta_b) * c0 + eta_b * known + spread * n, c)
        return State(A.v(c), sigma_next, x0)

    return step


def _seen(A: SVDOperator, problem: Problem, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where s sigma > sigma_y, strictly; U^T y / s and sigma_y / s there, 0 elsewhere."""
    above = A.s * sigma > problem.sigma_y
    s = torch.where(above, A.s, 1)
    return above, torch.where(above, A.ut(problem.y) / s, 0), torch.where(above, problem.sigma_y / s, 0)
