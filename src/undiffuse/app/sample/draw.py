"""Batches of pictures, from where they begin to the last level."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from undiffuse.app import machine
from undiffuse.app.events import Event, Note, Progress
from undiffuse.app.sample import path as paths
from undiffuse.app.sample.plan import Plan, batch_size
from undiffuse.core.loop import sample
from undiffuse.core.state import State


@dataclass(frozen=True, slots=True)
class Drawn:
    """A batch."""

    members: list[int]
    pictures: Tensor  # (B, C, H, W), on the CPU
    path: dict[int, Tensor]  # by the number of the state: those whose way is kept


def with_ends(plan: Plan, device: torch.device) -> Iterator[Event | Plan]:
    """The plan that knows the noises its pictures lie between, after progress; as it is, if they do not."""
    if plan.start is None or plan.start.option == "start":
        yield plan
        return
    same = [0] * (1 if plan.start.pictures is None else len(plan.start.pictures))  # one class for both ends
    step, denoise = plan.step(same, plan.noise(same), device), plan.denoise(same, device)
    for event in plan.start.ends(step, denoise, plan.sigmas, plan.shape, device):
        yield replace(plan, ends=event) if isinstance(event, Tensor) else event


def batches(
    plan: Plan, members: list[int], device: torch.device, kept: Collection[int] = ()
) -> Iterator[Event | Drawn]:
    """Progress and pictures; of those in `kept` also the way. Out of memory: again with half the batch."""
    size, done, steps = batch_size(plan, device), 0, len(plan.sigmas) - 1
    wanted = paths.moments(plan) if kept else set[int]()
    while done < len(members):
        part = members[done : done + size]
        rows = [row for row, member in enumerate(part) if member in kept]
        full, pictures, state, path = False, None, None, dict[int, Tensor]()
        try:
            for finished, state in enumerate(_states(plan, part, device)):
                pictures = state.x
                if rows and finished in wanted:
                    path[finished] = paths.seen(state, rows)
                yield Progress(done * steps + finished * len(part), len(members) * steps, "drawing")
        except (RuntimeError, MemoryError) as error:
            full = machine.out_of_memory(error)
            if not full or len(part) == 1:
                raise
        if full:
            size = len(part) // 2
            pictures = state = None  # nothing holds memory any more
            machine.release(device)
            yield Note(f"out of memory with {len(part)} pictures at once; going on with {size}")
            continue
        assert pictures is not None
        yield Drawn(part, _finite(plan, part, pictures.cpu()), path)
        done += len(part)


def _states(plan: Plan, members: list[int], device: torch.device) -> Iterator[State]:
    noise = plan.noise(members)
    x = plan.begin(members, noise).to(device)
    yield from sample(plan.step(members, noise, device), x, plan.sigmas)


def _finite(plan: Plan, members: list[int], pictures: Tensor) -> Tensor:
    bad = ~pictures.isfinite().flatten(1).all(1)
    if bad.any():
        raise ValueError(
            f"picture {members[int(bad.nonzero()[0])]} is not finite: {plan.entry.name} diverged or the "
            "prior is broken; use more steps, another sampler or --clip"
        )
    return pictures
