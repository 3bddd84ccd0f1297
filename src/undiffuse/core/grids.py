"""Noise levels to visit. A grid is a tensor: n + 1 levels from the highest to 0, and so n network calls."""

from typing import Literal, Protocol

import torch
from torch import Tensor


class HasSigmas(Protocol):
    """A schedule of training: its noise levels, lowest first."""

    @property
    def sigmas(self) -> Tensor: ...  # noqa: D102


def karras(n: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """(n + 1,) float64, evenly spaced in sigma^(1/rho), then 0 (Karras et al. 2022, eq. 5; their defaults).

    n = 1 is one call at sigma_max.
    """
    _check(n, sigma_min, sigma_max)
    if not rho > 0:
        raise ValueError(f"rho = {rho}; expected a positive number, 7 in the paper")
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _to_zero((high + ramp * (low - high)) ** rho)


def exponential(n: int, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Tensor:
    """(n + 1,) float64, evenly spaced in log sigma, then 0: the limit of `karras` for large rho."""
    _check(n, sigma_min, sigma_max)
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    return _to_zero(sigma_max * (sigma_min / sigma_max) ** ramp)


def from_timesteps(
    schedule: HasSigmas | Tensor, n: int, spacing: Literal["leading", "trailing", "linspace"] = "trailing"
) -> Tensor:
    """(n + 1,) float64: n of a schedule's own T levels, then 0. Exactly n calls for every n in 1..T.

    leading: t = floor(i T / n). For n that divides T this is DDIM's stride (guided-diffusion's 'ddimN',
    DDRM); other n get uneven strides here, where published code fails, makes more steps, or never gets
    high.

    trailing: t = round(T - i T / n) - 1, from the highest level on (Lin et al. 2023, table 2).

    linspace: t = round(i (T - 1) / (n - 1)), both ends (guided-diffusion's 'N'); n = 1 takes the highest.
    """
    sigmas = (schedule if isinstance(schedule, Tensor) else schedule.sigmas).detach().cpu().double()
    T = sigmas.numel()
    if not 1 <= n <= T:
        raise ValueError(f"n = {n} steps; expected 1 to {T}, the levels of the schedule (or use karras)")
    if sigmas.ndim != 1 or not (sigmas.diff() > 0).all():
        raise ValueError("the schedule's sigmas must be (T,) and increase; give those of a DiscreteSchedule")
    if spacing == "leading":
        steps = [i * T // n for i in range(n)]
    elif spacing == "trailing":
        steps = [round(T - i * T / n) - 1 for i in range(n)][::-1]
    elif spacing == "linspace":
        steps = [round(i * (T - 1) / (n - 1)) for i in range(n)] if n > 1 else [T - 1]
    else:
        raise ValueError(f"spacing '{spacing}'; choose from leading, trailing, linspace")
    return _to_zero(sigmas[steps].flip(0))


def with_jumps(sigmas: Tensor, *, length: int, repeats: int) -> Tensor:
    """A grid that climbs, for `loop.time_travel`: each stretch of `length` steps is walked `repeats` times.

    RePaint (Lugmayr et al. 2022, sec. 4.2; length 10, repeats 10). Stretches are counted from the last
    level above 0, as in the authors' schedule; a climb is one element, for adding noise in one go or in
    `length` has the same law. A descent is a network call, so that the cost is about `repeats` times as
    high.
    """
    if length < 1 or repeats < 1:
        raise ValueError(f"length = {length}, repeats = {repeats}; expected both 1 or more")
    n = len(sigmas) - 1
    left = {k: repeats - 1 for k in range(n - 1, length - 1, -length)}
    walk = [0]
    while walk[-1] < n:
        k = walk[-1]
        if left.get(k, 0) > 0:
            left[k] -= 1
            walk.append(k - length)
        else:
            walk.append(k + 1)
    return sigmas[walk]


def _check(n: int, sigma_min: float, sigma_max: float) -> None:
    if n < 1:
        raise ValueError(f"n = {n} steps; expected 1 or more")
    if not 0 < sigma_min < sigma_max < float("inf"):
        raise ValueError(
            f"sigma from {sigma_min} to {sigma_max}; expected 0 < sigma_min < sigma_max, both finite"
        )


def _to_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])
