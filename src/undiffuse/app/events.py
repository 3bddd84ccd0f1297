"""What a running job says. The command line, the page and a script each show it in their own way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Note:
    """A fact the user should know: what was assumed, estimated or done to the input."""

    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` steps."""

    done: int
    total: int
    label: str


@dataclass(frozen=True, slots=True)
class Saved:
    """A file is complete on disk."""

    path: Path


@dataclass(frozen=True, slots=True)
class Done:
    """The job's result."""

    result: Any


Event = Note | Progress | Saved | Done
