"""Error bars of an algorithm where the posterior is known: pictures that a prior in closed form has drawn."""

from collections.abc import Callable, Generator

import torch
from torch import Tensor

from undiffuse.analysis.calibration import Curve, curve, places
from undiffuse.app.events import Event, Progress
from undiffuse.app.restore.task import Task
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise, image_seed
from undiffuse.operators.build import build
from undiffuse.priors import photo_gaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure
from undiffuse.restore.problem import start

SIDE, DRAWS = 32, 19  # pixels; 19 draws divide into tenths
Curves = list[tuple[str, Curve, int]]
Draw = Callable[[Problem, list[int]], Tensor]


def on_exact_prior(task: Task, truths: int, seed: int, notes: list[str]) -> Generator[Event, None, Curves]:
    """Curves of the task's algorithm, and of the exact posterior, on the Gaussian prior of photographs.

    Its spectrum is that of photographs, so that what the first curve is off by is the algorithm's own doing, and not
    that of a prior that does not know the picture; the second one is off by chance alone. The same degradation and
    noise, pictures of 32 x 32; with a degradation that has no such size a note is left and there is no curve.
    """
    shape = (task.problem.A.in_shape[0], SIDE, SIDE)
    try:
        A = build(task.config.degrade, shape).to(torch.float64)
    except ValueError as error:
        notes.append(f"no calibration on an exact prior: {error}")
        return []
    prior = photo_gaussian().double()
    methods: dict[str, Draw] = {
        f"{task.method.entry.name} on an exact prior": lambda problem, seeds: _drawn(
            task, prior, problem, seeds
        ),
        "the exact posterior": lambda problem, seeds: _exact(prior, problem, seeds),
    }
    found: Curves = []
    for number, (name, draw) in enumerate(methods.items()):
        total = torch.zeros(DRAWS + 1, dtype=torch.float64)
        for i in range(truths):
            noise = SeededNoise([image_seed(seed, f"truth {i}")])
            truth = prior.sample(noise, torch.empty(1, *shape, dtype=torch.float64))
            problem = Problem(A, measure(A, truth, task.problem.sigma_y, noise), task.problem.sigma_y)
            seeds = [image_seed(seed, f"truth {i}", k + 1) for k in range(DRAWS)]
            try:
                total += places(draw(problem, seeds), truth[0])
            except ValueError as error:
                notes.append(f"no calibration of {name}: {error}")
                break
            yield Progress(number * truths + i + 1, len(methods) * truths, f"calibration: {name}")
        else:
            found.append((name, curve(total / truths), truths * truth[0].numel()))
    return found


def _drawn(task: Task, prior: torch.nn.Module, problem: Problem, seeds: list[int]) -> Tensor:
    many, noise = problem.repeat(len(seeds)), SeededNoise(seeds)
    x = task.method.start(many, task.method.sigmas[0].to(many.y), noise)
    return last(sample(task.method.step(prior, many, noise), x, task.method.sigmas)).x


def _exact(prior: torch.nn.Module, problem: Problem, seeds: list[int]) -> Tensor:
    many, noise = problem.repeat(len(seeds)), SeededNoise(seeds)
    levels = torch.tensor([1.0, 0.0], dtype=torch.float64)
    return last(sample(RESTORERS["exact"](prior, many, noise), start(many, levels[0], noise), levels)).x
