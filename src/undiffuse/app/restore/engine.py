"""What works through groups of pictures: this process, or a fleet."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.app.events import Event, Progress
from undiffuse.app.restore.solve import Stage, solve
from undiffuse.app.restore.task import Task
from undiffuse.app.restore.trace import Snapshot, snapshot


@dataclass(frozen=True, slots=True)
class Solved:
    """A group with its draws."""

    tasks: list[Task]
    draws: Tensor  # (pictures, K, C, H, W)
    seconds: float
    trace: list[tuple[Snapshot, ...]]  # of each picture; empty but for the first


def local(
    groups: Iterable[list[Task] | tuple[str, str]], device: torch.device, total: int
) -> Iterator[Event | Solved | tuple[str, str]]:
    """Each group in turn in this process; what is no group is handed on. `total` pictures are to come."""
    behind = 0
    for group in groups:
        if isinstance(group, tuple):
            behind += 1
            yield group
            continue
        began, trace = time.perf_counter(), list[Snapshot]()
        for event in solve(group, device):
            if isinstance(event, Stage):
                each = event.total // len(group)  # steps of a picture
                label = f"{group[0].config.image.name} ({behind + 1} of {total})"
                yield Progress(behind * each + event.done, total * each, label)
                taken = snapshot(group[0], event) if event.first else None
                trace += [taken] if taken else []
            elif isinstance(event, Tensor):
                traces = [tuple(trace), *[()] * (len(group) - 1)]
                yield Solved(group, event, time.perf_counter() - began, traces)
            else:
                yield event
        behind += len(group)
