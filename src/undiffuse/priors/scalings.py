"""What networks predict, as scalings: x0 = skip x + out F(into x, noise), for x = x0 + sigma n.

A variance-preserving network sees x_t = x / sqrt(1 + sigma^2), which is sqrt(abar) x0 + sqrt(1 - abar) n for
abar = 1 / (1 + sigma^2). All are finite at sigma = 0, where all but `x0` answer with x itself.
"""

from functools import partial

import torch
from torch import Tensor

from undiffuse.priors.prior import Coefficients, Scaling
from undiffuse.priors.schedules import DiscreteSchedule


def eps(schedule: DiscreteSchedule, /) -> Scaling:
    """F is the noise n (DDPM, Ho et al. 2020): x0 = x - sigma F(x_t, t)."""
    return partial(_eps, schedule)


def v(schedule: DiscreteSchedule, /) -> Scaling:
    """F is sqrt(abar) n - sqrt(1 - abar) x0 (Salimans and Ho 2022).

    x0 = x / (1 + sigma^2) - sigma F / sqrt(1 + sigma^2).
    """
    return partial(_v, schedule)


def x0(schedule: DiscreteSchedule, /) -> Scaling:
    """F is x0 itself, from x_t and t."""
    return partial(_x0, schedule)


def edm(sigma_data: float = 0.5) -> Scaling:
    """EDM (Karras et al. 2022, table 1): unit variance in, unit variance out, told ln(sigma) / 4.

    skip = d^2 / (sigma^2 + d^2), out = sigma d / sqrt(sigma^2 + d^2), into = 1 / sqrt(sigma^2 + d^2), d =
    sigma_data.
    """
    if not sigma_data > 0:
        raise ValueError(
            f"sigma_data = {sigma_data}; expected the deviation of the images, 0.5 for most sets"
        )
    return partial(_edm, sigma_data)


def flow(told: float = 1.0) -> Scaling:
    """Rectified flow (Liu et al. 2022): x_t = (1 - t) x0 + t n, F = n - x0, t = sigma / (1 + sigma).

    x0 = x_t - t F with x_t = x / (1 + sigma). The network is told `told` * t: 1000 for those trained on
    timesteps.
    """
    return partial(_flow, told)


def told(scaling: Scaling, scale: float, /) -> Scaling:
    """The same, but the network is told `scale` times as much: 1000 / T where it was trained on t 1000 / T."""
    return scaling if scale == 1 else partial(_told, scaling, scale)


# Functions of the module, and not closures, so that a prior can be pickled.


def _eps(schedule: DiscreteSchedule, sigma: Tensor) -> Coefficients:
    return Coefficients(1.0, -sigma, _preserve(sigma), schedule.t(sigma))


def _v(schedule: DiscreteSchedule, sigma: Tensor) -> Coefficients:
    into = _preserve(sigma)
    return Coefficients(into.square(), -sigma * into, into, schedule.t(sigma))


def _x0(schedule: DiscreteSchedule, sigma: Tensor) -> Coefficients:
    return Coefficients(0.0, torch.ones_like(sigma), _preserve(sigma), schedule.t(sigma))


def _edm(sigma_data: float, sigma: Tensor) -> Coefficients:
    into = (sigma.square() + sigma_data**2).rsqrt()
    told = sigma.clamp(min=torch.finfo(sigma.dtype).tiny).log() / 4  # finite at 0, where out is 0
    return Coefficients((sigma_data * into).square(), sigma * sigma_data * into, into, told)


def _flow(told: float, sigma: Tensor) -> Coefficients:
    into = 1 / (1 + sigma)
    t = sigma * into
    return Coefficients(into, -t, into, told * t)


def _told(scaling: Scaling, scale: float, sigma: Tensor) -> Coefficients:
    found = scaling(sigma)
    return found._replace(noise=scale * found.noise)


def _preserve(sigma: Tensor) -> Tensor:
    return (1 + sigma.square()).rsqrt()
