"""The loss of denoising: weight(sigma) |x0hat - x0|^2. What differs between eps, v, x0 and EDM training is the weight.

With x = x0 + sigma n, eps = (x - x0) / sigma and v = sqrt(abar) n - sqrt(1 - abar) x0 with abar = 1 / (1 + sigma^2), an
error d of x0hat is an error d / sigma of eps and d sqrt(1 + sigma^2) / sigma of v.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from undiffuse.core.state import Noise
from undiffuse.priors.prior import Prior
from undiffuse.priors.schedules import DiscreteSchedule
from undiffuse.training.conditioning import LowRes
from undiffuse.training.draws import DrawSigma, uniform

Weight = Callable[[Tensor], Tensor]  # sigma (B, 1, 1, 1) -> of its shape


def x0(sigma: Tensor) -> Tensor:
    """1: the error of the image itself."""
    return torch.ones_like(sigma)


def eps(sigma: Tensor) -> Tensor:
    """1 / sigma^2, the signal-to-noise ratio: the error of the predicted noise (Ho et al. 2020, eq. 14)."""
    return sigma**-2


def v(sigma: Tensor) -> Tensor:
    """(1 + sigma^2) / sigma^2 = SNR + 1: the error of v (Salimans and Ho 2022)."""
    return sigma**-2 + 1


def edm(sigma: Tensor, data_std: float = 0.5) -> Tensor:
    """(sigma^2 + d^2) / (sigma d)^2: the error of EDM's raw network, unit at every level (Karras et al. 2022)."""
    return sigma**-2 + data_std**-2


def min_snr(sigma: Tensor, gamma: float = 5.0) -> Tensor:
    """min(1 / sigma^2, gamma) (Hang et al. 2023, eq. 8, as a weight of the image's error)."""
    return (sigma**-2).clamp(max=gamma)


def truncated_snr(sigma: Tensor) -> Tensor:
    """max(1 / sigma^2, 1): the larger of the errors of eps and of the image (Salimans and Ho 2022, section 4)."""
    return (sigma**-2).clamp(min=1)


WEIGHTS: dict[str, Weight] = {
    "x0": x0,
    "eps": eps,
    "v": v,
    "edm": edm,
    "min_snr": min_snr,
    "truncated_snr": truncated_snr,
}


def weight_named(name: str) -> Weight:
    """A weight by name. ValueError with the choices."""
    if name not in WEIGHTS:
        raise ValueError(f"no loss weight named '{name}'; choose from {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


class Objective(Protocol):
    """What training lowers: a module, so that its call can be distributed, around the model that learns."""

    @property
    def model(self) -> nn.Module: ...
    def __call__(
        self, clean: Tensor, labels: Tensor | None, noise: Noise, /
    ) -> Tensor: ...  # (B,), one loss an image


@runtime_checkable
class Staged(Protocol):
    """An objective that changes as training goes on. The loop tells it how far it is, before each step."""

    images_seen: int  # by all processes, at the start of the step


class Denoising(nn.Module):
    """weight(sigma) times the mean squared error of x0hat, for x = x0 + sigma n.

    draw_sigma: the levels trained on. label_dropout: the share of images whose class is hidden, for classifier-free
    guidance (Ho and Salimans 2022); the network then needs a null class, which is number num_classes. condition:
    makes the picture that the prior is conditioned on from the clean image.
    """

    def __init__(
        self,
        prior: Prior,
        draw_sigma: DrawSigma,
        weight: Weight,
        *,
        label_dropout: float = 0.0,
        condition: LowRes | None = None,
    ):
        super().__init__()
        if not 0 <= label_dropout < 1:
            raise ValueError(
                f"label_dropout = {label_dropout}; expected a share of 0 or more, and less than 1"
            )
        if label_dropout and not prior.null_class:
            raise ValueError(
                f"label_dropout = {label_dropout} for a prior without a null class; give it one, or set it to 0"
            )
        made = 0 if condition is None else condition.channels
        if made != prior.conditions:
            raise ValueError(
                f"a condition of {made} channels for a prior that takes {prior.conditions}; build them alike"
            )
        self.model, self.draw_sigma, self.weight = prior, draw_sigma, weight
        self.label_dropout, self.condition = label_dropout, condition

    def forward(self, clean: Tensor, labels: Tensor | None, noise: Noise) -> Tensor:
        """(B,). clean: (B, C, H, W); `noise` draws all that is random, an image at a time."""
        u = uniform(noise, len(clean), 2)
        sigma = self.draw_sigma(u[:, 0])
        if labels is not None and self.label_dropout:
            hidden = (u[:, 1] < self.label_dropout).to(labels.device)
            labels = torch.where(hidden, self.model.num_classes or 0, labels)
        n = noise(clean)
        cond = None if self.condition is None else self.condition(clean, noise)
        return self._losses(clean, labels, cond, sigma, n)

    def _losses(
        self, clean: Tensor, labels: Tensor | None, cond: Tensor | None, sigma: Tensor, n: Tensor
    ) -> Tensor:
        return denoising_loss(self.model, clean, labels, sigma, n, weight=self.weight, cond=cond)


def denoising_loss(
    prior: Callable[..., Tensor],
    clean: Tensor,
    labels: Tensor | None,
    sigma: Tensor,
    n: Tensor,
    /,
    *,
    weight: Weight,
    cond: Tensor | None = None,
) -> Tensor:
    """(B,): weight(sigma) times the mean squared error of each image.

    prior: a `Prior`, or what wraps one; clean, n: (B, C, H, W); sigma: (B,), > 0; cond: what `prior` is
    conditioned on, if it is.
    """
    level = sigma.reshape(-1, 1, 1, 1).to(clean)
    error = (prior(clean + level * n, level, labels, cond) - clean).square()
    return (weight(level) * error).flatten(1).mean(1)


def by_prediction(estimate: Tensor, clean: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    """The three losses of one estimate, each (B,): of the noise, the image and the velocity, whichever is trained."""
    level = sigma.reshape(-1, 1, 1, 1).to(clean)
    error = (estimate - clean).square()
    return {name: (WEIGHTS[name](level) * error).flatten(1).mean(1) for name in ("eps", "x0", "v")}


def lognormal(mean: float = -1.2, std: float = 1.2) -> DrawSigma:
    """ln sigma ~ N(mean, std^2) (Karras et al. 2022, table 1; their defaults, for images of deviation 0.5)."""
    if not std > 0:
        raise ValueError(f"std = {std} of ln sigma; expected a positive number, 1.2 in the paper")

    def draw(u: Tensor) -> Tensor:
        inside = u.double().clamp(1e-6, 1 - 1e-6)  # within 4.75 deviations
        return (mean + std * torch.special.ndtri(inside)).exp()

    return draw


def levels_of(schedule: DiscreteSchedule) -> DrawSigma:
    """The schedule's own levels, each equally often: DDPM's uniform timesteps."""

    def draw(u: Tensor) -> Tensor:
        sigmas = schedule.sigmas
        return sigmas[(u.double() * len(sigmas)).long().clamp(max=len(sigmas) - 1)]

    return draw
