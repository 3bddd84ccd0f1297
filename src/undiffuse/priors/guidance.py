"""Guidance: functions from denoisers to denoisers. They nest, and no sampler knows of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undiffuse.core.state import Denoise, like_image
from undiffuse.priors.prior import Given, Prediction, Prior


def cfg(cond: Denoise, uncond: Denoise, /, scale: float) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022): uncond + scale (cond - uncond).

    scale 1 is the conditional denoiser itself (one call a step), 0 the unconditional one; the paper's w is
    scale - 1.
    """
    if scale == 1:
        return cond
    return _extrapolate(cond, uncond, lambda sigma: scale)


def class_guided(
    prior: Prior, labels: Tensor, cond: Tensor | None = None, /, scale: float = 1.0
) -> "Given | ClassGuided":
    """cfg of a prior against its own null class, with one network call a level for both.

    labels: (B,); cond: as in `Prior.given`. scale 1 is the conditional prior and needs no null class; any
    other does: ValueError for a prior that was trained without class dropout.
    """
    given = prior.given(labels, cond)
    if scale == 1:
        return given
    if not prior.null_class:
        raise ValueError(
            f"guidance {scale:g} needs a prior that knows images without a class, and this one was trained "
            "without class dropout; use guidance 1, or train with conditioning.dropout"
        )
    return ClassGuided(given, scale)


@dataclass(frozen=True, slots=True)
class ClassGuided:
    """What `class_guided` gives. The batch is doubled inside: it takes twice the memory of `Given`."""

    given: Given
    scale: float

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """E[x0 | x] + scale (E[x0 | x, labels] - E[x0 | x])."""
        return self.predict(x, sigma).x0

    def predict(self, x: Tensor, sigma: Tensor, /) -> Prediction:
        """x0 guided; the variance is that of the labels alone, as in GLIDE (Nichol et al. 2021)."""
        prior, labels, cond = self.given.prior, self.given.labels, self.given.cond
        assert labels is not None and prior.num_classes is not None
        sigma = like_image(sigma, x)
        levels = torch.cat([sigma, sigma]) if sigma.ndim and len(sigma) > 1 else sigma
        both = torch.cat([labels, torch.full_like(labels, prior.num_classes)])
        pictures = torch.cat([cond, cond]) if cond is not None and len(cond) > 1 else cond
        found = prior.predict(torch.cat([x, x]), levels, both, pictures)
        to, away_from = found.x0.chunk(2)
        variance = None if found.variance is None else found.variance.chunk(2)[0]
        return Prediction(away_from + self.scale * (to - away_from), variance)


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

    Not for priors in closed form, whose mean it moves. What predicts a variance still does.
    """
    if hasattr(denoise, "predict"):
        return _Clipped(denoise, low, high)
    return lambda x, sigma, /: denoise(x, sigma).clamp(low, high)


@dataclass(frozen=True, slots=True)
class _Clipped:
    denoise: Any  # a Denoise that can `predict`
    low: float
    high: float

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        return self.predict(x, sigma).x0

    def predict(self, x: Tensor, sigma: Tensor, /) -> Prediction:
        found: Prediction = self.denoise.predict(x, sigma)
        return Prediction(found.x0.clamp(self.low, self.high), found.variance)


def _extrapolate(to: Denoise, away_from: Denoise, scale: Callable[[Tensor], Tensor | float]) -> Denoise:
    def guided(x: Tensor, sigma: Tensor, /) -> Tensor:
        base = away_from(x, sigma)
        return base + scale(like_image(sigma, x)) * (to(x, sigma) - base)

    return guided
