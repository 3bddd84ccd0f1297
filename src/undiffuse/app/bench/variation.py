"""Total variation for any linear degradation, by a primal-dual method."""

import torch
from torch import Tensor
from torch.nn import functional

from undiffuse.operators.base import LinearOperator, SVDOperator

GRADIENT = 8.0  # |grad|^2 of forward differences in two directions
POWER = 30  # iterations for the norm of A
SCALE = 0.1  # of the primal step against the dual: pictures change by tenths, the dual variables by ones


def constrained_variation(A: LinearOperator, y: Tensor, sigma_y: float, iterations: int) -> Tensor:
    """argmin TV(x) with |A x - y|^2 <= m sigma_y^2, x (B, C, H, W) (Rudin, Osher and Fatemi 1992, eqs. 2.4-2.5).

    TV sums |grad x| over pixels, the channels in one norm. Chambolle and Pock (2011, algorithm 1) with the dual
    pair (gradient, residual); A is divided by its norm, so that both have a say. The start is the ridge solution.
    """
    norm = _norm(A, y)
    radius = (A.measurements**0.5) * sigma_y / norm
    y = y / norm
    x = A.ridge(y.new_zeros(len(y), *A.in_shape), y * norm, max(sigma_y, 0.02) ** 2)
    ahead, p, q = x, torch.zeros_like(_gradient(x)), torch.zeros_like(y)
    rate = 0.99 / (GRADIENT + 1) ** 0.5
    tau, sigma = rate * SCALE, rate / SCALE
    for _ in range(iterations):
        p = p + sigma * _gradient(ahead)
        p = p / p.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1)
        q = q + sigma * (A(ahead) / norm - y)
        size = q.flatten(1).norm(dim=1).reshape(-1, *[1] * (q.ndim - 1))
        q = q * (1 - sigma * radius / size.clamp(min=1e-12)).clamp(min=0)
        before, x = x, x + tau * (_divergence(p) - A.adjoint(q) / norm)
        ahead = 2 * x - before
    return x


def _norm(A: LinearOperator, y: Tensor) -> float:
    """The largest singular value, by the operator's own or power iteration."""
    if isinstance(A, SVDOperator):
        return float(A.s.max())
    x = torch.randn(1, *A.in_shape, generator=torch.Generator().manual_seed(0)).to(y)
    size = 1.0
    for _ in range(POWER):
        x = A.adjoint(A(x / x.norm()))
        size = float(x.norm())
    return size**0.5


def _gradient(x: Tensor) -> Tensor:
    """(B, 2, C, H, W): forward differences down and to the right, 0 at the last row and column."""
    down = functional.pad(x[:, :, 1:] - x[:, :, :-1], (0, 0, 0, 1))
    right = functional.pad(x[..., 1:] - x[..., :-1], (0, 1))
    return torch.stack([down, right], 1)


def _divergence(p: Tensor) -> Tensor:
    """Minus the adjoint of `_gradient`."""
    down, right = p[:, 0, :, :-1], p[:, 1, :, :, :-1]
    return (
        functional.pad(down, (0, 0, 0, 1))
        - functional.pad(down, (0, 0, 1, 0))
        + functional.pad(right, (0, 1))
        - functional.pad(right, (1, 0))
    )
