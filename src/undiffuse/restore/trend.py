"""Does the noise of a picture grow or fall with its brightness, as a curve or a sensor makes it?"""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (tolist and quantile are untyped)

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from undiffuse.core.dct import dct2

SIDE = 8  # of a block
BLOCKS = 60_000  # of one picture at most
GROUPS = 8  # of equal brightness range
SMOOTHEST = 0.25  # share of a group's blocks that is used
Z_CLEAR, RATIO_CLEAR = 4.0, 1.4  # both are asked for: benchmarks/results/diagnosis.md has the false alarms


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


def noise_trend(y: Tensor, inside: Tensor) -> Trend | None:
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


def trended(brightness: Tensor, sigma: float, trend: Trend | None) -> float:
    """Root mean square over values of this brightness of a noise level: `sigma`, unless a trend is clear."""
    if trend is None or not trend.clear:
        return sigma
    dark, bright = trend.brightness[0], trend.brightness[2]
    slope = math.log(trend.ratio) / max(bright - dark, 1e-9)
    b = brightness.clamp(dark, bright).double()
    level = trend.noise[0] * (slope * (b - dark)).exp()
    return float(level.square().mean().sqrt())
