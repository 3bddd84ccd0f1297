"""Search for the noise levels of a grid: three numbers, a coordinate at a time."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

STEPS = {"top": 0.7, "bottom": 0.7, "bend": 0.5}  # first step of each, in logarithms: a factor of 2, 2, 1.6


@dataclass(frozen=True, slots=True)
class Bent:
    """A grid made from another: ln sigma_i = top + (bottom - top) u_i^exp(bend), u_i the place of level i in the first.

    u runs from 0 at the first grid's highest level to 1 at its lowest, in ln sigma; `bent(base)` gives the
    first grid itself. A positive bend crowds levels at the top. Logarithms of sigma in [-1, 1] units.
    """

    places: tuple[float, ...]
    top: float
    bottom: float
    bend: float = 0.0

    def levels(self) -> tuple[float, ...]:
        """Levels above 0, falling."""
        power = math.exp(self.bend)
        return tuple(math.exp(self.top + (self.bottom - self.top) * u**power) for u in self.places)


def bent(base: Tensor) -> Bent:
    """The grid `base` (n + 1,), which ends at 0, as the start of a search."""
    logs = [math.log(level) for level in base[:-1].tolist()]
    span = logs[0] - logs[-1]
    return Bent(tuple((logs[0] - log) / span for log in logs) if span else (0.0,), logs[0], logs[-1])


@dataclass(frozen=True, slots=True)
class Tried:
    """One evaluation: the grid, its score, and the best so far."""

    grid: Bent
    score: float
    best: Bent
    best_score: float


def climb(
    start: Bent, score: Callable[[Bent], float], low: float, high: float, rounds: int
) -> Iterator[Tried]:
    """Pattern search (Hooke and Jeeves 1961) for the highest score, each coordinate up and down by a step.

    A round in which nothing is better halves the steps; `rounds` of those end the search, which is the same
    each time. Levels stay within [low, high], and the lowest below the highest.
    """
    names = ["top"] if len(start.places) == 1 else list(STEPS)
    best, best_score, size = start, score(start), 1.0
    yield Tried(best, best_score, best, best_score)
    while rounds:
        before = best_score
        for name in names:
            for sign in (1, -1):
                trial = replace(best, **{name: getattr(best, name) + sign * size * STEPS[name]})
                if not _allowed(trial, low, high):
                    continue
                value = score(trial)
                better = value > best_score
                if better:
                    best, best_score = trial, value
                yield Tried(trial, value, best, best_score)
                if better:
                    break
        if best_score <= before:
            size, rounds = size / 2, rounds - 1


def _allowed(grid: Bent, low: float, high: float) -> bool:
    levels = grid.levels()
    falling = all(a > b * (1 + 1e-6) for a, b in zip(levels, levels[1:], strict=False))
    return falling and low * (1 - 1e-9) <= levels[-1] and levels[0] <= high * (1 + 1e-9)
