"""DiffPIR's fitted estimate: the noise that weak modes of the data bring is bounded by what images can hold."""

import pytest
import torch

from undiffuse.core.grids import karras
from undiffuse.core.loop import sample
from undiffuse.core.noise import SeededNoise
from undiffuse.operators import build
from undiffuse.priors import photo_gaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure, start

SHAPE = (1, 48, 48)


@pytest.mark.parametrize("name", ["blur:gaussian,std=1.5", "blur:motion,angle=30"])
def test_estimates_stay_in_the_range_of_pictures(name):
    """The Gaussian of photographs, noise 0.03, 20 levels from 80: the error of the estimate at every level.

    A mode of the data brings noise of sigma_y s / (s^2 + sigma_y^2 / w^2) <= w / 2 = 0.25 at most. With the weight of
    the paper, which falls as 1 / sigma^2, the first errors are 15 and 4.
    """
    prior, A, noise = photo_gaussian(), build(name, SHAPE), SeededNoise([1])
    truth = prior.sample(noise, torch.empty(1, *SHAPE, dtype=torch.float64))
    problem = Problem(A, measure(A, truth, 0.06, noise), 0.06)
    sigmas = karras(20)
    step = RESTORERS["diffpir"](prior, problem, noise)
    found = [state.x0 for state in sample(step, start(problem, sigmas[0], noise), sigmas)][1:]
    errors = [(x0 - truth).square().mean().sqrt().item() for x0 in found]
    assert max(errors) < 0.25
