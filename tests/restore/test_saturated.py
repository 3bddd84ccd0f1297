"""Over-exposure undone: what was saturated comes back from the prior, and what was not is kept."""

import torch

from tests.pictures import photograph
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators import build
from undiffuse.registry import PRIORS, RESTORERS
from undiffuse.restore import Problem, certify


def test_an_answer_is_better_than_darker_pixels():
    """With the closed-form prior of photographs; a third of the pixels is saturated, and the data is kept exactly."""
    x = photograph(64, 96)[None]
    A = build("clip:gain=2", tuple(x.shape[1:])).float()
    problem, entry = Problem(A, A(x), 0.0), RESTORERS["dpir"]
    assert (problem.y.abs() == 1).float().mean() > 0.2
    sigmas = entry.facts["grid"](20, 0.0).float()
    begun = entry.facts["start"](problem, sigmas[0], SeededNoise([0]))
    with torch.inference_mode():
        step = entry(PRIORS["photo-gaussian"](), problem, SeededNoise([0]))
        answer = last(sample(step, begun, sigmas)).x.clamp(-1, 1)
    assert psnr(answer, x).item() > psnr(begun, x).item() + 1
    assert certify(problem, answer)[0].verdict == "consistent"
