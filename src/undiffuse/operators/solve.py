"""Conjugate gradient, one problem an image."""

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradient(
    apply: Callable[[Tensor], Tensor],
    b: Tensor,
    /,
    *,
    precondition: Callable[[Tensor], Tensor] | None = None,
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
    z, r = torch.zeros_like(b), b
    d = q = inverse(r)
    rho = _dot(r, q)
    limit = tolerance**2 * rho
    curved = torch.ones_like(rho, dtype=torch.bool)
    for _ in range(iterations):
        active = curved & (rho > limit)
        if not active.any():
            break
        md = apply(d)
        curvature = _dot(d, md)
        curved = curved & (curvature > 0)  # zero curvature: d lies in the null space, nothing more to gain
        active &= curved
        alpha = torch.where(active, rho / torch.where(curvature > 0, curvature, 1), 0)
        z = torch.addcmul(z, alpha, d)
        r = torch.addcmul(r, alpha, md, value=-1)
        q = inverse(r)
        rho, before = torch.where(active, _dot(r, q), rho), rho
        d = torch.addcmul(q, rho / torch.where(before > 0, before, 1), d)
    return z


def _same(r: Tensor) -> Tensor:
    return r


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> of each image, shaped (B, 1, ...) to broadcast back."""
    return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))
