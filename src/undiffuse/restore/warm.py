"""DPIR from a closed-form estimate: what a Gaussian knows of photographs costs no network call."""

from dataclasses import replace

import torch
from torch import Tensor

from undiffuse.core.devices import moved
from undiffuse.core.grids import exponential
from undiffuse.core.state import Noise, State
from undiffuse.operators.base import Separable
from undiffuse.registry import PRIORS
from undiffuse.restore.exact import TOLERANCE, exact
from undiffuse.restore.problem import Problem

TOP, LOWEST = 0.2, 0.05  # sigma of the grid: the estimate is too good to be denoised by more
# Where the search for noisy data ends: for a long motion within 0.02 dB of where 1e-4 does, in less than half of the
# products (tests/restore/test_warm.py). Without noise the answer keeps what a search leaves where the data is silent.
ROUGH = 3e-3


def low_levels(steps: int, sigma_y: float) -> Tensor:
    """(steps + 1,) from sigma 0.2, or twice the noise of the data, to that noise or 0.05, even in the logarithm."""
    low = max(sigma_y, LOWEST)
    return exponential(steps, sigma_min=low, sigma_max=max(TOP, 2 * low))


def wiener(problem: Problem, sigma: Tensor, noise: Noise) -> Tensor:
    """The mean of the exact posterior under `photo-gaussian`, the Wiener filter: (B, C, H, W). Draws no noise.

    Of what is not linear what it has for a guess: of a JPEG the picture as it was stored.

    One picture at a time: a search that stops with the last of a batch would make a picture depend on the others.
    """
    if isinstance(problem.A, Separable):
        return problem.A.guess(problem.y)
    prior, y = moved(PRIORS["photo-gaussian"](), problem.y.device), problem.y
    end = y.new_zeros(())
    state = State(y.new_zeros(1, *problem.A.in_shape), end)  # plays no part
    alone = (replace(problem, y=y[i : i + 1]) for i in range(len(y)))
    tolerance = ROUGH if problem.sigma_y > 0 else TOLERANCE
    with torch.no_grad():
        steps = (exact(prior, one, torch.zeros_like, sample=False, tolerance=tolerance) for one in alone)
        found = [step(state, end).x for step in steps]
    return torch.cat(found).to(y)
