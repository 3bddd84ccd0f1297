"""Guidance: functions from denoisers to denoisers. They nest, and no sampler knows of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undiffuse.core.state import Denoise, like_image
from undiffuse.priors.prior import Given, Prediction, Prior

Interval = tuple[float, float]  # guidance for low < sigma <= high only (Kynkaanniemi et al. 2024)


def cfg(cond: Denoise, uncond: Denoise, /, scale: float) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022): uncond + scale (cond - uncond).

    scale 1 is the conditional denoiser itself (one call a step), 0 the unconditional one; the paper's w is
    scale - 1.
    """
    return cond if scale == 1 else _Extrapolated(cond, uncond, scale)


def class_guided(
    prior: Prior,
    labels: Tensor,
    cond: Tensor | None = None,
    /,
    scale: float = 1.0,
    interval: Interval | None = None,
) -> "Given | ClassGuided":
    """cfg of a prior against its own null class, with one network call a level for both.

    labels: (B,); cond: as in `Prior.given`. interval: the levels that are guided, all if it is None. scale 1 is
    the conditional prior and needs no null class; any other does: ValueError for a prior that was trained
    without class dropout.
    """
    _check_interval(interval)
    given = prior.given(labels, cond)
    if scale == 1:
        return given
    if not prior.null_class:
        raise ValueError(
            f"guidance {scale:g} needs a prior that knows images without a class, and this one was trained "
            "without class dropout; use guidance 1, or train with conditioning.dropout"
        )
    return ClassGuided(given, scale, interval)


@dataclass(frozen=True, slots=True)
class ClassGuided:
    """What `class_guided` gives. The batch is doubled inside: it takes twice the memory of `Given`."""

    given: Given
    scale: float
    interval: Interval | None = None

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """E[x0 | x] + scale (E[x0 | x, labels] - E[x0 | x])."""
        return self.predict(x, sigma).x0

    def predict(self, x: Tensor, sigma: Tensor, /) -> Prediction:
        """x0 guided; the variance is that of the labels alone, as in GLIDE (Nichol et al. 2021)."""
        prior, labels, cond = self.given.prior, self.given.labels, self.given.cond
        assert labels is not None and prior.num_classes is not None
        if len(labels) != len(x):
            raise ValueError(f"{len(labels)} labels for {len(x)} images; expected one an image, ({len(x)},)")
        sigma = like_image(sigma, x)
        scale = _scale_at(sigma, self.scale, self.interval)
        if scale is None:
            return self.given.predict(x, sigma)
        levels = torch.cat([sigma, sigma]) if sigma.ndim and len(sigma) > 1 else sigma
        both = torch.cat([labels, torch.full_like(labels, prior.num_classes)])
        pictures = torch.cat([cond, cond]) if cond is not None and len(cond) > 1 else cond
        found = prior.predict(torch.cat([x, x]), levels, both, pictures)
        to, away_from = found.x0.chunk(2)
        variance = None if found.variance is None else found.variance.chunk(2)[0]
        return Prediction(away_from + scale * (to - away_from), variance)


def cfg_interval(cond: Denoise, uncond: Denoise, /, scale: float, low: float, high: float) -> Denoise:
    """cfg for low < sigma <= high only, the plain conditional elsewhere (Kynkaanniemi et al. 2024).

    The paper has 0.28 to 2.9 for ImageNet-512. One batch may mix levels: both are called where any image of
    it is within.
    """
    _check_interval((low, high))
    return _Extrapolated(cond, uncond, scale, (low, high))


def autoguidance(good: Denoise, bad: Denoise, /, scale: float, interval: Interval | None = None) -> Denoise:
    """bad + scale (good - bad), `bad` being a smaller or less trained `good` (Karras et al. 2024)."""
    _check_interval(interval)
    return good if scale == 1 else _Extrapolated(good, bad, scale, interval)


def classifier_guided(
    denoise: Denoise, log_prob: Callable[[Tensor, Tensor], Tensor], /, scale: float = 1.0
) -> Denoise:
    """x0 + scale sigma^2 grad_x log p(label | x; sigma): Dhariwal and Nichol (2021), algorithm 2.

    log_prob: (x, sigma) -> (B,), each entry of its own image only. A variance-preserving classifier is to
    be given x / sqrt(1 + sigma^2). The gradient is taken at the current x, in any grad mode; the result can
    be differentiated again if x asks for it. A variance that the prior predicts is kept, as there.
    """
    pull = _Pull(log_prob, scale)
    if hasattr(denoise, "predict"):
        return _ClassifierGuided(denoise, pull)
    return lambda x, sigma, /: denoise(x, sigma) + pull(x, sigma)


@dataclass(frozen=True, slots=True)
class _Pull:
    log_prob: Callable[[Tensor, Tensor], Tensor]
    scale: float

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        again = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            leaf = x if again else x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.log_prob(leaf, sigma).sum(), leaf, create_graph=again)
        return self.scale * like_image(sigma, x).square() * gradient


@dataclass(frozen=True, slots=True)
class _ClassifierGuided:
    denoise: Any  # a Denoise that can `predict`
    pull: _Pull

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        return self.denoise(x, sigma) + self.pull(x, sigma)

    def predict(self, x: Tensor, sigma: Tensor, /) -> Prediction:
        found: Prediction = self.denoise.predict(x, sigma)
        return Prediction(found.x0 + self.pull(x, sigma), found.variance)


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


@dataclass(frozen=True, slots=True)
class _Extrapolated:
    """away_from + scale (to - away_from), `to` alone outside the interval. It predicts a variance if `to` does."""

    to: Denoise
    away_from: Denoise
    scale: float
    interval: Interval | None = None

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        return self._moved(self.to(x, sigma), x, sigma)

    def predict(self, x: Tensor, sigma: Tensor, /) -> Prediction:
        to: Any = self.to
        found: Prediction = to.predict(x, sigma) if hasattr(to, "predict") else Prediction(to(x, sigma))
        # A copy: where the network is a CUDA graph, the next answer is in its place.
        variance = None if found.variance is None else found.variance.clone()
        return Prediction(self._moved(found.x0, x, sigma), variance)

    def _moved(self, x0: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        scale = _scale_at(like_image(sigma, x), self.scale, self.interval)
        if scale is None:
            return x0
        base = self.away_from(x, sigma)
        return base + scale * (x0 - base)


def _check_interval(interval: Interval | None) -> None:
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise ValueError(f"interval from {interval[0]:g} to {interval[1]:g}; expected 0 <= low < high")


def _scale_at(sigma: Tensor, scale: float, interval: Interval | None) -> Tensor | float | None:
    """Of each image, 1 outside the interval; None if all are outside."""
    if interval is None:
        return scale
    inside = (sigma > interval[0]) & (sigma <= interval[1])
    return torch.where(inside, scale, 1.0).to(sigma.dtype) if inside.any() else None
