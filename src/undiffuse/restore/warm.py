"""DPIR from a closed-form estimate: what a Gaussian knows of photographs costs no network call."""

from dataclasses import replace

import torch
from torch import Tensor

from undiffuse.core.devices import moved
from undiffuse.core.grids import exponential
from undiffuse.core.state import Noise, State
from undiffuse.operators.base import Separable
from undiffuse.registry import PRIORS
from undiffuse.restore.exact import exact
from undiffuse.restore.problem import Problem

TOP, LOWEST = 0.2, 0.05  # sigma of the grid: the estimate is too good to be denoised by more


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
    with torch.no_grad():
        found = [exact(prior, one, torch.zeros_like, sample=False)(state, end).x for one in alone]
    return torch.cat(found).to(y)
