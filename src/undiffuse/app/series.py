"""Long tables of numbers as few points: a CSV of any length in memory for a few hundred rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

POINTS = 600  # of a curve: more than a screen shows
HUGE = 1e100  # larger numbers, infinities and what is no number are gaps
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """Columns by name, and of each point the mean, the least and the largest of the rows it stands for."""

    mean: dict[str, Values]
    low: dict[str, Values]
    high: dict[str, Values]
    last: dict[str, float]  # the last row as it is
    climbed: dict[str, float]  # the way up of a column that starts again at 0 with each process


def read_series(path: Path, points: int = POINTS) -> Series | None:
    """A table with a line of names, at most `points` points; None without the file or without a complete row.

    Rows that are torn (no end of line, or another number of fields) are passed over.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        count = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b"")) - 1
    names, rows = read_table(path)
    width = max(1, -(-count // points))
    last, climbed = np.zeros(len(names)), np.zeros(len(names))
    found: list[tuple[Values, Values, Values]] = []
    while block := list(islice(rows, width)):
        table = _sane(np.array(block))
        steps = np.diff(table, axis=0, prepend=last[None])
        climbed += np.nansum(np.where(steps < 0, table, steps), axis=0)
        last = table[-1]
        found.append(summary(table))
    if not found:
        return None
    mean, low, high = (dict(zip(names, np.stack(part, 1), strict=True)) for part in zip(*found, strict=True))
    ends = (dict(zip(names, part.tolist(), strict=True)) for part in (last, climbed))
    return Series(mean, low, high, *ends)


def read_table(path: Path) -> tuple[list[str], Iterator[list[float]]]:
    """The names of the columns, and the complete rows; what is no number is NaN."""
    lines = complete_lines(path)
    names = next(lines, [])
    return names, (_numbers(row) for row in lines if len(row) == len(names))


def thinned(table: Values, points: int = POINTS) -> tuple[Values, Values, Values]:
    """Mean, least and largest of consecutive rows (n, columns), each (at most `points`, columns)."""
    width = -(-len(table) // points)
    parts = [summary(_sane(table[i : i + width])) for i in range(0, len(table), width)]
    mean, low, high = (np.stack(part) for part in zip(*parts, strict=True))
    return mean, low, high


def summary(rows: Values) -> tuple[Values, Values, Values]:
    """Mean, least and largest of each column, of what is there; NaN if nothing is."""
    there = np.isfinite(rows)
    count = there.sum(0)
    with np.errstate(invalid="ignore"):
        mean = np.where(there, rows, 0).sum(0) / np.where(count, count, np.nan)
    low = np.where(there, rows, np.inf).min(0)
    high = np.where(there, rows, -np.inf).max(0)
    return mean, np.where(count, low, np.nan), np.where(count, high, np.nan)


def smooth(values: Values, width: int) -> Values:
    """The mean of up to `width` neighbours; gaps stay gaps.

    Fewer near the start, as many on both sides, or a steep first fall would be blurred; at the end what is there.
    """
    there = np.isfinite(values)
    half, at = width // 2, np.arange(len(values))
    near = np.minimum(at // 3, half)
    start, stop = at - near, np.minimum(at + near + 1, len(values))
    sums, counts = (
        np.concatenate([[0.0], np.cumsum(part)])
        for part in (np.where(there, values, 0.0), there.astype(float))
    )
    with np.errstate(invalid="ignore"):
        return np.where(there, (sums[stop] - sums[start]) / (counts[stop] - counts[start]), np.nan)


def evenly(count: int, most: int) -> Sequence[int]:
    """At most `most` of the numbers 0..count-1, with both ends."""
    return [round(float(i)) for i in np.linspace(0, count - 1, min(count, most))]


def _sane(table: Values) -> Values:
    return np.where(np.abs(table) <= HUGE, table, np.nan)


def complete_lines(path: Path) -> Iterator[list[str]]:
    """The fields of each line that has its end; none without the file."""
    if not path.is_file():
        return
    with path.open(newline="\n", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.endswith("\n"):
                yield line.rstrip("\r\n").split(",")


def _numbers(row: list[str]) -> list[float]:
    try:
        return list(map(float, row))
    except ValueError:
        return [_number(field) for field in row]


def _number(field: str) -> float:
    try:
        return float(field)
    except ValueError:
        return float("nan")
