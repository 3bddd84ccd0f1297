"""What was done to a measured picture before we got it: rounding, clipping, a curve that bends its noise."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (tolist, quantile and torch.special are untyped)

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from undiffuse.core.dct import dct2
from undiffuse.restore.noise_level import estimate_sigma

VALUES = 4_000_000  # of one picture, looked at for repeated values
FEWEST = 32  # distinct values: fewer are a drawing, not a rounded photograph
LEAST_SHARE = 0.002  # of the values at one end: less moves no noise level by a percent
NEAR = 1.645  # deviations from an end, within which more than 5 % of the noise is cut off


@dataclass(frozen=True, slots=True)
class Trend:
    """Noise against brightness: standard deviations at three brightnesses, all in [-1, 1] units."""

    brightness: tuple[float, float, float]  # dark, middle, bright: 5, 50 and 95 % of the smooth blocks
    noise: tuple[float, float, float]
    z: float  # slope of log variance over its error
    clear: bool

    @property
    def ratio(self) -> float:
        """Noise of the bright parts over that of the dark ones."""
        return self.noise[2] / self.noise[0]


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
    trend = _trend(y, inside & ~affected)
    weight = known.sum()
    clipped = float(affected.sum() / weight)
    shares = torch.tensor([[end.share for end in pair] for pair in ends]).mean(0).tolist()
    effective = _trended(y, known, sigma, trend) * math.sqrt(float(variance[known].mean()))
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


SIDE = 8  # of a block
BLOCKS = 60_000  # of one picture at most
GROUPS = 8  # of equal brightness range
SMOOTHEST = 0.25  # share of a group's blocks that is used
Z_CLEAR, RATIO_CLEAR = 4.0, 1.4  # both are asked for: benchmarks/results/diagnosis.md has the false alarms


def _trend(y: Tensor, inside: Tensor) -> Trend | None:
    """Weighted regression of log noise variance on brightness, over groups of smooth blocks.

    The variance of a block is the mean square of its cosine coefficients with k + l >= 9, its smoothness that of
    those with 1 <= k + l <= 4, which white noise leaves independent. What texture is left counts as an error of the
    group. It shows as a difference between the smoother and the rougher half of the blocks, and as a fall from
    9 <= k + l <= 10 to the rest that is not that of the other groups (noise that is not white falls in all).
    """
    mean, rough, noise = _blocks(y, inside)
    if len(mean) < 40 * GROUPS:
        return None
    groups = [(float(mean[of].mean()), _group(noise[of], rough[of])) for of in _by_brightness(mean)]
    kept = [(b, *row) for b, row in groups if row is not None]
    if len(kept) < 3:
        return None
    b, log_v, error, fall = torch.tensor(kept, dtype=torch.float64).T
    error = torch.hypot(error, fall - fall.median())
    w = error**-2
    centre = (w * b).sum() / w.sum()
    slope = (w * (b - centre) * log_v).sum() / (w * (b - centre) ** 2).sum()
    level = (w * log_v).sum() / w.sum()
    misfit = (w * (log_v - level - slope * (b - centre)) ** 2).sum() / (len(kept) - 2)
    z = float(slope * (w * (b - centre) ** 2).sum().sqrt() / misfit.clamp(min=1).sqrt())
    q = (
        torch.quantile(mean, torch.tensor([0.05, 0.5, 0.95], dtype=mean.dtype))
        .double()
        .clamp(b.min(), b.max())
    )
    dark, middle, bright = (0.5 * (level + slope * (q - centre))).exp().tolist()
    clear = abs(z) > Z_CLEAR and max(bright / dark, dark / bright) > RATIO_CLEAR
    at = cast(tuple[float, float, float], tuple(q.tolist()))
    return Trend(at, (dark, middle, bright), z, clear)


def _blocks(y: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n,) mean, (n,) roughness, (n, 2) noise variance in two bands: 8 x 8 blocks with every value whole."""
    nothing = y.new_zeros(0), y.new_zeros(0), y.new_zeros(0, 2)
    channels, height, width = y.shape
    if min(height, width) < SIDE:
        return nothing
    count = channels * (height // SIDE) * (width // SIDE)
    stride = SIDE * max(1, math.ceil(math.sqrt(count / BLOCKS)))
    whole = inside.unfold(1, SIDE, stride).unfold(2, SIDE, stride).all(-1).all(-1)
    blocks = y.unfold(1, SIDE, stride).unfold(2, SIDE, stride)[whole].contiguous()
    if len(blocks) == 0:  # which no transform takes
        return nothing
    power = dct2(blocks).square()
    order = torch.arange(SIDE)[:, None] + torch.arange(SIDE)
    rough = power[:, (order >= 1) & (order <= 4)].mean(1)
    bands = [power[:, (order == 9) | (order == 10)].mean(1), power[:, order >= 11].mean(1)]
    return blocks.mean((1, 2)), rough, torch.stack(bands, 1)


def _by_brightness(mean: Tensor) -> list[Tensor]:
    """Groups of equal range between the 2 % and the 98 % brightness."""
    low, high = torch.quantile(mean, torch.tensor([0.02, 0.98], dtype=mean.dtype)).tolist()
    number = ((mean - low) / max(high - low, 1e-9) * GROUPS).floor().clamp(0, GROUPS - 1)
    return [number == k for k in range(GROUPS)]


def _group(noise: Tensor, rough: Tensor) -> tuple[float, float, float] | None:
    """(log variance, its error, log fall between bands) of the smoothest; None for too few, or no noise."""
    count = int(SMOOTHEST * len(noise))
    if count < 10:
        return None
    bands = noise[rough.argsort()[:count]].double()
    chosen = bands @ bands.new_tensor([11 / 21, 10 / 21])  # 6 + 5 and 4 + 3 + 2 + 1 coefficients
    smoother, rougher = chosen[: count // 2].median(), chosen[count // 2 :].median()
    if float(smoother) <= 0:
        return None
    texture = 2 * float((rougher / smoother).log().abs())  # as far from none as the halves are apart
    chance = 1.25 * math.sqrt(2 / (21 * count))  # of a median of mean squares of 21
    fall = (bands[:, 0].median() / bands[:, 1].median()).log()
    return float(chosen.median().log()), math.hypot(texture, chance, 0.05), float(fall)


def _trended(y: Tensor, known: Tensor, sigma: float, trend: Trend | None) -> float:
    """Root mean square over the picture of a noise level that is `sigma` in the middle, if a trend is clear."""
    if trend is None or not trend.clear:
        return sigma
    dark, bright = trend.brightness[0], trend.brightness[2]
    slope = math.log(trend.ratio) / max(bright - dark, 1e-9)
    b = _local_mean(y)[known].clamp(dark, bright).double()
    level = trend.noise[0] * (slope * (b - dark)).exp()
    return float(level.square().mean().sqrt())
