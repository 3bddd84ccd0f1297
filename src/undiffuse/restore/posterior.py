"""Many draws instead of one picture."""

from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 256


@dataclass(frozen=True, slots=True)
class Posterior:
    """What K draws of each image say. All (B, C, H, W) in the scale of [-1, 1] images."""

    mean: Tensor
    deviation: Tensor  # standard deviation over the draws, with K - 1; these three may be `widened`
    low: Tensor  # 5 % quantile
    median: Tensor
    high: Tensor  # 95 % quantile

    def coverage(self, truth: Tensor) -> float:
        """Share of the true pixels between `low` and `high`: 0.9 for honest draws, once K is large.

        With K draws the interpolated quantiles are narrower: about 0.9 (K - 1) / (K + 1) is to be expected.
        """
        return ((truth >= self.low) & (truth <= self.high)).float().mean().item()

    def widened(self, by: float) -> "Posterior":
        """The deviation, and the distance of both quantiles from the mean, times `by` >= 1; mean and median stay.

        So does a quantile on the other side of the mean, as rounding or skewed draws leave it: nothing gets narrower.
        """
        low, high = (torch.lerp(self.mean, edge, by) for edge in (self.low, self.high))
        low, high = torch.minimum(low, self.low), torch.maximum(high, self.high)
        return Posterior(self.mean, self.deviation * by, low, self.median, high)


def summarise(draws: Tensor) -> Posterior:
    """Mean, deviation and quantiles of draws (B, K, C, H, W), K >= 2."""
    if draws.ndim != 5 or draws.shape[1] < 2:
        raise ValueError(f"draws of shape {tuple(draws.shape)}; expected (B, K, C, H, W) with K >= 2")
    low, median, high = (torch.empty_like(draws[:, 0]) for _ in range(3))
    for row in range(0, draws.shape[3], ROWS):  # sorting makes 64-bit indices: never of a whole large picture
        rows = slice(row, row + ROWS)
        ordered = draws[:, :, :, rows].sort(dim=1).values
        for q, quantile in ((0.05, low), (0.5, median), (0.95, high)):
            quantile[:, :, rows] = _between(ordered, q)
    return Posterior(draws.mean(1), draws.std(1), low, median, high)


def _between(ordered: Tensor, q: float) -> Tensor:
    """Linear interpolation between order statistics (torch.quantile refuses more than 16 M values)."""
    place = q * (ordered.shape[1] - 1)
    below = int(place)
    above = min(below + 1, ordered.shape[1] - 1)
    return torch.lerp(ordered[:, below], ordered[:, above], place - below)
