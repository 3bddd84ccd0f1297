"""Axes of charts: which values they show, and round numbers along them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

SPANS = 8.0  # largest over smallest, from which an axis of positive values is logarithmic


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high`, to 0..1."""

    low: float
    high: float
    log: bool

    def __call__(self, values: Values) -> Values:
        low, high = self._scaled(np.array([self.low, self.high]))
        return (self._scaled(values) - low) / (high - low)

    def _scaled(self, values: Values) -> Values:
        if not self.log:
            return values
        return np.log10(np.where(values > 0, values, np.nan))

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers, in order: 1, 2 or 5 times powers of ten."""
        return _log_ticks(self.low, self.high, most) if self.log else _ticks(self.low, self.high, most)


def axis(values: Sequence[Values], *, log: bool | None = False, pad: float = 0.0) -> Axis | None:
    """An axis that shows all finite values; None if there are none. `log` None: where it helps."""
    finite = [v[np.isfinite(v)] for v in values]
    all_of = np.concatenate(finite) if finite else np.empty(0)
    if log is None:
        log = bool(all_of.size and all_of.min() > 0 and all_of.max() / all_of.min() >= SPANS)
    if log:
        all_of = all_of[all_of > 0]
    if not all_of.size:
        return None
    low, high = float(all_of.min()), float(all_of.max())
    if log:
        ratio = (high / low) ** pad if high > low else 1.5
        return Axis(low / ratio, high * ratio, True)
    room = (high - low) * pad if high > low else abs(low) * 0.1 or 1.0
    return Axis(low - room, high + room, False)


def _ticks(low: float, high: float, most: int) -> list[float]:
    for exponent in range(math.floor(math.log10((high - low) / most)), 400):
        for digit in (1, 2, 5):
            step = digit * 10.0**exponent
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first < most:
                return [float(f"{n * step:.12g}") for n in range(first, last + 1)]
    raise AssertionError("no step is too wide")


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [float(f"{digit}e{d}") for d in decades for digit in digits]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= most:
            break
    found = found[:: max(1, math.ceil(len(found) / most))]
    return found if len(found) >= 2 else _ticks(low, high, most)


def shown(value: float) -> str:
    """A number as short as it can be: 12k, 0.05, 3e-4."""
    if value and not 1e-3 <= abs(value) < 1e12:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return f"{value / size:.6g}{unit}"
    return f"{value:.6g}"
