"""The one loss: weight(sigma) |x0hat - x0|^2. What differs between eps, v, x0 and EDM training is the weight.

With x = x0 + sigma n, eps = (x - x0) / sigma and v = sqrt(abar) n - sqrt(1 - abar) x0 with abar = 1 / (1 + sigma^2), an
error d of x0hat is an error d / sigma of eps and d sqrt(1 + sigma^2) / sigma of v.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from undiffuse.priors.schedules import DiscreteSchedule

Weight = Callable[[Tensor], Tensor]  # sigma (B, 1, 1, 1) -> of its shape
DrawSigma = Callable[[Tensor], Tensor]  # u (B,), uniform in [0, 1) -> sigma (B,)


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


WEIGHTS: dict[str, Weight] = {"x0": x0, "eps": eps, "v": v, "edm": edm, "min_snr": min_snr}


def weight_named(name: str) -> Weight:
    """A weight by name. ValueError with the choices."""
    if name not in WEIGHTS:
        raise ValueError(f"no loss weight named '{name}'; choose from {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def denoising_loss(
    prior: Callable[..., Tensor],
    clean: Tensor,
    labels: Tensor | None,
    sigma: Tensor,
    n: Tensor,
    /,
    *,
    weight: Weight,
) -> Tensor:
    """(B,): weight(sigma) times the mean squared error of each image.

    prior: a `Prior`, or what wraps one; clean, n: (B, C, H, W); sigma: (B,), > 0.
    """
    level = sigma.reshape(-1, 1, 1, 1).to(clean)
    error = (prior(clean + level * n, level, labels) - clean).square()
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
