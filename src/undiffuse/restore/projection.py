"""Replacement methods: at every level, what was measured is put back at that level's noise."""

from typing import Annotated

import torch
from pydantic import Field
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
    example="--algorithm repaint:repeats=10 --degrade inp:mask=box",
    calls="repeats",
)
def repaint(
    denoise: Denoise,
    problem: Problem,
    noise: Noise,
    /,
    *,
    repeats: Annotated[int, Field(ge=1, le=100, description="times that each step is walked")] = 10,
) -> Step:
    """RePaint (Lugmayr et al. 2022, algorithm 1): the projection of `ilvr` with a mask of pixels, resampled.

    Each step is taken, undone by adding its noise again, and taken again, `repeats` times in all (their U =
    10), so that the missing part can settle with the known one: for the prior of photographs and a box the
    mean is then off by 0.35 posterior deviations instead of 1.0, with noise of 0.05 by 0.5
    (tests/restore/test_repaint.py). Levels below the noise are walked once. Their jumps of 10 steps are a
    matter of the grid: repeats = 1, `grids.with_jumps` and `loop.time_travel`. Noise in the known pixels (the
    paper has none) is counted as in `ilvr`. `repeats` network calls a level. ValueError for anything but
    inpainting.
    """
    if not isinstance(problem.A, Inpaint):
        raise ValueError(
            f"repaint restores missing pixels only, and {type(problem.A).__name__} is no mask; use ilvr or ddrm"
        )
    once = ilvr(denoise, problem, noise)

    def step(state: State, sigma_next: Tensor) -> State:
        back = (state.sigma**2 - sigma_next**2).clamp(min=0).sqrt()
        tied = sigma_next >= problem.sigma_y  # below, nothing holds the picture, and it would wander off
        after = once(state, sigma_next)
        for _ in range(repeats - 1):
            again = once(State(after.x + back * noise(after.x), state.sigma), sigma_next)
            assert again.x0 is not None and after.x0 is not None
            x0 = torch.where(tied, again.x0, after.x0)
            after = State(torch.where(tied, again.x, after.x), sigma_next, x0)
        return after

    return step
