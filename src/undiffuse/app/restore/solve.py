"""Pictures of one shape and noise level, restored in batches of as many draws as the memory holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.app import machine
from undiffuse.app.events import Note
from undiffuse.app.restore.task import Task
from undiffuse.core.loop import sample
from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import State
from undiffuse.restore import Problem

VALUES = {"cpu": 12_000_000}  # of x in one batch: a larger one is no faster
ELSEWHERE = 400_000_000
MAPS = 24  # float32 values that a network holds at once for each value of x, and a bit


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a group stands: `done` of `total` steps, and the state of the draws that are being made."""

    done: int
    total: int
    step: int  # of the batch
    first: bool  # the batch that holds the first draw of the first picture, at [0]
    state: State


def together(task: Task, device: torch.device) -> int:
    """Draws in one batch. On a CPU a function of the shape alone; elsewhere what half of the free memory holds."""
    if task.config.batch != "auto":
        return task.config.batch
    channels, height, width = task.problem.A.in_shape
    values = channels * height * width
    most = max(1, VALUES.get(device.type, ELSEWHERE) // values)
    if device.type == "cpu" or (memory := machine.memory(device)).device_total is None:
        return most
    free = memory.device_total - (memory.device_allocated or 0)
    return max(1, min(most, free // 2 // (4 * MAPS * values)))


def alike(one: Task, other: Task) -> bool:
    """Whether two pictures can be restored in one batch."""
    a, b = one.problem, other.problem
    return (
        a.A.in_shape == b.A.in_shape
        and a.sigma_y == b.sigma_y
        and one.opened is other.opened
        and one.config.degrade == other.config.degrade
        and one.method.entry is other.method.entry
        and one.method.options == other.method.options
        and torch.equal(one.method.sigmas, other.method.sigmas)
    )


def solve(tasks: Sequence[Task], device: torch.device) -> Iterator[Stage | Note | Tensor]:
    """All draws of tasks that are `alike`: stages, then one tensor (pictures, draws, C, H, W) on the CPU.

    Each draw has noise of its own, so that batches change no pixel but by the rounding of sums. Out of
    memory: half the batch, and on.
    """
    first = tasks[0]
    A, draws, steps = first.problem.A.on(device), first.config.draws, len(first.method.sigmas) - 1
    items = [(number, draw) for number in range(len(tasks)) for draw in range(draws)]
    y = torch.cat([task.problem.y for task in tasks])
    first.opened.to(device)
    denoise = first.denoiser()
    batch, found = min(together(first, device), len(items)), list[Tensor]()
    while (begun := sum(map(len, found))) < len(items):
        members = items[begun : begun + batch]
        noise = SeededNoise(tasks[number].seed(draw) for number, draw in members)
        problem = Problem(A, y[[number for number, _ in members]].to(device), first.problem.sigma_y)
        full, x, state, step = False, None, None, None
        try:
            step = first.method.step(denoise, problem, noise)
            x = first.method.start(problem, first.method.sigmas[0].to(problem.y), noise)
            for finished, state in enumerate(sample(step, x, first.method.sigmas)):
                x = state.x
                done = begun * steps + finished * len(members)
                yield Stage(done, len(items) * steps, finished, begun == 0, state)
        except (RuntimeError, MemoryError) as error:
            full = machine.out_of_memory(error)
            if not full or len(members) == 1:
                raise
        if full or x is None:
            batch = len(members) // 2
            x = state = step = problem = None  # nothing holds memory any more
            machine.release(device)
            yield Note(f"out of memory with {len(members)} pictures at once; going on with {batch}")
            continue
        found.append(x.cpu())
    yield torch.cat(found).unflatten(0, (len(tasks), draws))
