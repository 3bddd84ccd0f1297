"""Means of a table, and paired differences with their confidence intervals."""

import math
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from undiffuse.app.bench.table import METRICS, OK, Row

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """The mean of n values and the half width of its confidence interval; n = 1 has none (NaN)."""

    mean: float
    half: float
    n: int

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def __str__(self) -> str:
        return f"{self.mean:+.2f} +-{self.half:.2f}" if self.n > 1 else f"{self.mean:+.2f} (n = 1)"


@dataclass(frozen=True, slots=True)
class Line:
    """One method on one task and noise level: means over its pictures."""

    task: str
    noise: float
    method: str
    n: int
    means: dict[str, float]  # of METRICS, as far as they are known
    seconds: float
    calls: float
    memory: float | None  # the largest
    difference: (
        Interval | None
    )  # of PSNR to the reference method on the same measurements; None: there is none
    reference: bool = False

    def cost(self) -> tuple[str, str, str, str, str]:
        """Difference, pictures, seconds, calls and megabytes as a table shows them."""
        told = "reference" if self.reference else "" if self.difference is None else str(self.difference)
        memory = "" if self.memory is None else f"{self.memory:.0f}"
        return told, str(self.n), f"{self.seconds:.2f}", f"{self.calls:g}", memory


@dataclass(frozen=True, slots=True)
class Summary:
    """Lines by task and noise, best PSNR first, and why some methods are missing."""

    reference: str
    lines: tuple[Line, ...]
    impossible: tuple[tuple[str, float, str, str], ...]  # task, noise, method, why

    def missing(self, methods: Collection[str]) -> list[str]:
        """Which of `methods` have no answer where, and why: a line for each reason."""
        found: dict[tuple[str, str], list[str]] = {}
        for task, noise, method, why in self.impossible:
            if method in methods:
                found.setdefault((method, why), []).append(f"{task} at {noise:g}")
        return [f"{method}, {', '.join(places)}: {why}" for (method, why), places in found.items()]


def summarise(rows: Iterable[Row], reference: str) -> Summary:
    """All rows by task, noise and method; differences in PSNR to the method labelled `reference`."""
    groups: dict[tuple[str, float], dict[str, list[Row]]] = {}
    impossible: dict[tuple[str, float, str, str], None] = {}
    for row in rows:
        if row.status == OK:
            groups.setdefault((row.task, row.noise), {}).setdefault(row.method, []).append(row)
        else:
            impossible[row.task, row.noise, row.method, row.status] = None
    lines: list[Line] = []
    for (task, noise), methods in groups.items():
        base = {row.measurement: row for row in methods.get(reference, [])}
        found = [_line(task, noise, name, own, base, name == reference) for name, own in methods.items()]
        lines += sorted(found, key=lambda line: -line.means.get("psnr", -math.inf))
    return Summary(reference, tuple(lines), tuple(impossible))


def _line(task: str, noise: float, name: str, rows: list[Row], base: dict[str, Row], reference: bool) -> Line:
    means: dict[str, float] = {}
    for metric in METRICS:
        values = [value for row in rows if (value := getattr(row, metric)) is not None]
        if values:
            means[metric] = statistics.fmean(values)
    pairs = [
        row.psnr - other.psnr
        for row in rows
        if (other := base.get(row.measurement)) and row.psnr is not None and other.psnr is not None
    ]
    memory = [row.memory for row in rows if row.memory is not None]
    return Line(
        task, noise, name, len(rows), means,
        seconds=statistics.fmean(row.seconds or 0.0 for row in rows),
        calls=statistics.fmean(row.calls or 0 for row in rows),
        memory=max(memory, default=None),
        difference=None if reference else interval(pairs),
        reference=reference,
    )  # fmt: skip


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """mean +- t s / sqrt(n), Student's t with n - 1 degrees of freedom, over the finite values; None without any.

    Pictures are the sample: it says what would change with other pictures of this kind, not with other noise.
    """
    finite = [value for value in values if math.isfinite(value)]
    n = len(finite)
    if n < 2:
        return Interval(finite[0], math.nan, 1) if finite else None
    spread = statistics.stdev(finite) / n**0.5
    return Interval(statistics.fmean(finite), student_quantile((1 + confidence) / 2, n - 1) * spread, n)


def student_quantile(p: float, freedom: int) -> float:
    """t with P(T <= t) = p for p in (0.5, 1), by bisection to a relative 1e-12."""
    if not 0.5 < p < 1 or freedom < 1:
        raise ValueError(
            f"quantile {p} of {freedom} degrees of freedom; expected p in (0.5, 1) and 1 or more"
        )
    low, high = 0.0, 1.0
    while _within(high, freedom) < 2 * p - 1:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 2 * p - 1 else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """P(|T| <= t): the finite sums of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4."""
    angle = math.atan(t / freedom**0.5)
    cos2, even = math.cos(angle) ** 2, freedom % 2 == 0
    term = 1.0 if even else math.cos(angle)
    total = term if freedom > 1 else 0.0
    for k in range(2 if even else 3, freedom - 1, 2):
        term *= cos2 * (k - 1) / k
        total += term
    return math.sin(angle) * total if even else 2 / math.pi * (angle + math.sin(angle) * total)
