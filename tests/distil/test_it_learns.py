"""A small network taught by an exact mixture through the training loop: its few steps beat the teacher's own."""

import copy

import torch
from accelerate import Accelerator
from torch import nn

from tests.distil.closed import teacher_of, walked
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.distil import Consistency, Progressive, Stages, halvings, subgrid
from undiffuse.priors import GaussianMixture, Prior, scalings
from undiffuse.samplers import consistency
from undiffuse.training import WEIGHTS, lognormal
from undiffuse.training.loop import Recipe, rates, train

MIXTURE = GaussianMixture(
    torch.tensor([-0.7, 0.4])[:, None, None, None], torch.tensor([0.01, 0.03]), torch.tensor([0.35, 0.65])
)
GRID = karras(8, 0.02, 20.0)
START = GRID[0].float() * SeededNoise(range(2000, 2064))(torch.zeros(64, 1, 8, 8))


def exact(x, sigma):
    """Of pictures whose pixels are each a draw of the mixture, on their own."""
    return MIXTURE(x.reshape(-1, 1, 1, 1), sigma.expand_as(x).reshape(-1, 1, 1, 1)).reshape(x.shape)


def drawn(pictures, seed):
    generator = torch.Generator().manual_seed(seed)
    like = torch.empty(pictures * 64, 1, 1, 1)
    found = MIXTURE.sample(lambda like: torch.randn(like.shape, generator=generator), like)
    return found.reshape(pictures, 1, 8, 8)


TRUTH, IMAGES = drawn(64, 1), drawn(256, 2)


class Net(nn.Module):
    """Three layers on each pixel by itself, told the level by sines and cosines."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(7, 48, 1), nn.SiLU(), nn.Conv2d(48, 48, 1), nn.SiLU(), nn.Conv2d(48, 1, 1)
        )
        self.register_buffer("waves", torch.arange(1.0, 4.0))

    def forward(self, x, noise, labels):
        told = (noise.reshape(-1, 1) * self.waves)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.layers(torch.cat([x, told.sin(), told.cos()], 1))


def fresh():
    torch.manual_seed(0)
    return Prior(Net(), scalings.edm(0.5), channels=1)


def taught(objective, steps, batch=16):
    recipe = Recipe(batch=batch, rate=rates(warmup=0, decay="cosine", images=steps * batch))
    optimizer = torch.optim.Adam(objective.model.parameters(), lr=5e-3)
    states = train(
        objective, lambda which: (IMAGES[torch.tensor(list(which)) % 256], None), optimizer, [], recipe,
        accelerator=Accelerator(cpu=True), images=steps * batch,
    )  # fmt: skip
    return [state.loss for state in states]


def distance(x):
    """Of the pixels from the truth: the mean distance of equal quantiles, 4096 of each (Wasserstein-1)."""
    return (x.flatten().sort().values - TRUTH.flatten().sort().values).abs().mean().item()


with torch.no_grad():
    ENDS = {steps: walked(exact, START, GRID[:: 8 // steps]) for steps in (8, 2)}  # of the teacher
    FLOOR = distance(walked(exact, START, karras(200, 0.002, 20.0)))  # of 4096 draws, with nothing wrong


def test_progressive_distillation_beats_the_teacher_at_two_steps():
    """8 -> 4 -> 2: what two steps of the teacher miss, the student's two make good for the most part.

    Nothing to be had but the teacher's eight steps, whose distance is a third of that of its two.
    """
    teacher, sigmas, student = teacher_of(exact), GRID, fresh()
    for steps, lessons in zip(halvings(8, 2)[1:], (300, 100), strict=True):
        taught(Progressive(student, teacher, sigmas, WEIGHTS["truncated_snr"]), lessons)
        sigmas, teacher = subgrid(sigmas), student
        assert len(sigmas) == steps + 1
        student = copy.deepcopy(student)
    with torch.no_grad():
        found = walked(student, START, sigmas)
    # By an amount that is many times the floor, and picture by picture.
    assert distance(found) < 0.5 * distance(ENDS[2])
    assert distance(ENDS[2]) - distance(found) > 8 * FLOOR
    assert (found - ENDS[8]).square().mean() < 0.25 * (ENDS[2] - ENDS[8]).square().mean()


def test_consistency_distillation_beats_two_steps_of_the_teacher_in_one():
    student = fresh()
    schedule = Stages(images=1200, last=4)  # of 7200 in all
    taught(Consistency(student, teacher_of(exact), lognormal(-0.5, 1.5), schedule, solver="heun"), 450)
    with torch.no_grad():
        one = student(START, GRID[0].float())
        two = last(sample(consistency(student, SeededNoise(range(64))), START, GRID[[0, 4, 8]])).x
    for found in (one, two):
        assert distance(found) < 0.5 * distance(ENDS[2])
        assert distance(ENDS[2]) - distance(found) > 8 * FLOOR
