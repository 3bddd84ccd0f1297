"""Variances of DDPM's reverse chain p(x' | x), from sigma to sigma' < sigma: what samples it and what trains it agree.

DDPM writes the chain for x_t = sqrt(a) x, a = 1 / (1 + sigma^2), with beta = 1 - a / a'. Variances there are a' times
ours:

    small     beta (1 - a') / (1 - a) / a' = sigma'^2 (sigma^2 - sigma'^2) / sigma^2
    large     beta / a' = (sigma^2 - sigma'^2) (1 + sigma'^2) / (1 + sigma^2)
    learned   exp(f log large + (1 - f) log small), f = (raw + 1) / 2  (Nichol and Dhariwal 2021, eq. 15)

small is that of the posterior q(x' | x, x0), large that of the forward step. The last interpolates logarithms, so that
the factor 1 / a' drops out of it.
"""

import torch
from torch import Tensor

from undiffuse.core.state import fresh_noise


def small_and_large(sigma: Tensor, sigma_next: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of the range of a learned variance; small is 0 for sigma_next = 0."""
    _, up = fresh_noise(sigma, sigma_next, 1.0)
    large = (sigma**2 - sigma_next**2).clamp(min=0) * (1 + sigma_next**2) / (1 + sigma**2)
    return up.square(), large


def log_learned(raw: Tensor, small: Tensor, large: Tensor) -> Tensor:
    """Logarithm of the variance that a network means by raw: -1 is small, 1 large, and beyond is allowed."""
    floor = torch.finfo(raw.dtype).tiny
    low, high = small.clamp(min=floor).log(), large.clamp(min=floor).log()
    return low + (raw + 1) / 2 * (high - low)
