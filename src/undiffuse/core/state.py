"""The three types everything is made of. Images are (B, C, H, W) in [-1, 1]; `x = x0 + sigma * n`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Denoise(Protocol):
    """E[x0 | x]: (x, sigma) -> x0, all in the scale of [-1, 1] images; sigma is () or (B, 1, 1, 1)."""

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor: ...


Noise = Callable[[Tensor], Tensor]  # like -> N(0, I) of its shape, dtype and device


@dataclass(frozen=True, slots=True)
class State:
    """Where a sampler stands."""

    x: Tensor  # (B, C, H, W), = x0 + sigma n
    sigma: Tensor  # () or (B, 1, 1, 1)
    x0: Tensor | None = None  # the estimate that the last step used
    memory: Any = None  # what a multistep method carries from step to step


Step = Callable[[State, Tensor], State]  # state at sigma -> state at sigma_next


def renoise(x0: Tensor, eps: Tensor, sigma: Tensor, eta: float, noise: Noise) -> Tensor:
    """x0 + sigma (sqrt(1 - eta^2) eps + eta n): back to level sigma, a share eta of the noise being fresh.

    eta = 0 draws nothing, so that a deterministic method leaves the generators where they were.
    """
    if eta == 0:
        return x0 + sigma * eps
    return x0 + sigma * ((1 - eta**2) ** 0.5 * eps + eta * noise(x0))


def like_image(sigma: Tensor | float, x: Tensor) -> Tensor:
    """sigma as a tensor of x's dtype and device that broadcasts to it: () or (B, 1, 1, 1); (B,) is refused."""
    sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    if sigma.ndim not in (0, x.ndim):
        raise ValueError(
            f"sigma of shape {tuple(sigma.shape)} does not broadcast to x; use () or (B, 1, 1, 1)"
        )
    return sigma


def fresh_noise(sigma: Tensor, sigma_next: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """(down, up) with down^2 + up^2 = sigma_next^2: x' = x0 + down eps + up n is DDIM's step from sigma to sigma_next.

    up = eta sigma_next sqrt(1 - (sigma_next / sigma)^2): eta = 0 is deterministic, eta = 1 the variance of
    the DDPM posterior q(x' | x, x0), which is the same in this coordinate and in the variance-preserving one
    up to its scale.
    """
    floor = torch.finfo(sigma.dtype).tiny  # serves images already at sigma = 0
    kept = (sigma_next / sigma.clamp(min=floor)).clamp(max=1).square()
    return sigma_next * (1 - eta**2 + eta**2 * kept).sqrt(), eta * sigma_next * (1 - kept).sqrt()
