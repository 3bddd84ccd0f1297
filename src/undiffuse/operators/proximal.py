"""argmin_z |A z - y|^2 + lam |z - x|^2 for one y and many x: what depends on y alone is computed once."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from undiffuse.operators.base import LinearOperator, SVDOperator, Weight
from undiffuse.operators.solve import descend, inner


@dataclass(frozen=True, slots=True)
class Fit:
    """A solution, and what the next search begins with."""

    z: Tensor  # (B, C, H, W)
    pull: Tensor | None = None  # A^T (y - A z); None where nothing is searched for
    moved: Tensor | None = None  # z less the solution before
    normal: Tensor | None = None  # A^T A of that


class Proximal(Protocol):
    """The proximal map of |A z - y|^2."""

    def __call__(self, x: Tensor, lam: Weight, /) -> Tensor:
        """`A.ridge(x, y, lam)`: exact to rounding."""
        ...

    def near(self, x: Tensor, lam: Weight, error: Tensor, before: Fit | None = None, /) -> Fit:
        """The same up to an error e of about |A e|^2 + lam |e|^2 = n error^2, n being the numbers of an image.

        y with noise of sigma_y makes z the mean of a Gaussian posterior of covariance sigma_y^2 (A^T A + lam)^-1: e is
        error / sigma_y of its deviations, as a root mean square. lam > 0. A search goes on from `before`, the solution
        for another x or lam; a closed form is exact and needs neither.
        """
        ...


def proximal(A: LinearOperator, y: Tensor) -> Proximal:
    """By modes with an SVD, by conjugate gradient without."""
    return Spectral(A, y) if isinstance(A, SVDOperator) else Searched(A, y)


class Spectral:
    """By modes: U^T y is kept."""

    def __init__(self, A: SVDOperator, y: Tensor):
        self.A, self.uty = A, A.ut(y)

    def __call__(self, x: Tensor, lam: Weight, /) -> Tensor:
        """See `Proximal`."""
        return self.A.ridge_modes(x, self.uty, lam)

    def near(self, x: Tensor, lam: Weight, error: Tensor, before: Fit | None = None, /) -> Fit:
        """Exact."""
        return Fit(self(x, lam))


class Searched:
    """By conjugate gradient with the operator's own preconditioner."""

    def __init__(self, A: LinearOperator, y: Tensor):
        self.A, self.y, self.inverse = A, y, A.preconditioner()

    def __call__(self, x: Tensor, lam: Weight, /) -> Tensor:
        """See `Proximal`."""
        return self.A.ridge(x, self.y, lam)

    def near(self, x: Tensor, lam: Weight, error: Tensor, before: Fit | None = None, /) -> Fit:
        """r^T P^-1 r stands for the error in the norm of M = A^T A + lam, squared, which it is where P = M.

        Where edges are felt the error may be a few times as large: 4 in the pictures of 20 pixels of
        tests/operators/test_proximal.py. The search begins on the line through the last two solutions.
        """
        weight = torch.as_tensor(lam, dtype=x.dtype, device=x.device)
        z, pull = (x, None) if before is None else (before.z, before.pull)
        if pull is None:
            pull = self.A.adjoint(self.y - self.A(z))
        r = torch.addcmul(pull, weight, x - z)
        if before is not None and before.moved is not None and before.normal is not None:
            z, r = _onwards(z, r, before.moved, torch.addcmul(before.normal, weight, before.moved))
        z, r = descend(
            lambda d: torch.addcmul(self.A.normal(d), weight, d),
            z,
            r,
            self.inverse(weight),
            error**2 * x[0].numel(),
        )
        found = torch.addcmul(r, weight, z - x)
        if before is None or before.pull is None:
            return Fit(z, found)
        return Fit(z, found, z - before.z, before.pull - found)


def _onwards(z: Tensor, r: Tensor, d: Tensor, md: Tensor) -> tuple[Tensor, Tensor]:
    """z + a d and its residual: the least error, in the norm of M, on the line along d. No product with A."""
    curvature = inner(d, md)
    a = torch.where(curvature > 0, inner(r, d) / torch.where(curvature > 0, curvature, 1), 0)
    return torch.addcmul(z, a, d), torch.addcmul(r, a, md, value=-1)
