"""JPEG undone by `dpir`: above the stored picture, and stored as it was."""

import pytest
import torch

from tests.pictures import photograph
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators import build
from undiffuse.registry import PRIORS, RESTORERS
from undiffuse.restore import Problem, certify, measure, start
from undiffuse.restore.data_step import data_step


@pytest.mark.parametrize("noise", [0.0, 0.04, 0.2])
@pytest.mark.parametrize("quality", [10, 50, 95])
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


def test_draws_spread_about_the_answer():
    """DiffPIR's: each fits the stored picture, and their mean is better than any of them."""
    x = photograph(64, 96)[None]
    A = build("jpeg:quality=10", tuple(x.shape[1:])).float()
    problem, entry, prior = Problem(A, A(x), 0.0), RESTORERS["diffpir"], PRIORS["photo-gaussian"]()
    sigmas, draws = karras(20, 0.01, 20.0).float(), []
    with torch.inference_mode():
        for seed in range(6):
            noise = SeededNoise([seed])
            begun = start(problem, sigmas[0], noise)
            draws.append(last(sample(entry(prior, problem, noise), begun, sigmas)).x)
    found = [psnr(draw.clamp(-1, 1), x).item() for draw in draws]
    assert psnr(torch.stack(draws).mean(0).clamp(-1, 1), x).item() > max(found) + 0.5
    assert all(
        (A(draw) - problem.y).square().mean().sqrt() < 0.02 for draw in draws
    )  # of 2; a level is 0.008


@pytest.mark.parametrize("subsampling", ["444", "420"])
def test_saturated_colours_are_stored_as_they_were(subsampling):
    """Pictures within their range and pictures that are stored so meet at a small angle there."""
    tint = torch.tensor([1.0, 0.5, 0.3]).reshape(3, 1, 1)  # red is white in the bright parts
    x = (photograph(96, 96)[None] * tint).double()
    A = build(f"jpeg:quality=60,subsampling={subsampling}", tuple(x.shape[1:]))
    noise = SeededNoise([0])(x)
    problem = Problem(A, A(x), 0.0)
    answer = data_step(problem, "dpir").kept(problem.y + 0.1 * noise)
    assert certify(problem, answer.clamp(-1, 1))[0].verdict == "consistent"  # four plain turns: 0.8 levels
