"""The mean of what two limits leave of a Gaussian."""

import math

import torch
from torch import Tensor

FLAT = 1e-2  # limits over which a Gaussian hardly changes: differences would cost digits
TAIL, DEPTH = 4.0, 10  # from where a continued fraction is taken, and how deep: to 1e-8 there


def truncated(mean: Tensor, deviation: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The mean of a Gaussian's part between two limits: m + s (phi(a) - phi(b)) / (Phi(b) - Phi(a)).

    By Mills' ratio, so that far tails keep their digits: a limit that is far beyond is met from inside. Limits close
    together, w apart around c, give c (1 - w^2 / 12), in deviations from m.
    """
    a, b = (low - mean) / deviation, (high - mean) / deviation
    mirrored = a + b < 0  # if most of it lies below
    a, b = torch.where(mirrored, -b, a), torch.where(mirrored, -a, b)
    between = (a - b) * (a + b) / 2  # ln phi(b) / phi(a), by which all is divided
    inside = -torch.expm1(between) / (_mills(a) - torch.exp(between) * _mills(b))
    flat = (a + b) / 2 * (1 - (b - a).square() / 12)
    inside = torch.where((b - a) * (1 + a.abs()) < FLAT, flat, inside)
    inside = torch.maximum(torch.minimum(inside, b), a)
    return mean + deviation * torch.where(mirrored, -inside, inside)


def _mills(t: Tensor) -> Tensor:
    """(1 - Phi(t)) / phi(t). Beyond 4 by Laplace's continued fraction, 1 / (t + 1 / (t + 2 / (t + ..))).

    Not by torch's erfcx: of float64 it has nine digits, and others in another place of a batch.
    """
    near, far = t.clamp(max=TAIL), t.clamp(min=TAIL)
    plain = math.sqrt(math.pi / 2) * torch.exp(near.square() / 2) * torch.erfc(near / math.sqrt(2))
    fraction = far
    for k in range(DEPTH, 0, -1):
        fraction = far + k / fraction
    return torch.where(t > TAIL, 1 / fraction, plain)
