"""What works through groups of pictures: this process, or a fleet."""

import time
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from undiffuse.app.events import Event, Progress
from undiffuse.app.restore.answers import Answers, Failed, Solved, failures, of_this_picture
from undiffuse.app.restore.fleet import fleet
from undiffuse.app.restore.solve import Stage, solve
from undiffuse.app.restore.task import Priors, Task
from undiffuse.app.restore.trace import Snapshot, snapshot
from undiffuse.config import RestoreConfig


def engine(
    config: RestoreConfig,
    groups: Iterable[list[Task] | Failed],
    priors: Priors,
    device: torch.device,
    total: int,
) -> Answers:
    """Every group solved, in any order. `total` pictures are to come."""
    if config.fleet is None:
        return local(config, groups, device, total)
    return fleet(config, groups, priors, total)


def local(
    config: RestoreConfig, groups: Iterable[list[Task] | Failed], device: torch.device, total: int
) -> Answers:
    """Each group in turn, in this process; what is no group is handed on."""
    behind = 0
    for group in groups:
        if isinstance(group, Failed):
            behind += 1
            yield group
            continue
        label = f"{group[0].config.image.name} ({behind + 1} of {total})"
        try:
            for event in _solved(group, device):
                if isinstance(event, Stage):
                    each = event.total // len(group)  # steps of a picture
                    yield Progress(behind * each + event.done, total * each, label)
                else:
                    yield event
        except (RuntimeError, MemoryError, ValueError) as error:
            if not of_this_picture(error):
                raise
            yield from failures(config, group, error)
        behind += len(group)


def _solved(group: list[Task], device: torch.device) -> Iterator[Event | Stage | Solved]:
    began, trace = time.perf_counter(), list[Snapshot]()
    for event in solve(group, device):
        if isinstance(event, Tensor):
            traces = [tuple(trace), *[()] * (len(group) - 1)]
            yield Solved(group, event, time.perf_counter() - began, traces)
            return
        if isinstance(event, Stage):
            if event.first and event.step == 0:
                trace.clear()  # begun again, with a smaller batch
            taken = snapshot(group[0], event) if event.first else None
            trace += [taken] if taken else []
        yield event
