"""A restoration by singular-value bands: what is well measured, what is hardly measured, and what is not."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from undiffuse.core.devices import wide
from undiffuse.operators.base import LinearOperator, Operator, SVDOperator

SAME = 1e-5  # of the largest singular value: nearer ones are one, for they differ by rounding


@dataclass(frozen=True, slots=True)
class Band:
    """Modes of like strength. high = low = 0: those that are not `seen`, the null space and what rounding hides."""

    name: str
    low: float  # singular values
    high: float
    modes: int

    @property
    def unseen(self) -> bool:
        """Whether its modes cannot be told from what the data say nothing about."""
        return self.high == 0


class Split(Protocol):
    """Pictures taken apart by what A does to them. Every answer is (B, K) float64, a column a band."""

    bands: tuple[Band, ...]

    def inner(self, a: Tensor, b: Tensor, /) -> Tensor:
        """<a, b> of pictures (B, C, H, W) within each band; the sum over bands is that of all pixels."""
        ...

    def misfit(self, x: Tensor, y: Tensor, /) -> Tensor:
        """|U^T y - s V^T x|^2 within each band: the part of |y - A x|^2 that A can reach; 0 where nothing is seen."""
        ...


def split(A: Operator, count: int = 4) -> Split:
    """By quantiles of the singular values, strongest first, and the null space last.

    The seen modes are cut into `count` groups of about the same number; equal singular values stay together, so that
    there may be fewer. Without an SVD: what A sees, A^+ A x, and the rest. Not linear: one band with everything.
    """
    if count < 1:
        raise ValueError(f"{count} bands; expected at least 1")
    if isinstance(A, SVDOperator):
        return BySingularValue(A, count)
    return ByRange(A) if isinstance(A, LinearOperator) else Whole(A)


class BySingularValue:
    """With an SVD: coefficients of V^T x."""

    def __init__(self, A: SVDOperator, count: int):
        self.A = A
        shape = A.vt(A.s.real.new_zeros(1, *A.in_shape)).shape[1:]
        s = wide(A.s).expand(shape)
        seen = A.seen.to(s.device).expand(shape)
        self.index, edges = _grouped(s, seen, count)
        ranges = [*zip(_names(edges), edges, strict=True)]
        if not seen.all():
            weakest = s[seen].min().item() if seen.any() else 0.0
            named = "null space" if (s[~seen] == 0).all() else f"s below {_number(weakest)}"
            ranges.append((named, (0.0, 0.0)))
        sizes = torch.bincount(self.index.flatten(), minlength=len(ranges)).tolist()
        self.bands = tuple(
            Band(name, *edge, modes) for (name, edge), modes in zip(ranges, sizes, strict=True)
        )

    def inner(self, a: Tensor, b: Tensor, /) -> Tensor:
        """See `Split`."""
        product = self.A.vt(a) * self.A.vt(b).conj()
        return self._summed(product.real)

    def misfit(self, x: Tensor, y: Tensor, /) -> Tensor:
        """See `Split`."""
        left = torch.where(self.A.seen, self.A.ut(y) - self.A.s * self.A.vt(x), 0)
        return self._summed(left.abs().square())

    def _summed(self, values: Tensor) -> Tensor:
        flat = wide(values).flatten(1)
        index = self.index.flatten().to(flat.device)
        total = flat.new_zeros(len(flat), len(self.bands))
        return total.index_add_(1, index, flat)


class ByRange:
    """Without an SVD: what A sees and what it does not, by its pseudo-inverse."""

    def __init__(self, A: LinearOperator):
        self.A = A
        n, m = math.prod(A.in_shape), A.measurements
        seen = Band("seen", math.nan, math.nan, min(n, m))  # the rank, where no measurement repeats another
        self.bands = (seen, Band("null space", 0.0, 0.0, n - m)) if n > m else (seen,)

    def inner(self, a: Tensor, b: Tensor, /) -> Tensor:
        """See `Split`."""
        whole = _dot(a, b)
        if len(self.bands) == 1:
            return whole[:, None]
        seen = _dot(self.A.pinv(self.A(a)), b)  # a projection, so that one side is enough
        return torch.stack([seen, whole - seen], 1)

    def misfit(self, x: Tensor, y: Tensor, /) -> Tensor:
        """See `Split`: all of it, as no mode is told from another."""
        left = _dot(*[y - self.A(x)] * 2)
        return torch.stack([left, torch.zeros_like(left)][: len(self.bands)], 1)


class Whole:
    """Not linear: no modes."""

    def __init__(self, A: Operator):
        self.A, self.bands = A, (Band("all", math.nan, math.nan, math.prod(A.in_shape)),)

    def inner(self, a: Tensor, b: Tensor, /) -> Tensor:
        """See `Split`."""
        return _dot(a, b)[:, None]

    def misfit(self, x: Tensor, y: Tensor, /) -> Tensor:
        """See `Split`."""
        return _dot(*[y - self.A(x)] * 2)[:, None]


@dataclass(frozen=True, slots=True)
class Parts:
    """Two moves of one picture, by band. All (B, K) float64; nan where there is nothing to measure.

    prior, data: root mean square of a coefficient, [-1, 1] units, 0 for no move; on an orthonormal basis the same as of
    a pixel. cosine: between the two moves, -1 (the data takes back what the prior did) to 1 (they agree).
    share: |data|^2 / (|prior|^2 + |data|^2), 0 (the prior alone moved it) to 1 (the data alone).
    """

    prior: Tensor
    data: Tensor
    cosine: Tensor
    share: Tensor


def compared(by: Split, prior: Tensor | None, data: Tensor, *, floor: float = 0.0) -> Parts:
    """The moves (B, C, H, W) by bands. prior = None: there was none, before the first estimate.

    floor: root mean square of a coefficient, [-1, 1] units, below which a move is rounding, and counts as none.
    """
    data2 = by.inner(data, data)
    modes = _sizes(by, data2)
    data2 = _above(data2, floor**2 * modes)
    if prior is None:
        nothing = torch.full_like(data2, math.nan)
        return Parts(nothing, (data2 / modes).sqrt(), nothing, nothing)
    prior2, both = _above(by.inner(prior, prior), floor**2 * modes), by.inner(prior, data)
    cosine = torch.where(
        (prior2 > 0) & (data2 > 0), (both / (prior2 * data2).sqrt()).clamp(-1, 1), math.nan
    )  # no direction
    return Parts((prior2 / modes).sqrt(), (data2 / modes).sqrt(), cosine, data2 / (prior2 + data2))


def _above(squares: Tensor, limit: Tensor) -> Tensor:
    return torch.where(squares > limit, squares, 0.0)


def residual(by: Split, x: Tensor, y: Tensor, sigma_y: float) -> Tensor:
    """(B, K): |y - A x|^2 over what noise alone leaves, modes sigma_y^2: 1 for the true picture, on average.

    Without noise the root mean square, [-1, 1] units. nan in the null space.
    """
    found = by.misfit(x, y)
    found = found / _sizes(by, found)
    found = found / sigma_y**2 if sigma_y > 0 else found.sqrt()
    unseen = torch.tensor([band.unseen for band in by.bands], device=found.device)
    return torch.where(unseen, math.nan, found)


def deviation(by: Split, x: Tensor, truth: Tensor) -> Tensor:
    """(B, K): root mean square of a coefficient of x - truth, [-1, 1] units; 0 for identical pictures."""
    d = x - truth
    found = by.inner(d, d).clamp(min=0)
    return (found / _sizes(by, found)).sqrt()


def _sizes(by: Split, like: Tensor) -> Tensor:
    return torch.tensor([band.modes for band in by.bands], dtype=torch.float64, device=like.device)


def _grouped(s: Tensor, seen: Tensor, count: int) -> tuple[Tensor, list[tuple[float, float]]]:
    """The band of each mode, strongest 0, unseen ones last; and (lowest, highest) s of each band that is seen."""
    if not seen.any():
        return torch.zeros(s.shape, dtype=torch.long), []
    rank = (s / s.max() / SAME).round()
    ordered = rank[seen].sort().values
    at = [len(ordered) * k // count for k in range(1, count)]
    cuts = ordered[at].unique() if at else ordered[:0]
    cuts = cuts[cuts > ordered[0]]
    weakest_first = torch.bucketize(rank, cuts, right=True)
    index = torch.where(seen, len(cuts) - weakest_first, len(cuts) + 1)
    edges = [(s[index == band].min().item(), s[index == band].max().item()) for band in range(len(cuts) + 1)]
    same = 2 * SAME * s.max().item()
    return index, [(high, high) if high - low <= same else (low, high) for low, high in edges]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """(B,) float64."""
    return (wide(a) * wide(b)).flatten(1).sum(1)


def _names(edges: list[tuple[float, float]]) -> list[str]:
    """By their singular values, in two digits or as many as tell them apart."""
    names: list[str] = []
    for digits in range(2, 8):
        told = [tuple(_number(value, digits) for value in edge) for edge in edges]
        names = [
            f"s {low} to {high}" if a < b else f"s {low}"
            for (low, high), (a, b) in zip(told, edges, strict=True)
        ]
        if len(set(names)) == len(names) and all(
            a == b or low != high for (low, high), (a, b) in zip(told, edges, strict=True)
        ):
            break
    return names


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}g}"
