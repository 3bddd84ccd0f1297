"""What was done to a measured picture before we got it: rounding, clipping, a curve that bends its noise."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (tolist and torch.special are untyped)

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from undiffuse.restore.noise_level import estimate_sigma
from undiffuse.restore.trend import Trend, noise_trend, trended

VALUES = 4_000_000  # of one picture, looked at for repeated values
FEWEST = 32  # distinct values: fewer are a drawing, not a rounded photograph
LEAST_SHARE = 0.002  # of the values at one end: less moves no noise level by a percent
NEAR = 1.645  # deviations from an end, within which more than 5 % of the noise is cut off


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What rounding, clipping and a curve have done to the noise of a picture. Levels in [-1, 1] units."""

    sigma: float  # where nothing is clipped
    effective: float  # root mean square over the picture, clipping and trend counted in
    step: float  # between the values that really occur; 0.0 if they do not repeat
    quantum: float  # between the values that the file could hold; 0.0 for floats
    black: float  # share of the values piled up at the dark end
    white: float
    clipped: float  # share of the values that lose more than 5 % of their noise to an end
    bias: float  # mean of (measured - clean) over those values, from clipping alone
    trend: Trend | None  # None if the picture has too few smooth blocks to tell

    @property
    def rounding(self) -> float:
        """Standard deviation of the rounding error, step / sqrt(12) (Widrow 1956)."""
        return self.step / math.sqrt(12)

    def lines(self) -> list[str]:
        """One sentence for each finding, in units where white - black = 1; none if nothing was found."""
        found: list[str] = []
        if self.step > 1.5 * self.quantum and self.step > 0:
            found.append(self._rounding_line())
        if self.clipped > 0:
            found.append(self._clipping_line())
        if self.trend is not None and self.trend.clear:
            found.append(self._trend_line(self.trend))
        return found

    def _rounding_line(self) -> str:
        held = "floats" if self.quantum == 0 else f"{math.log2(2 / self.quantum + 1):.0f} bits"
        return (
            f"the file holds {held}, but its values only take steps of 1/{2 / self.step:.0f}: "
            f"rounding is noise of {self.rounding / 2:.2g}"
        )

    def _clipping_line(self) -> str:
        ends = {"black": self.black, "white": self.white}
        piles = " and ".join(f"{share:.2g} % at {end}" for end, share in _percent(ends).items())
        return (
            f"clipped: {piles}; the noise of {100 * self.clipped:.2g} % of the values is one-sided and moves "
            f"their mean by {self.bias / 2:+.2g}; it is {self.sigma / 2:.3g} elsewhere, "
            f"{self.effective / 2:.3g} over the whole picture"
        )

    def _trend_line(self, trend: Trend) -> str:
        dark, middle, bright = (level / 2 for level in trend.noise)
        way, cause = (
            ("rises", "photon noise") if trend.ratio > 1 else ("falls", "a gamma curve after the noise")
        )
        return (
            f"the noise {way} with brightness, as {cause} leaves it: {dark:.2g} in the dark, {middle:.2g} in the "
            f"middle, {bright:.2g} in the bright parts, {'' if trend.ratio > 1 else 'at least '}"
            f"{self.effective / 2:.2g} over all; one level fits none of them, and a blur before such a curve acted "
            "on other values than these"
        )


def diagnose(
    y: Tensor, *, quantum: float = 0.0, sigma: float | None = None, support: Tensor | None = None
) -> Diagnosis:
    """Look at a measured picture y (C, H, W) in [-1, 1] for what breaks the model of white noise of one level.

    `quantum`: the step of the file's own values, `Picture.quantum`. `sigma`: the noise level if it is known,
    else it is estimated where nothing is clipped. `support` (broadcasts to y; 1 = measured).
    Clipping is a pile of equal values at the least or greatest value of a channel, above its neighbours.
    Rates of hits and false alarms: benchmarks/results/diagnosis.md. Under a gamma curve what is nearly black is
    noisier than the straight line says, and `effective` too low by a third.

    ValueError if y is no image, or if sigma is not given and there are too few pixels to estimate it.
    """
    if y.ndim != 3:
        raise ValueError(f"a picture (C, H, W) can be looked at, not a measurement of shape {tuple(y.shape)}")
    known = (torch.ones_like(y) if support is None else support.to(y).expand_as(y)) > 0.5
    step = _step(y[known], quantum)
    ends = [_ends(plane[mask], step) for plane, mask in zip(y, known, strict=True)]
    inside = known & ~_at_ends(y, ends, step)
    if sigma is None:
        sigma = _interior_sigma(y, ends, known, inside)
    affected, bias, variance = _censoring(y, ends, known, sigma)
    trend = noise_trend(y, inside & ~affected)
    weight = known.sum()
    clipped = float(affected.sum() / weight)
    shares = torch.tensor([[end.share for end in pair] for pair in ends]).mean(0).tolist()
    effective = trended(_local_mean(y)[known], sigma, trend) * math.sqrt(float(variance[known].mean()))
    return Diagnosis(
        sigma=sigma,
        effective=effective,
        step=step,
        quantum=quantum,
        black=shares[0],
        white=shares[1],
        clipped=clipped,
        bias=float(bias[affected].mean()) if clipped > 0 else 0.0,
        trend=trend,
    )


@dataclass(frozen=True, slots=True)
class _End:
    value: float
    share: float  # of the channel's values that pile up there; 0.0 where none do


def _percent(shares: dict[str, float]) -> dict[str, float]:
    return {name: 100 * share for name, share in shares.items() if share > 0}


def _step(values: Tensor, quantum: float) -> float:
    """The typical distance of the values that occur, if they repeat; else the file's own step."""
    sample = values[:: -(-values.numel() // VALUES)] if values.numel() else values
    distinct, counts = cast(tuple[Tensor, Tensor], sample.double().unique(return_counts=True))
    if not FEWEST <= len(distinct) <= sample.numel() / 4:  # four a value: 2 % of the levels are missed
        return quantum
    cells = (distinct[2:] - distinct[:-2]) / 2
    order = cells.argsort()
    total = counts[1:-1][order].cumsum(0)
    middle = int(torch.searchsorted(total, total[-1] / 2))
    step = float(cells[order[middle]])
    return quantum if step <= 1.5 * quantum else step


def _ends(values: Tensor, step: float) -> tuple[_End, _End]:
    """The dark and the bright end of one channel: a pile of equal values beyond what its neighbours predict."""
    if values.numel() == 0:
        return _End(-math.inf, 0.0), _End(math.inf, 0.0)
    low, high = float(values.min()), float(values.max())
    return _End(low, _pile(values - low, step)), _End(high, _pile(high - values, step))


def _pile(distance: Tensor, step: float) -> float:
    n, width = distance.numel(), max(step, 1e-6)
    if not bool((distance > 40 * width).any()):  # flat, or two-valued: no photograph
        return 0.0
    bins = [int(((distance >= (k - 0.5) * width) & (distance < (k + 0.5) * width)).sum()) for k in range(4)]
    expected = max(bins[1:])
    excess = bins[0] - expected - 5 * math.sqrt(expected + 1)  # five deviations of a count
    return (bins[0] - expected) / n if excess > LEAST_SHARE * n else 0.0


def _at_ends(y: Tensor, ends: list[tuple[_End, _End]], step: float) -> Tensor:
    """Where values are piled up."""
    at = torch.zeros_like(y, dtype=torch.bool)
    for c, pair in enumerate(ends):
        for end in pair:
            if end.share > 0:
                at[c] |= (y[c] - end.value).abs() <= step / 2
    return at


def _local_mean(y: Tensor) -> Tensor:
    """Means of 5 x 5 pixels."""
    return functional.avg_pool2d(y[:, None], 5, stride=1, padding=2, count_include_pad=False)[:, 0]


def _interior_sigma(y: Tensor, ends: list[tuple[_End, _End]], known: Tensor, inside: Tensor) -> float:
    """Noise away from the ends: first without the values piled up, then without all that are near."""
    piled = any(end.share > 0 for pair in ends for end in pair)
    sigma = _estimated(y, inside) if piled else None
    sigma = estimate_sigma(y, known.to(y)) if sigma is None else sigma
    if not piled:
        return sigma
    mean, far = _local_mean(y), inside.clone()
    for c, pair in enumerate(ends):
        for end in pair:
            if end.share > 0:
                away = (mean[c] - end.value).abs() > 3 * sigma
                far[c] &= away  # nothing is cut off 3 deviations away
    away_from_ends = _estimated(y, far)
    return sigma if away_from_ends is None else away_from_ends


def _estimated(y: Tensor, support: Tensor) -> float | None:
    """None if the support leaves too few patches."""
    try:
        return estimate_sigma(y, support.to(y))
    except ValueError:
        return None


def _censoring(
    y: Tensor, ends: list[tuple[_End, _End]], known: Tensor, sigma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(affected, bias, variance / sigma^2) of each value: the noise that an end has cut.

    For clean x at d = (x - end) / sigma, min(x + sigma n, end) has mean end + sigma m(d) and variance
    sigma^2 v(d) (Tobin 1958); m is read off the local mean and inverted for d.
    """
    affected, bias, variance = torch.zeros_like(known), torch.zeros_like(y), torch.ones_like(y)
    if sigma == 0:
        return affected, bias, variance
    d = torch.linspace(-4, 4, 801, dtype=torch.float64)
    density, below = (-0.5 * d**2).exp() / math.sqrt(2 * math.pi), torch.special.ndtr(-d)
    first = d * below - density  # E min(d + n, 0)
    second = (d**2 + 1) * below - d * density - first**2
    local = _local_mean(y)
    for c, pair in enumerate(ends):
        for end, sign in zip(pair, (-1, 1), strict=True):
            if end.share == 0:
                continue
            depth = (sign * (local[c] - end.value) / sigma).double()  # <= 0 inside
            k = torch.searchsorted(first, depth.contiguous()).clamp(max=len(d) - 1)
            near = (d[k] > -NEAR) & known[c]
            affected[c] |= near
            bias[c] = torch.where(near, sign * sigma * (first - d)[k].to(y), bias[c])
            variance[c] = torch.where(near, second[k].clamp(min=0).to(y), variance[c])
    return affected, bias, variance
