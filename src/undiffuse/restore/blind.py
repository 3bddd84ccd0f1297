"""Which blur? The width of a Gaussian or a disk, or the length and angle of a motion; and the noise."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (tolist and interp are untyped)

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from undiffuse.restore.blurs import KINDS, Blur, Family, search, turned
from undiffuse.restore.power import Fit, Power, left_by, measure_power

Interval = tuple[float, float]

CROP = 1024  # pixels a side that are looked at, from the middle
SIDES = (128, 64)  # of a window; the first of which there are enough
FEWEST_WINDOWS = 9
LEFT, FEWEST_CELLS = 0.2, 200  # of a JPEG's coefficients of a frequency, and of the spectrum: ten a parameter
LEVEL = 0.95
WIDEST = 0.7  # of the estimate: an interval wider than this tells nothing
EVIDENCE = 8.0  # tempered log likelihood by which a disk or a motion must be better than none
SIGNAL = 0.003  # share of the cells in which a picture must stand above its noise
GIVEN, UNKNOWN = 0.1, 1.5  # deviation of log sigma^2: a level known to 5 %, and one that is not


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
    better: Family | None = None  # one that explains the picture better, and was not asked for

    @property
    def degrade(self) -> str:
        """As `--degrade` takes it."""
        return f"blur:{self.family}," + ",".join(f"{name}={value:g}" for name, value in self.options.items())


def estimate_blur(
    y: Tensor,
    family: Family | None = None,
    *,
    sigma_y: float | None = None,
    mask: Tensor | None = None,
    left: Tensor | None = None,
) -> BlurEstimate:
    """The blur under which the power spectrum of y (C, H, W) is that of a blurred photograph.

    Of `family`; None: of the family that explains the picture best and is certain, a Gaussian unless a disk has a
    tempered log likelihood that is better by 4, or a motion by 20, as photographs have directions of their own.

    Stationary Gaussian model: y ~ N(0, A S A^T + sigma^2 I), so that the power at f is S(f) |k^(f)|^2 + sigma^2.
    S has a shape of its own for each picture, with a prior fitted to photographs; it and sigma are maximised
    over for each blur (profile likelihood). White noise, independent in the channels. The middle 1024 x 1024
    pixels are looked at. `mask` (broadcasts to y; 1 = measured). `sigma_y` None: estimated, else known to 5 %.
    `left` (8, 8): the share of a JPEG's coefficients that its rounding left, `Rounding.left`; frequencies of which
    little is left would look like a blur, and are not looked at.

    How often the intervals hold the truth: benchmarks/results/blind.md. `certain` is false, and `reason` says
    why, for a picture that is flat, too small, too noisy, or no softer than sharp photographs may be; or that
    another family explains better, as `better` says. A picture blurred in a way that is none of these may pass for
    one of them: a box for a disk, an enlarged picture for any.
    ValueError for another family, a y that is no picture or is not finite, or a negative sigma_y.
    """
    _check(y, family, sigma_y)
    named = family or "gaussian"
    grey, known = _centre(y, mask)
    power = _power(grey, known)
    if power is None:
        return _nothing(named, sigma_y, "cannot tell: too few windows of 64 pixels without a gap")
    if left is not None:
        power = left_by(power, left.double(), LEFT)
    if int(power.told.sum()) < FEWEST_CELLS:
        return _nothing(named, sigma_y, "cannot tell: JPEG's rounding has left too few frequencies")
    if float(grey[known].double().std()) < 1e-4:  # a hundredth of an 8-bit level
        return _nothing(named, sigma_y, "cannot tell: the picture is flat")
    noise = _noise_prior(power, sigma_y, y.shape[0])
    found: dict[Family, tuple[list[Blur], Fit]] = {name: search(power, name, noise) for name in KINDS}
    likely: dict[Family, float] = {name: float(fit.log_likelihood.max()) for name, (_, fit) in found.items()}
    estimates: dict[Family, BlurEstimate] = {name: _summary(name, *found[name], y.shape[0]) for name in KINDS}
    ranked = _ranked(likely)
    if family is None:
        return next((estimates[name] for name in ranked if estimates[name].certain), estimates[ranked[0]])
    own, best = estimates[family], ranked[0]
    ahead, sure = likely[best] - likely[family], estimates[best].certain
    needed = KINDS[best].ahead * KINDS[best].temper
    if ahead <= needed or not (sure or (best == "gaussian" and own.certain)):
        return own
    reason = f"{KINDS[best].called} explains the picture better than {KINDS[family].called}"
    return replace(own, certain=False, reason=reason, better=best if sure else None)


def _ranked(likely: dict[Family, float]) -> list[Family]:
    """Families by log likelihood, best first: those that are better than a Gaussian by far, then that."""
    lead = {name: (likely[name] - likely["gaussian"]) / kind.temper for name, kind in KINDS.items()}
    far: list[Family] = [name for name, kind in KINDS.items() if lead[name] > kind.ahead]
    far.sort(key=lambda name: -likely[name])
    return [*far, "gaussian"]


def _check(y: Tensor, family: str | None, sigma_y: float | None) -> None:
    if family is not None and family not in KINDS:
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


def _summary(family: Family, blurs: list[Blur], found: Fit, channels: int) -> BlurEstimate:
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
    turns = torch.tensor([turned(a, angle) for _, a in blurs], dtype=torch.float64)
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
            f"cannot tell: {kind.called} of {options[name]:g} taps explains the picture little better than none",
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
