"""Conjugate gradient, one problem an image."""

from collections.abc import Callable

import torch
from torch import Tensor

Apply = Callable[[Tensor], Tensor]


def conjugate_gradient(
    apply: Apply,
    b: Tensor,
    /,
    *,
    precondition: Apply | None = None,
    tolerance: float | None = None,
    iterations: int = 500,
) -> Tensor:
    """Solve M z = b for symmetric M >= 0, from z = 0 (so a singular M gives the solution of least norm).

    Hestenes and Stiefel (1952), for each image of the batch on its own: an image that has converged is
    frozen, so its result does not depend on its neighbours. Stops when |r| <= tolerance |b| (default 100 eps
    of the dtype), in the norm r^T P^-1 r if there is a preconditioner P^-1, or after `iterations`.
    b: (B, ...), real.
    """
    tolerance = 100 * torch.finfo(b.dtype).eps if tolerance is None else tolerance
    inverse = precondition or _same
    limit = tolerance**2 * inner(b, inverse(b))
    return descend(apply, torch.zeros_like(b), b, inverse, limit, iterations)[0]


def descend(
    apply: Apply, z: Tensor, r: Tensor, inverse: Apply, limit: Tensor, iterations: int = 500
) -> tuple[Tensor, Tensor]:
    """The same from any z, whose residual r = b - M z is given, to r^T P^-1 r <= limit: z and its residual.

    With P = M that is the squared error of z in the norm of M. limit broadcasts to (B, 1, ...).
    """
    d = q = inverse(r)
    rho = inner(r, q)
    curved = torch.ones_like(rho, dtype=torch.bool)
    for _ in range(iterations):
        active = curved & (rho > limit)
        if not active.any():
            break
        md = apply(d)
        curvature = inner(d, md)
        curved = curved & (curvature > 0)  # zero curvature: d lies in the null space, nothing more to gain
        active &= curved
        alpha = torch.where(active, rho / torch.where(curvature > 0, curvature, 1), 0)
        z = torch.addcmul(z, alpha, d)
        r = torch.addcmul(r, alpha, md, value=-1)
        q = inverse(r)
        rho, before = torch.where(active, inner(r, q), rho), rho
        d = torch.addcmul(q, rho / torch.where(before > 0, before, 1), d)
    return z, r


def inner(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of each image, shaped (B, 1, ...) to broadcast back."""
    return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))


def _same(r: Tensor) -> Tensor:
    return r
