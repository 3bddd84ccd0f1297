"""Are the error bars right? Where the truth stands among draws of a posterior."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Curve:
    """Nominal against measured coverage. Of draws from the posterior the two are equal, up to chance."""

    nominal: tuple[float, ...]  # share of the middle draws' places, rising to 1
    measured: tuple[float, ...]  # share of the pixels whose truth has one of these places
    draws: int

    @property
    def gap(self) -> float:
        """The mean distance of the curve from the diagonal, 0 for draws of the posterior; half at the most."""
        return sum(abs(m - n) for m, n in zip(self.measured, self.nominal, strict=True)) / len(self.nominal)

    @property
    def lean(self) -> float:
        """The mean of measured - nominal: below 0 the error bars are too narrow, above 0 too wide."""
        return sum(m - n for m, n in zip(self.measured, self.nominal, strict=True)) / len(self.nominal)


def places(draws: Tensor, truth: Tensor) -> Tensor:
    """(K + 1,) float64: the share of pixels that have k draws below their truth.

    draws (K, ...), truth (...). Among K draws of the posterior the truth has any of the K + 1 places, all as likely,
    for it is one more draw: this is exact at any K, as interpolated quantiles are not (Talagrand's rank histogram). A
    truth that equals t draws has t + 1 places and is counted in equal parts in all of them.
    """
    if draws.ndim != truth.ndim + 1 or draws.shape[1:] != truth.shape:
        raise ValueError(
            f"draws {tuple(draws.shape)}, truth {tuple(truth.shape)}; expected (K, ...) and (...)"
        )
    K = len(draws)
    below, level = (torch.zeros(truth.shape, dtype=torch.long, device=truth.device) for _ in range(2))
    for draw in draws:
        below += draw < truth
        level += draw == truth
    histogram = torch.zeros(K + 1, dtype=torch.float64)
    for ties in level.unique().tolist():
        first = torch.bincount(below[level == ties].cpu(), minlength=K + 1).double()
        for shift in range(ties + 1):
            histogram[shift:] += first[: K + 1 - shift] / (ties + 1)
    return histogram / truth.numel()


def curve(histogram: Tensor | Sequence[float]) -> Curve:
    """The coverage of central intervals: of every number of places that leaves as many below as above."""
    shares = torch.as_tensor(histogram, dtype=torch.float64)
    count = len(shares)  # K + 1
    inside = range(count % 2 or 2, count + 1, 2)
    low = [(count - n) // 2 for n in inside]
    measured = [shares[a : a + n].sum().item() for a, n in zip(low, inside, strict=True)]
    return Curve(tuple(n / count for n in inside), tuple(measured), count - 1)


def covered(histogram: Tensor, level: float) -> float:
    """The share of pixels in the central interval that holds nearest `level` of the K + 1 places."""
    found = curve(histogram)
    at = min(range(len(found.nominal)), key=lambda i: abs(found.nominal[i] - level))
    return found.measured[at]
