"""JPEG undone by `dpir`: above the stored picture, and stored as it was."""

import pytest
import torch

from tests.pictures import photograph
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators import build
from undiffuse.registry import PRIORS, RESTORERS
from undiffuse.restore import Problem, measure


@pytest.mark.parametrize("noise", [0.0, 0.04])
@pytest.mark.parametrize("quality", [10, 50])
def test_an_answer_is_better_than_what_was_stored(quality, noise):
    """With the closed-form prior of photographs; without noise it compresses to the very same picture."""
    x = photograph(64, 96)[None]
    A = build(f"jpeg:quality={quality}", tuple(x.shape[1:])).float()
    problem = Problem(A, measure(A, x, noise, SeededNoise([0])), noise)
    entry = RESTORERS["dpir"]
    sigmas = entry.facts["grid"](20, noise).float()
    with torch.inference_mode():
        step = entry(PRIORS["photo-gaussian"](), problem, SeededNoise([0]))
        answer = last(sample(step, entry.facts["start"](problem, sigmas[0], SeededNoise([0])), sigmas)).x
    assert psnr(answer.clamp(-1, 1), x).item() > psnr(problem.y.clamp(-1, 1), x).item()
    if noise == 0:
        assert (A(answer) - problem.y).abs().max() < 1e-3  # float32, and what the decoder clamps
