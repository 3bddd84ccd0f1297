"""DPIR: plug-and-play restoration with a denoiser (Zhang, Li, Zuo, Zhang, Van Gool and Timofte, TPAMI 2021)."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.grids import exponential
from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.operators.base import Separable
from undiffuse.operators.proximal import Fit
from undiffuse.registry import RESTORERS
from undiffuse.restore.data_step import data_step
from undiffuse.restore.problem import Problem

TOP, LOWEST = 2.0, 0.02  # sigma of the grid
WIDTH = 0.5  # deviation of images, for the start
MULTISTEP = 0.5  # h / (2 h_1) of DPM-Solver++(2M) on an even grid
MIRRORS = ((), (-2, -1), (-1,), (-2,))  # axes turned round, call by call


def levels(steps: int, sigma_y: float) -> Tensor:
    """(steps + 1,) from sigma 2 to the noise of the data, or 0.02 if that is less, evenly in the logarithm, then 0."""
    low = min(max(sigma_y, LOWEST), TOP / 2)
    return exponential(steps, sigma_min=low, sigma_max=TOP)


def levels_of_loss(steps: int, loss: float) -> Tensor:
    """(steps + 1,) for a picture that is wrong by `loss`, a root mean square, from the start, as a JPEG is.

    From 1.5 of it to 0.45, evenly in the logarithm, then 0. Four of these are worth more than twenty from sigma 2 on
    (benchmarks/results/jpeg.md).
    """
    return exponential(steps, sigma_min=max(0.45 * loss, 0.005), sigma_max=max(1.5 * loss, 0.015))


def begin(problem: Problem, sigma: Tensor, noise: Noise) -> Tensor:
    """argmin |y - A x|^2 / sigma_y^2 + |x|^2 / 0.25: the data as far as its noise allows, grey where there is none."""
    if isinstance(problem.A, Separable):
        return problem.A.guess(problem.y)
    grey = problem.y.new_zeros(len(problem.y), *problem.A.in_shape)
    return data_step(problem, "dpir").near(grey, grey.new_tensor(WIDTH**2)).z


@dataclass(frozen=True, slots=True)
class Memory:
    """The answer before, and the solution of the data step that led from it."""

    x: Tensor
    fit: Fit
    calls: int


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
    mirror: Annotated[
        bool,
        Field(description="show the network another mirror image each call: not for digits, faces, text"),
    ] = False,
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
    the last answer is projected on the data, and sigma ends at 0.02.

    mirror: each call sees x as it is, upside down and left to right, or one of the two, in turn. What a network adds
    at pixels of one parity, such as a stem of 2 x 2 pixels leaves, then cancels instead of growing from call to call.
    The authors' code goes through all eight turns of the square; transposed images would need a second shape.

    An estimate that aims at fidelity, not a draw from the posterior: details that the data does not determine are
    smooth. On a white Gaussian prior it is within 0.12 posterior deviations of the posterior's mean at noise up to
    0.2, and exact without noise (tests/restore/test_bias.py). ValueError for a degradation that is neither
    linear nor `Separable`, as JPEG and saturation are: there z is its `estimate`, and the start its `guess`.

    z in closed form with an SVD. Without one conjugate gradient goes on from the z before. Noise makes z the mean of a
    Gaussian posterior, whose deviations are the scale of what the answer can mean: the search stops at an error of
    0.03 of them (tests/restore/test_dpir_search.py). Without noise it is solved to rounding.
    """
    step_to_data = data_step(problem, "dpir")

    def step(state: State, sigma_next: Tensor) -> State:
        before: Memory | None = state.memory
        calls = 0 if before is None else before.calls
        v = state.x if before is None else state.x + MULTISTEP * (state.x - before.x)
        found = step_to_data.near(v, state.sigma**2 / lam, None if before is None else before.fit)
        axes = MIRRORS[calls % len(MIRRORS)] if mirror else ()
        x0 = denoise(found.z.flip(axes), state.sigma).flip(axes) if axes else denoise(found.z, state.sigma)
        if (sigma_next == 0).any():
            x0 = torch.where(sigma_next > 0, x0, step_to_data.kept(x0))
        return State(x0, sigma_next, x0, Memory(state.x, found, calls + 1))

    return step
