"""Guidance: functions from denoisers to denoisers. They nest, and no sampler knows of them."""

from collections.abc import Callable

import torch
from torch import Tensor

from undiffuse.core.state import Denoise, like_image


def cfg(cond: Denoise, uncond: Denoise, /, scale: float) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022): uncond + scale (cond - uncond).

    scale 1 is the conditional denoiser itself (one call a step), 0 the unconditional one; the paper's w is
    scale - 1.
    """
    if scale == 1:
        return cond
    return _extrapolate(cond, uncond, lambda sigma: scale)


def cfg_interval(cond: Denoise, uncond: Denoise, /, scale: float, low: float, high: float) -> Denoise:
    """cfg for low < sigma <= high only, the plain conditional elsewhere (Kynkaanniemi et al. 2024).

    The paper has 0.28 to 2.9 for ImageNet-512. Both are called at every level, so that one batch may mix
    levels.
    """
    if not 0 <= low < high:
        raise ValueError(f"interval from {low} to {high}; expected 0 <= low < high")
    return _extrapolate(cond, uncond, lambda sigma: torch.where((sigma > low) & (sigma <= high), scale, 1.0))


def autoguidance(good: Denoise, bad: Denoise, /, scale: float) -> Denoise:
    """bad + scale (good - bad), `bad` being a smaller or less trained `good` (Karras et al. 2024)."""
    return cfg(good, bad, scale)


def classifier_guided(
    denoise: Denoise, log_prob: Callable[[Tensor, Tensor], Tensor], /, scale: float = 1.0
) -> Denoise:
    """x0 + scale sigma^2 grad_x log p(label | x; sigma): Dhariwal and Nichol (2021), algorithm 2.

    log_prob: (x, sigma) -> (B,), each entry of its own image only. A variance-preserving classifier is to
    be given x / sqrt(1 + sigma^2). The gradient is taken at the current x, in any grad mode; the result can
    be differentiated again if x asks for it.
    """

    def guided(x: Tensor, sigma: Tensor, /) -> Tensor:
        again = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            leaf = x if again else x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(log_prob(leaf, sigma).sum(), leaf, create_graph=again)
        return denoise(x, sigma) + scale * like_image(sigma, x).square() * gradient

    return guided


def clipped(denoise: Denoise, /, low: float = -1.0, high: float = 1.0) -> Denoise:
    """x0 held within [low, high]: the clip_denoised of published samplers.

    Not for priors in closed form, whose mean it moves.
    """
    return lambda x, sigma, /: denoise(x, sigma).clamp(low, high)


def _extrapolate(to: Denoise, away_from: Denoise, scale: Callable[[Tensor], Tensor | float]) -> Denoise:
    def guided(x: Tensor, sigma: Tensor, /) -> Tensor:
        base = away_from(x, sigma)
        return base + scale(like_image(sigma, x)) * (to(x, sigma) - base)

    return guided
