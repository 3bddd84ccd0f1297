"""What comes back of a group of pictures: its draws, or why there are none."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.app import machine
from undiffuse.app.events import Event
from undiffuse.app.restore.task import Task
from undiffuse.app.restore.trace import Snapshot
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


def of_this_picture(error: BaseException) -> bool:
    """Whether the next picture may go well all the same: bad input, no memory, no convergence."""
    apart = torch.linalg.LinAlgError  # pyright: ignore[reportPrivateImportUsage]
    return isinstance(error, ValueError | OSError | apart) or machine.out_of_memory(error)


def failures(config: RestoreConfig, group: list[Task], error: BaseException) -> Iterator[Failed]:
    """The pictures of a group that could not be restored."""
    said = "out of memory; use a smaller picture or --window" if machine.out_of_memory(error) else str(error)
    for task in group:
        yield Failed(task.config.image.relative_to(config.image).as_posix(), said)
