"""Replacement methods: at every level, what was measured is put back at that level's noise."""

import torch
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step, fresh_noise
from undiffuse.operators.base import as_spectrum
from undiffuse.operators.pixel import Inpaint
from undiffuse.registry import RESTORERS
from undiffuse.restore.problem import Problem, decomposed, noise_in_image


@RESTORERS.register(
    "ilvr",
    summary="ILVR-type projection: measured modes are replaced at each noise level; needs an SVD",
    example="--algorithm ilvr --degrade sr_bicubic8",
)
def ilvr(denoise: Denoise, problem: Problem, noise: Noise, /) -> Step:
    """Noisy projection (ILVR, Choi et al. 2021, eq. 8, for any operator with an SVD): after a DDPM step,
    coefficients of V^T x with tau = sigma_y / s <= sigma' become U^T y / s + sqrt(sigma'^2 - tau^2) n.

    Below the noise of a mode the prior has the last word, alone. Ignores how the replaced part constrains the
    rest within a step: seams and too little spread; a baseline.
    """
    A = decomposed(problem, "ilvr")
    known = A.inverse_coefficients(problem.y)
    tau = noise_in_image(A, problem.sigma_y)

    def step(state: State, sigma_next: Tensor) -> State:
        x0 = denoise(state.x, state.sigma)
        down, up = fresh_noise(state.sigma, sigma_next, 1.0)
        c = A.vt(x0 + down * (state.x - x0) / state.sigma + up * noise(x0))
        sigma = as_spectrum(sigma_next, c)
        put = known + (sigma**2 - tau**2).clamp(min=0).sqrt() * A.vt(noise(x0))
        return State(A.v(torch.where(sigma >= tau, put, c)), sigma_next, x0)

    return step


@RESTORERS.register(
    "repaint",
    summary="RePaint: known pixels are replaced at each noise level; inpainting only",
    example="--algorithm repaint --degrade inp:mask=box",
)
def repaint(denoise: Denoise, problem: Problem, noise: Noise, /) -> Step:
    """RePaint (Lugmayr et al. 2022, algorithm 1): the projection of `ilvr` with a mask of pixels.

    Resampling is the grid's business: a grid that climbs (`grids.with_jumps`) through `loop.time_travel`.
    Noise in the known pixels (the paper has none) is counted as in `ilvr`. ValueError for anything but
    inpainting.
    """
    if not isinstance(problem.A, Inpaint):
        raise ValueError(
            f"repaint restores missing pixels only, and {type(problem.A).__name__} is no mask; use ilvr or ddrm"
        )
    return ilvr(denoise, problem, noise)
