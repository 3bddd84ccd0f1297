"""What was found, as points of quality and cost, and which of them are on a front."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from undiffuse.app.bench.summary import interval
from undiffuse.app.pareto.front import front


@dataclass(frozen=True, slots=True)
class Measure:
    """One quality of one task."""

    task: str
    metric: str
    title: str  # with its unit
    higher: bool  # whether more is better

    @property
    def better(self) -> str:
        """Which way is up, in words."""
        return "higher is better" if self.higher else "lower is better"


@dataclass(frozen=True, slots=True)
class Point:
    """One prior with one number of calls, by one measure. A value that is NaN diverged."""

    measure: Measure
    prior: str
    role: str
    how: str  # sampler or algorithm and the levels, in words
    levels: int
    guidance: float  # that was asked for
    n: int  # pictures
    value: float
    low: float  # 95 %; NaN where there is no interval
    high: float
    calls: float  # of the network for a picture
    parameters: int
    flop_of_call: int
    seconds: float  # of a picture
    cpu: float
    memory: int  # bytes at the peak of one question
    each: tuple[float, ...] = ()  # of the pictures, the same ones for all priors; () of distances of sets
    on: frozenset[str] = frozenset()  # costs against which it is on the front

    @property
    def flop(self) -> float:
        """Of a picture."""
        return self.flop_of_call * self.calls

    def cost(self, name: str) -> float:
        """One of COSTS."""
        return float(getattr(self, name))


COSTS = {
    "calls": "network calls",
    "parameters": "parameters",
    "flop": "FLOP",
    "seconds": "seconds",
}  # all but parameters of a picture


def with_fronts(points: Sequence[Point]) -> list[Point]:
    """The same, each with the costs against which it is on the front of its measure; in the order of measures."""
    found: list[Point] = []
    for measure in dict.fromkeys(point.measure for point in points):
        some = [point for point in points if point.measure == measure]
        values = [point.value for point in some]
        fronts = {
            name: front([point.cost(name) for point in some], values, higher=measure.higher) for name in COSTS
        }
        for i, point in enumerate(some):
            found.append(replace(point, on=frozenset(name for name in COSTS if fronts[name][i])))
    return found


def best(points: Sequence[Point]) -> Point | None:
    """The point of the best value among those of one measure; None if all diverged."""
    known = [point for point in points if math.isfinite(point.value)]
    sign = -1 if known and known[0].measure.higher else 1
    return min(known, key=lambda point: (sign * point.value, point.calls, point.parameters), default=None)


def alike(point: Point, top: Point) -> bool:
    """Whether pictures do not tell the two apart: 0 is in the 95 % interval of the mean of their differences.

    Of distances of sets, which have no differences by picture: the point lies in the interval of the other.
    """
    if point is top:
        return True
    if not (point.each and len(point.each) == len(top.each)):
        return math.isfinite(point.value) and top.low <= point.value <= top.high
    found = interval([a - b for a, b in zip(point.each, top.each, strict=True)])
    return found is not None and found.low <= 0 <= found.high
