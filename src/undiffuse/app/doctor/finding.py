"""One line of the doctor's, and its numbers as text."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "slow", "missing", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact with its verdict. Broken: nothing works without it. Else the advice says what to do; ok has none."""

    name: str
    value: str
    verdict: Verdict = "ok"
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.value}): {self.advice}"


def gigabytes(n: int | None) -> str:
    """Of 2^30 bytes."""
    return "unknown" if n is None else f"{n / 2**30:.1f} GB"


def times(ratio: float) -> str:
    """A ratio of speeds, to be followed by what it is compared with."""
    if ratio < 1:
        return f"{1 / ratio:.{0 if ratio < 0.1 else 1}f} times slower than"
    return f"{ratio:.{0 if ratio > 10 else 1}f} times as fast as"
