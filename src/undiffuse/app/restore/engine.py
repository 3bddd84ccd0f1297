"""What works through groups of pictures: this process, or a fleet."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.app import machine
from undiffuse.app.events import Event, Progress
from undiffuse.app.restore.solve import Stage, solve
from undiffuse.app.restore.task import Priors, Task
from undiffuse.app.restore.trace import Snapshot, snapshot
from undiffuse.config import RestoreConfig


@dataclass(frozen=True, slots=True)
class Failed:
    """A picture that is passed over."""

    name: str  # below the folder
    error: str


@dataclass(frozen=True, slots=True)
class Solved:
    """A group with its draws."""

    tasks: list[Task]
    draws: Tensor  # (pictures, K, C, H, W)
    seconds: float
    trace: list[tuple[Snapshot, ...]]  # of each picture; empty but for the first


Answers = Iterator[Event | Solved | Failed]


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
    from undiffuse.app.restore.fleet import fleet

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


def of_this_picture(error: BaseException) -> bool:
    """Whether the next picture may go well all the same: bad input, no memory, no convergence."""
    apart = torch.linalg.LinAlgError  # pyright: ignore[reportPrivateImportUsage]
    return isinstance(error, ValueError | OSError | apart) or machine.out_of_memory(error)


def failures(config: RestoreConfig, group: list[Task], error: BaseException) -> Iterator[Failed]:
    """The pictures of a group that could not be restored."""
    said = "out of memory; use a smaller picture or --window" if machine.out_of_memory(error) else str(error)
    for task in group:
        yield Failed(task.config.image.relative_to(config.image).as_posix(), said)
