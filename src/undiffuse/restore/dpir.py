"""DPIR: plug-and-play restoration with a denoiser (Zhang, Li, Zuo, Zhang, Van Gool and Timofte, TPAMI 2021)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.grids import exponential
from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.registry import RESTORERS
from undiffuse.restore.problem import Problem, linear

TOP, LOWEST = 2.0, 0.02  # sigma of the grid
WIDTH = 0.5  # deviation of images, for the start
MULTISTEP = 0.5  # h / (2 h_1) of DPM-Solver++(2M) on an even grid


def levels(steps: int, sigma_y: float) -> Tensor:
    """(steps + 1,) from sigma 2 to the noise of the data, or 0.02 if that is less, evenly in the logarithm, then 0."""
    low = min(max(sigma_y, LOWEST), TOP / 2)
    return exponential(steps, sigma_min=low, sigma_max=TOP)


def begin(problem: Problem, sigma: Tensor, noise: Noise) -> Tensor:
    """argmin |y - A x|^2 / sigma_y^2 + |x|^2 / 0.25: the data as far as its noise allows, grey where there is none."""
    A, y = linear(problem, "dpir"), problem.y
    return A.ridge(y.new_zeros(len(y), *A.in_shape), y, (problem.sigma_y / WIDTH) ** 2)


@RESTORERS.register(
    "dpir",
    summary="plug-and-play with falling noise levels: one sharp answer, highest PSNR, no draws",
    example="--algorithm dpir:lam=0.23",
    start=begin,
    grid=levels,
    deterministic=True,
)
def dpir(
    denoise: Denoise,
    problem: Problem,
    noise: Noise,
    /,
    *,
    lam: Annotated[float, Field(gt=0, description="weight of the prior against the data")] = 0.23,
) -> Step:
    """Half-quadratic splitting (eqs. 6 to 8), one call a level, of second order in ln sigma:

        v = x + (x - x_1) / 2
        z = argmin |y - A z|^2 + lam (sigma_y / sigma)^2 |z - v|^2,   x = D(z, sigma)

    x_1 is the answer before x. v is the extrapolation of DPM-Solver++(2M) (Lu et al. 2022, algorithm 2) on a grid that
    is even in ln sigma: the paper has v = x. It matters at few calls, most of all for missing pixels, whose values
    come closer with every call: on a Gaussian prior of photographs the error that 4 to 10 calls leave is halved
    (tests/restore/test_few_calls.py). benchmarks/few_calls.py has it beside DDRM at 20.

    The iterate carries no noise: the denoiser is asked to remove the error of z, taken for noise of level sigma,
    which falls to that of the data. lam is the paper's. Departures: sigma begins at 2 of [-1, 1] (the paper: 49 /
    127.5) from the data as it is, so that holes are filled and no other method has to make a start; without noise
    the last answer is projected on the data, and sigma ends at 0.02; no averaging over turned images.

    An estimate that aims at fidelity, not a draw from the posterior: details that the data does not determine are
    smooth. On a white Gaussian prior it is within 0.12 posterior deviations of the posterior's mean at noise up to
    0.2, and exact without noise (tests/restore/test_bias.py). Closed form with an SVD, conjugate gradient without.
    ValueError for a degradation that is not linear.
    """
    A = linear(problem, "dpir")

    def step(state: State, sigma_next: Tensor) -> State:
        before: Tensor | None = state.memory
        v = state.x if before is None else state.x + MULTISTEP * (state.x - before)
        z = A.ridge(v, problem.y, lam * (problem.sigma_y / state.sigma) ** 2)
        x0 = denoise(z, state.sigma)
        if problem.sigma_y == 0:
            x0 = torch.where(sigma_next > 0, x0, A.ridge(x0, problem.y, 0.0))
        return State(x0, sigma_next, x0, state.x)

    return step
