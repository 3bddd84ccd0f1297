"""What an analysis comes to: figures, tables and words. Nothing here knows of files or pages."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of numbers and words; None is a value that there is none of.

    name: stem of its CSV file. columns: with the unit in them where there is one. caption: what the numbers mean.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    caption: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        for row in self.rows:
            assert len(row) == len(self.columns), f"{self.name}: {row} for {self.columns}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, drawn by `draw.finish`.

    name: stem of its files. caption: the paragraph that says how to read it. svg: as `draw.finish` makes it, in the
    colours INK and PAPER. png: black on white, 200 dots an inch. csv: the numbers that were drawn.
    """

    name: str
    title: str
    caption: str
    svg: str
    png: bytes | None = None
    csv: Table | None = None
    wide: bool = False  # takes the whole width of the page

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A further file beside the report, written when the report is.

    name: with its suffix. write: puts it at a path, whole or not at all.
    """

    name: str
    title: str
    write: Callable[[Path], None]

    def __post_init__(self) -> None:
        check_name(Path(self.name).stem)


@dataclass(frozen=True, slots=True)
class Section:
    """All that one analysis says.

    name: as the command's. summary: what was found, in a sentence or two. notes: what to keep in mind. facts: for
    analysis.json. failed: what went wrong, of an analysis that ended early.
    """

    name: str
    title: str
    summary: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    failed: str = ""


def check_name(name: str) -> None:
    """What files and anchors of the page are called; a wrong one is our own mistake."""
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", name), f"'{name}': a name is of a-z, 0-9 and single _"
