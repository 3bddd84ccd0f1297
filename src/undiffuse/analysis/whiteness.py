"""Is it white noise? Power by frequency and correlation of neighbours, beside what white noise scores, in closed form.

All values are relative to an image's own power, so that images of different power count the same, and the closed forms
need no variance: the direction of a white Gaussian image e of d numbers is even on the sphere, whatever its length.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.metrics.spectrum import bins, power

NORMAL95 = 1.959964  # two-sided, of the normal distribution
NORMAL95_ABOVE = 1.644854  # one-sided


@dataclass(frozen=True, slots=True)
class Spectra:
    """What is kept of each image: small, so that a whole set can be kept."""

    shares: Tensor  # (B, K) float64: power in a bin over the image's mean power in all of them
    neighbours: Tensor  # (B, 2) float64: correlation with the pixel to the right, and with the one below
    shape: tuple[int, int, int]  # of the images, (C, H, W)


@dataclass(frozen=True, slots=True)
class Whiteness:
    """Of many images. Of white noise: relative 1, flatness near 1, spread near 1, neighbours 0."""

    frequencies: Tensor  # (K,) cycles a pixel
    relative: Tensor  # (K,) mean share; 2 is twice the power that even power would have
    relative_deviation: Tensor  # (K,) of that of white Gaussian noise
    flatness: float  # geometric over arithmetic mean of the power, by coefficient; in (0, 1], 1 is white
    spread: float  # Pearson's statistic over its expectation for white noise
    spread_limit: float  # that 95 % of white noise stays below
    neighbours: tuple[float, float]  # right, below; in [-1, 1]
    neighbours_limit: tuple[float, float]  # 95 % of white noise has a smaller one, either sign

    @property
    def white(self) -> bool:
        """Whether nothing here is rarer than one in twenty for white noise, each by itself."""
        apart = zip(self.neighbours, self.neighbours_limit, strict=True)
        return self.spread <= self.spread_limit and all(abs(found) <= limit for found, limit in apart)


def spectra(e: Tensor) -> Spectra:
    """Of each image of e (B, C, H, W), in any unit. ValueError for a side under 8 pixels, and for an image of zeros."""
    e = e.detach().cpu().double()
    channels, height, width = e.shape[1:]
    square = e.square().flatten(1).mean(1)
    if not (square > 0).all():
        raise ValueError("an image without any error: its spectrum has no shape; leave it out")
    _, counts = bins(height, width)
    _, found = power(e)
    shares = found / (found * counts / counts.sum()).sum(1, keepdim=True)
    right = (e[..., 1:] * e[..., :-1]).flatten(1).mean(1) / square
    below = (e[..., 1:, :] * e[..., :-1, :]).flatten(1).mean(1) / square
    return Spectra(shares, torch.stack([right, below], 1), (channels, height, width))


def joined(parts: list[Spectra]) -> Spectra:
    """Several batches as one."""
    return Spectra(
        torch.cat([part.shares for part in parts]),
        torch.cat([part.neighbours for part in parts]),
        parts[0].shape,
    )


def whiteness(found: Spectra) -> Whiteness:
    """Means over the images, whatever their order, and what they are for n images of white Gaussian noise.

    Of N coefficients of an image (all channels) m lie in a bin. Their share of its power is Beta(m / 2, (N - m) / 2),
    so that the mean over n images of the share times N / m is

        1, with variance 2 (N - m) / (m (N + 2) n).

    Shares s of all bins are Dirichlet with expectations p = m / N; the covariance of their means is
    (diag(p) - p p^T) / (n (N / 2 + 1)), and Pearson's sum of (s - p)^2 / p times n (N / 2 + 1) has the expectation
    K - 1, exactly, and for many images its chi-squared distribution, whose quantile is by Wilson and Hilferty (1931).

    Neighbours: the mean of M products over the mean square of d numbers has expectation 0 and variance
    d / ((d + 2) M n), for E u_a^2 u_b^2 = 1 / (d (d + 2)) on the sphere.
    """
    channels, height, width = found.shape
    frequencies, counts = bins(height, width)
    n, m = len(found.shares), counts * channels
    total = m.sum()
    relative, neighbours = mean(found.shares), mean(found.neighbours)
    expected = m / total
    variance = 2 * (total - m) / (m * (total + 2) * n)
    freedom = len(m) - 1
    pearson = ((relative - 1).square() * expected).sum() * n * (total / 2 + 1)
    narrow = 2 / (9 * freedom)
    d = channels * height * width
    pairs = (channels * height * (width - 1), channels * (height - 1) * width)
    limits = tuple(NORMAL95 * (d / ((d + 2) * pair * n)) ** 0.5 for pair in pairs)
    return Whiteness(
        frequencies=frequencies,
        relative=relative,
        relative_deviation=variance.sqrt(),
        flatness=(relative.log() * expected).sum().exp().item(),
        spread=pearson.item() / freedom,
        spread_limit=(1 - narrow + NORMAL95_ABOVE * narrow**0.5) ** 3,
        neighbours=(neighbours[0].item(), neighbours[1].item()),
        neighbours_limit=(limits[0], limits[1]),
    )


def mean(values: Tensor) -> Tensor:
    """Over the first dimension, added in order of size: the same to the bit for every order of the images."""
    return values.sort(0).values.mean(0)
