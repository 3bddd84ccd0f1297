"""How a number falls with the size of a network, over a range of sizes and between chosen ones."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from undiffuse.analysis.cost import Cost
from undiffuse.metrics.features import Estimate


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """value = factor size^-exponent: twice the size divides the value by 2^exponent; 0: size is of no account."""

    exponent: float
    factor: float
    error: float  # root mean square of ln(value / law), 0 for values that lie on it

    def __call__(self, size: float) -> float:
        return self.factor * size**-self.exponent


def power_law(sizes: Sequence[float], values: Sequence[float]) -> PowerLaw | None:
    """The law of least squares in the logarithms; None for fewer than two sizes or values that are not above 0."""
    pairs = [(math.log(s), math.log(v)) for s, v in zip(sizes, values, strict=True) if s > 0 and v > 0]
    if len(pairs) < len(sizes) or len({x for x, _ in pairs}) < 2:
        return None
    mx, my = (sum(part) / len(pairs) for part in zip(*pairs, strict=True))
    slope = sum((x - mx) * (y - my) for x, y in pairs) / sum((x - mx) ** 2 for x, _ in pairs)
    left = [y - my - slope * (x - mx) for x, y in pairs]
    return PowerLaw(-slope, math.exp(my - slope * mx), math.sqrt(sum(r * r for r in left) / len(left)))


def within(sizes: Sequence[float], low: float, high: float) -> list[int]:
    """Numbers of the sizes from low to high, both included, smallest first."""
    return sorted((i for i, size in enumerate(sizes) if low <= size <= high), key=lambda i: sizes[i])


def nearest(sizes: Sequence[float], wanted: Sequence[float]) -> list[int]:
    """Numbers of the sizes nearest, by ratio, to each wanted one: each once, smallest first."""
    found = {min(range(len(sizes)), key=lambda i: abs(math.log(sizes[i] / want))) for want in wanted}
    return sorted(found, key=lambda i: sizes[i])


def spread_over(sizes: Sequence[float], count: int = 3) -> list[int]:
    """Numbers of `count` sizes, the smallest and the largest among them, as evenly in ratio as they allow."""
    if not sizes or count < 1:
        return []
    low, high = math.log(min(sizes)), math.log(max(sizes))
    return nearest(sizes, [math.exp(low + (high - low) * i / max(1, count - 1)) for i in range(count)])


@dataclass(frozen=True, slots=True)
class Sized:
    """One prior: what it costs, and how far it is from the teacher."""

    label: str
    share: float  # parameters over the teacher's
    cost: Cost  # of one call for one picture, as it is asked (guided: both halves)
    calls: int  # for a picture
    sigmas: Tensor  # (T,), levels that the teacher visits too
    apart: Tensor  # (T, n): distance of the estimates to the teacher's, white - black = 1
    energy: float  # energy distance of halves of the two sets, white - black = 1
    features: Estimate  # kernel distance of the pictures to the reference's
    pictures: Tensor  # (P, C, H, W)

    @property
    def end(self) -> float:
        """Mean distance of the final pictures."""
        return self.apart[-1].mean().item()

    @property
    def seconds(self) -> float:
        """For a picture, drawn alone."""
        return self.cost.seconds * self.calls


@dataclass(frozen=True, slots=True)
class Measured:
    """All of them, the teacher first, then by size."""

    members: tuple[Sized, ...]
    energy_floor: float
    another: float  # distance of two different pictures of the teacher, of one class
    focus: tuple[float, float] | None
    chosen: tuple[int, ...]  # of members
    reference: str  # what features are compared with, in words
    features: str

    @property
    def students(self) -> tuple[Sized, ...]:
        """All but the teacher."""
        return self.members[1:]

    @property
    def focused(self) -> list[Sized]:
        """Students in the focus, all without one; smallest first."""
        if self.focus is None:
            return list(self.students)
        return [self.students[i] for i in within([it.share for it in self.students], *self.focus)]


def law_of(seen: Sequence[Sized], given: Callable[[Sized], float]) -> PowerLaw | None:
    """The law of a measure over sizes; None for fewer than three different sizes, which any law fits."""
    if len({it.share for it in seen}) < 3:
        return None
    return power_law([it.share for it in seen], [given(it) for it in seen])
