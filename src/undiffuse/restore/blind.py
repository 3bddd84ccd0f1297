"""Which blur? The width of a Gaussian or a disk, or the length and angle of a motion; and the noise."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (tolist and interp are untyped)

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from undiffuse.operators import kernels
from undiffuse.restore.power import (
    STEPS,
    Fit,
    Power,
    cells,
    fit,
    left_by,
    measure_power,
    photographs,
    transfer,
)

Family = Literal["gaussian", "disk", "motion"]
Interval = tuple[float, float]
Blur = tuple[float, float]  # (std, 0), (diameter, 0) or (taps, angle)

CROP = 1024  # pixels a side that are looked at, from the middle
SIDES = (128, 64)  # of a window; the first of which there are enough
FEWEST_WINDOWS = 9
LEFT, FEWEST_CELLS = 0.2, 200  # of a JPEG's coefficients of a frequency, and of the spectrum: ten a parameter
LEVEL = 0.95
STDS = tuple(k / 10 for k in range(81))
DIAMETERS = (0.0, *(k / 4 for k in range(6, 165)))
LENGTHS = tuple(range(3, 42, 2))
TURN = 4.0  # degrees between the first angles
SOFT = 0.75  # std by which the photographs that the model knows differ in sharpness of their own
WIDEST = 0.7  # of the estimate: an interval wider than this tells nothing
EVIDENCE = 8.0  # tempered log likelihood by which a motion must be better than none: photographs have directions, too
SIGNAL = 0.003  # share of the cells in which a picture must stand above its noise
GIVEN, UNKNOWN = 0.1, 1.5  # deviation of log sigma^2: a level known to 5 %, and one that is not


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is known of a family."""

    size: str  # the option of the degradation `blur` that is its width or length
    sharp: float  # up to which a photograph may look like that by itself
    largest: float  # that is looked for
    temper: float  # what the log likelihood is divided by


# The cells of one spectrum are not independent, nor are photographs Gaussian, so that a likelihood is tempered. With
# 10, 95 % of the intervals of std held the truth on training photographs (84 cases); with 12, all angles of four
# photographs were held, none of which is among those of benchmarks/results/blind.md. A disk of deviation std is 4 std
# wide.
KINDS = {
    "gaussian": _Kind("std", SOFT, STDS[-1], 10.0),
    "disk": _Kind("taps", 4 * SOFT, DIAMETERS[-1], 10.0),
    "motion": _Kind("taps", 2.0, LENGTHS[-1], 12.0),
}


@dataclass(frozen=True, slots=True)
class BlurEstimate:
    """The most likely blur, and how far it can be trusted. Noise in [-1, 1] units."""

    family: Family
    options: dict[str, float]  # of the degradation `blur`: std, taps, or taps and angle
    intervals: dict[str, Interval]  # of each, 95 %; degrees may leave [0, 180)
    sigma_y: float
    sigma_interval: Interval
    certain: bool
    reason: str
    curve: tuple[tuple[float, float], ...]  # (size, log likelihood below the best, tempered)

    @property
    def degrade(self) -> str:
        """As `--degrade` takes it."""
        return f"blur:{self.family}," + ",".join(f"{name}={value:g}" for name, value in self.options.items())


def estimate_blur(
    y: Tensor,
    family: Family,
    *,
    sigma_y: float | None = None,
    mask: Tensor | None = None,
    left: Tensor | None = None,
) -> BlurEstimate:
    """The blur of `family` under which the power spectrum of y (C, H, W) is that of a blurred photograph.

    Stationary Gaussian model: y ~ N(0, A S A^T + sigma^2 I), so that the power at f is S(f) |k^(f)|^2 + sigma^2.
    S has a shape of its own for each picture, with a prior fitted to photographs; it and sigma are maximised
    over for each blur (profile likelihood). White noise, independent in the channels. The middle 1024 x 1024
    pixels are looked at. `mask` (broadcasts to y; 1 = measured). `sigma_y` None: estimated, else known to 5 %.
    `left` (8, 8): the share of a JPEG's coefficients that its rounding left, `Rounding.left`; frequencies of which
    little is left would look like a blur, and are not looked at.

    How often the intervals hold the truth: benchmarks/results/blind.md. `certain` is false, and `reason` says
    why, for a picture that is flat, too small, too noisy, or no softer than sharp photographs may be. A picture
    blurred in another way than the family says may pass: a disk and a motion are held against a Gaussian only.
    ValueError for another family, a y that is no picture or is not finite, or a negative sigma_y.
    """
    _check(y, family, sigma_y)
    grey, known = _centre(y, mask)
    power = _power(grey, known)
    if power is None:
        return _nothing(family, sigma_y, "cannot tell: too few windows of 64 pixels without a gap")
    if left is not None:
        power = left_by(power, left.double(), LEFT)
    if int(power.told.sum()) < FEWEST_CELLS:
        return _nothing(family, sigma_y, "cannot tell: JPEG's rounding has left too few frequencies")
    if float(grey[known].double().std()) < 1e-4:  # a hundredth of an 8-bit level
        return _nothing(family, sigma_y, "cannot tell: the picture is flat")
    noise = _noise_prior(power, sigma_y, y.shape[0])
    if family == "motion":
        blurs, found = _motion_search(power, noise)
    else:
        blurs = [(size, 0.0) for size in (STDS if family == "gaussian" else DIAMETERS)]
        found = _fit(power, family, blurs, noise)
    return _summary(family, blurs, found, y.shape[0], power, noise)


def _check(y: Tensor, family: str, sigma_y: float | None) -> None:
    if family not in KINDS:
        raise ValueError(f"blur family '{family}' cannot be estimated; choose from {', '.join(KINDS)}")
    if y.ndim != 3 or not bool(y.isfinite().all()):
        what = f"of shape {tuple(y.shape)}" if y.ndim != 3 else "with NaN or infinity"
        raise ValueError(
            f"a blur is estimated from a finite picture (C, H, W), not from a measurement {what}"
        )
    if sigma_y is not None and not sigma_y >= 0:
        raise ValueError(f"sigma_y = {sigma_y}; a noise level is at least 0; give None to estimate it")


def _centre(y: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """(grey, known) of the middle, (H, W): channels averaged, known where all are."""
    known = torch.ones_like(y, dtype=torch.bool) if mask is None else (mask.to(y) > 0.5).expand_as(y)
    top, left = (max(n - CROP, 0) // 2 for n in y.shape[1:])
    window = slice(top, top + CROP), slice(left, left + CROP)
    return y.mean(0)[window], known.all(0)[window]


def _power(grey: Tensor, known: Tensor) -> Power | None:
    for side in SIDES:
        if min(grey.shape) >= side:
            power = measure_power(grey, known, side)
            if power is not None and power.windows >= FEWEST_WINDOWS:
                return power
    return None


def _noise_prior(power: Power, sigma_y: float | None, channels: int) -> tuple[float, float]:
    """(mean, deviation) of log sigma^2 of the average of the channels."""
    if sigma_y is not None:
        return 2 * math.log(max(sigma_y, 1e-4) / math.sqrt(channels)), GIVEN
    lowest = power.telling().log_power.quantile(0.05)
    return float(lowest), UNKNOWN


def kernel(family: Family, blur: Blur) -> Tensor:
    """The kernel that the operator `blur` uses; a point for a width of 0 or one tap."""
    size, angle = blur
    if size == 0 or (family == "motion" and size <= 1):
        return torch.ones(1, 1, dtype=torch.float64)
    if family == "gaussian":
        return kernels.described(kernel=family, std=size)
    if family == "disk":
        return kernels.described(kernel=family, taps=size)
    return kernels.described(kernel=family, taps=round(size), angle=angle)


def _fit(
    power: Power,
    family: Family,
    blurs: Sequence[Blur],
    noise: tuple[float, float],
    thinned: int = 1,
    steps: int = STEPS,
) -> Fit:
    """With one cell in `thinned`, for a first look."""
    transfers, looked_at = _transfers(family, tuple(blurs), power.side, thinned), power.every(thinned)
    return fit(looked_at.telling(), transfers[:, looked_at.told], noise, photographs(), steps)


@lru_cache(maxsize=8)  # the first grids are those of every picture, and most of the time; 12 MB each at most
def _transfers(family: Family, blurs: tuple[Blur, ...], side: int, thinned: int) -> Tensor:
    used = cells(side)[::thinned]
    return torch.stack([transfer(kernel(family, b), side).flatten()[used] for b in blurs])


def _motion_search(power: Power, noise: tuple[float, float]) -> tuple[list[Blur], Fit]:
    """A grid, finer around the best five lengths, then a regular one over all that is likely; no blur comes first."""
    still: Blur = (1.0, 0.0)
    angles = [TURN * k for k in range(round(180 / TURN))]
    blurs = [still, *((float(n), a) for n in LENGTHS for a in angles)]
    found = _fit(power, "motion", blurs, noise, 5, STEPS // 2)  # 5 divides no row: all directions stay
    by_length = found.log_likelihood[1:].view(len(LENGTHS), len(angles)).max(1)
    best = [
        (LENGTHS[k], angles[int(by_length.indices[k])]) for k in by_length.values.topk(5).indices.tolist()
    ]
    near = {
        (float(n + d), a + turn) for n, a in best for d in (-1, 0, 1) for turn in (-3.0, -1.5, 0.0, 1.5, 3.0)
    }
    blurs = [still, *sorted(near)]
    found = _fit(power, "motion", blurs, noise, 3, STEPS // 2)
    blurs = [still, *_likely(blurs, found, 3)]
    return blurs, _fit(power, "motion", blurs, noise)


def _likely(blurs: list[Blur], found: Fit, thinned: int) -> list[Blur]:
    """A regular grid over the box in which the tempered log likelihood is within 5 of the best."""
    log_l = found.log_likelihood * thinned / KINDS["motion"].temper
    top = blurs[int(log_l[1:].argmax()) + 1]
    inside = [b for b, v in zip(blurs, log_l.tolist(), strict=True) if v > float(log_l[1:].max()) - 5]
    inside = [(n, _turned(a, top[1])) for n, a in inside if n > 1]
    low, high = (int(f(n for n, _ in inside)) for f in (min, max))
    first, last = (f(a for _, a in inside) for f in (min, max))
    first, last = max(first - 2, top[1] - 90), min(last + 2, top[1] + 90)
    lengths = range(max(low - 1, 2), high + 2)
    count = max(min(int((last - first) / 0.5), 120 // len(lengths)), 8)
    return [(float(n), first + (last - first) * k / count) for n in lengths for k in range(count + 1)]


def _turned(angle: float, centre: float) -> float:
    """The same direction within 90 degrees of `centre`."""
    return centre + (angle - centre + 90) % 180 - 90


def _summary(
    family: Family, blurs: list[Blur], found: Fit, channels: int, power: Power, noise: tuple[float, float]
) -> BlurEstimate:
    kind = KINDS[family]
    log_l = found.log_likelihood / kind.temper
    k = int(log_l.argmax())
    of_all = (log_l - log_l.max()).exp()
    sizes = [b[0] for b in blurs]
    options, intervals = _options(family, blurs, of_all, k)
    # What a profile of the noise given one blur leaves out, the spread between blurs, is added.
    weight = of_all / of_all.sum()
    middle = float((weight * found.log_noise).sum())
    spread = (weight * (found.log_noise - middle) ** 2).sum() + found.noise_error[k] ** 2 * kind.temper
    z = 1.96 * float(spread.sqrt())
    sigma = [
        math.sqrt(channels) * math.exp(0.5 * v) for v in (middle - z, float(found.log_noise[k]), middle + z)
    ]
    certain, reason = _verdict(family, options, intervals, found, k)
    if certain and family != "gaussian":
        rival = _fit(power, "gaussian", [(s, 0.0) for s in STDS[::4]], noise)
        if float(rival.log_likelihood.max()) > float(found.log_likelihood[k]):
            certain, reason = (
                False,
                f"cannot tell: a Gaussian blur explains the picture better than a {family}",
            )
    best_of = {
        n: max(float(v) for m, v in zip(sizes, log_l.tolist(), strict=True) if m == n) for n in set(sizes)
    }
    curve = tuple((n, best_of[n] - float(log_l.max())) for n in sorted(best_of))
    return BlurEstimate(family, options, intervals, sigma[1], (sigma[0], sigma[2]), certain, reason, curve)


def _options(
    family: Family, blurs: list[Blur], mass: Tensor, best: int
) -> tuple[dict[str, float], dict[str, Interval]]:
    size, angle = blurs[best]
    sizes = torch.tensor([b[0] for b in blurs], dtype=torch.float64)
    if family != "motion":
        kind = KINDS[family]
        low, middle, high = _quantiles(sizes, mass)
        low = low if low > kind.sharp else 0.0  # none cannot be excluded
        return {kind.size: round(middle, 3)}, {kind.size: (low, high)}
    low, high = _whole_quantiles(sizes, mass)
    turns = torch.tensor([_turned(a, angle) for _, a in blurs], dtype=torch.float64)
    moved = sizes > 1  # without a motion there is no angle
    first, _, last = _quantiles(turns[moved], mass[moved])
    options = {"taps": int(size), "angle": round(angle % 180, 2)}
    return options, {"taps": (low, high), "angle": (first, last)}


def _quantiles(values: Tensor, mass: Tensor) -> tuple[float, float, float]:
    """2.5, 50 and 97.5 %, each value standing for the half way to its neighbours."""
    levels, index = values.unique(return_inverse=True)
    total = torch.zeros_like(levels).index_add(0, index, mass)
    edges = torch.cat([levels[:1], (levels[1:] + levels[:-1]) / 2, levels[-1:]])
    share = torch.cat([total.new_zeros(1), total.cumsum(0) / total.sum()])
    out: list[float] = []
    for p in ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2):
        k = min(max(int(torch.searchsorted(share, p)), 1), len(share) - 1)
        rest = (p - float(share[k - 1])) / max(float(share[k] - share[k - 1]), 1e-12)
        out.append(float(edges[k - 1] + rest * (edges[k] - edges[k - 1])))
    return out[0], out[1], out[2]


def _whole_quantiles(values: Tensor, mass: Tensor) -> tuple[float, float]:
    """The least and the greatest value that 95 % of the mass needs."""
    order = values.argsort()
    share = mass[order].cumsum(0) / mass.sum()
    ends = torch.searchsorted(share, torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=share.dtype))
    low, high = values[order][ends.clamp(max=len(values) - 1)].tolist()
    return low, high


def _verdict(
    family: Family, options: dict[str, float], intervals: dict[str, Interval], found: Fit, best: int
) -> tuple[bool, str]:
    kind = KINDS[family]
    name, still = kind.size, kind.sharp
    low, high = intervals[name]
    if float(found.signal[best]) < SIGNAL:
        return False, "cannot tell: there is too little picture above the noise"
    if low < still:
        what = f"no blur found beyond what sharp photographs may have: {name} below {high:.2g}"
        soft = high < 2 * still
        return False, what if soft else f"cannot tell: {name} anywhere up to {high:.2g} explains the picture"
    if high > 0.97 * kind.largest:
        return False, f"cannot tell: {name} may be more than {kind.largest:g}, the largest that is looked for"
    better = float(found.log_likelihood[best] - found.log_likelihood[0]) / kind.temper  # no blur comes first
    if family != "gaussian" and better < EVIDENCE:
        return (
            False,
            f"cannot tell: a {family} of {options[name]:g} taps explains the picture little better than none",
        )
    if high - low > WIDEST * options[name]:
        return False, f"cannot tell: {name} between {low:.2g} and {high:.2g}"
    said = f"{name} {options[name]:.3g}, between {low:.3g} and {high:.3g}"
    if family == "motion":
        first, last = intervals["angle"]
        said += f"; angle {options['angle']:.3g}, between {first:.3g} and {last:.3g} degrees"
    return True, f"{said} (95 %)"


def _nothing(family: Family, sigma_y: float | None, reason: str) -> BlurEstimate:
    """No estimate: a picture left as it is, and any blur possible."""
    kind = KINDS[family]
    options = {"taps": 1, "angle": 0.0} if family == "motion" else {kind.size: 0.0}
    widest = {kind.size: (0.0, float(kind.largest)), "angle": (0.0, 180.0)}
    sigma = math.nan if sigma_y is None else sigma_y
    return BlurEstimate(
        family, options, {k: widest[k] for k in options}, sigma, (0.0, math.inf), False, reason, ()
    )
