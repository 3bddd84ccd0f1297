"""What a degradation is: y = A(x), without noise, solver choice or randomness.

x is (B, C, H, W) in [-1, 1]; y is (B, *out_shape) in the same scale. Operators are modules so that
`.to(device, dtype)` works; they hold tensors only and never change. They are built in float64: convert with
`.to(x.dtype)`.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from undiffuse.operators.solve import Apply, conjugate_gradient

Shape = tuple[int, ...]
Weight = Tensor | float  # a number, or () or (B, 1, 1, 1): one value an image
Precondition = Callable[[Tensor], Apply]  # lam > 0 -> r -> about (A^T A + lam)^-1 r, symmetric and positive


SEEN = 30  # roundings of the largest singular value that a mode must stand out by


class Operator(nn.Module, ABC):
    """Any degradation, linear or not."""

    def __init__(self, in_shape: Shape, out_shape: Shape):
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)

    def __call__(self, x: Tensor) -> Any:
        """`forward`, of pictures of the size that it was built for: ValueError for others."""
        if x.shape[1:] != self.in_shape:
            expected = ", ".join(map(str, self.in_shape))
            raise ValueError(
                f"x of shape {tuple(x.shape)}; expected (B, {expected}): build the degradation for it"
            )
        return super().__call__(x)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, *out_shape)."""

    def on(self, device: torch.device) -> Self:
        """The same on `device`: a copy, for modules move in place, and whoever else holds this one needs it here."""
        held = [*self.parameters(), *self.buffers()]
        place = torch.empty(0, device=device).device  # cuda is cuda:0, or another
        # One that holds none may hold what only its own `.to()` knows of.
        there = bool(held) and all(one.device == place for one in held)
        return self if there else copy.deepcopy(self).to(device)

    @property
    def support(self) -> Tensor | None:
        """1 where an entry of y is measured, 0 where it is a filler (a missing pixel); None: all are."""
        return None

    @property
    def judged(self) -> Tensor | None:
        """1 where A x can be held against y, 0 where it cannot; None: wherever it is measured."""
        return None

    @property
    def measurements(self) -> int:
        """How many numbers of y are measured: the m of the certificate."""
        total = 1
        for size in self.out_shape:
            total *= size
        if self.support is None:
            return total
        return int(self.support.expand(self.out_shape).sum().item())


class Separable(Operator):
    """Not linear, but each number of y tells of one number of the picture, in a basis: what is left of it is known.

    x: (B, C, H, W) in [-1, 1]; variance: () or (B, 1, 1, 1), of the error of x, taken for white. `told` is `read(y)`.
    """

    @abstractmethod
    def guess(self, y: Tensor) -> Tensor:
        """A picture to begin with."""

    def read(self, y: Tensor) -> Tensor:
        """y as the others take it: what can be made of it once and for all."""
        return y

    @abstractmethod
    def estimate(self, x: Tensor, told: Tensor, variance: Tensor, sigma_y: float) -> Tensor:
        """The mean of a Gaussian around x of this variance, given y = A(.) + sigma_y n."""

    @abstractmethod
    def nearest(self, x: Tensor, told: Tensor, sigma_y: float = 0.0) -> Tensor:
        """The picture next to x that what is free of noise in y allows."""


class LinearOperator(Operator):
    """A linear degradation by its two directions; pseudo-inverse and ridge by conjugate gradient."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y: (B, *out_shape) -> (B, C, H, W)."""

    def normal(self, x: Tensor) -> Tensor:
        """A^T A x, by the shortest way."""
        return self.adjoint(self(x))

    def pinv(self, y: Tensor) -> Tensor:
        """A^+ y: the least-squares solution of least norm."""
        return self.ridge(y.new_zeros(y.shape[0], *self.in_shape), y, 0.0)

    def ridge(self, x: Tensor, y: Tensor, lam: Weight) -> Tensor:
        """argmin_z |A z - y|^2 + lam |z - x|^2; lam = 0 is its limit, x + A^+ (y - A x)."""
        weight = torch.as_tensor(lam, dtype=x.dtype, device=x.device)
        residual = self.adjoint(y - self(x))
        return x + conjugate_gradient(lambda d: torch.addcmul(self.normal(d), weight, d), residual)

    def preconditioner(self) -> Precondition:
        """For conjugate gradient; here r / lam."""
        return lambda lam: lambda r: r / lam


class SVDOperator(LinearOperator):
    """A = U diag(s) V^T. Every spectral array has the shape of `vt(x)`; the null space is where s == 0.

    `vt` is orthonormal and may be complex; `ut` lands in the shape of `vt(x)` and is zero where s == 0.
    Noise for a spectral step is drawn as coefficients where they are real, else in pixel space and taken
    through `vt` (`restore.problem.noise_of_modes`).
    """

    s: Tensor  # >= 0, broadcasts to vt(x)
    explicit_zeros: ClassVar[bool] = False  # True in `compat` only: `ut` is not zeroed where s == 0

    @abstractmethod
    def vt(self, x: Tensor) -> Tensor:
        """V^T x: (B, C, H, W) -> coefficients."""

    @abstractmethod
    def v(self, c: Tensor) -> Tensor:
        """V c, the inverse of `vt`: real."""

    @abstractmethod
    def ut(self, y: Tensor) -> Tensor:
        """U^T y: (B, *out_shape) -> coefficients, zero where s == 0."""

    @abstractmethod
    def u(self, c: Tensor) -> Tensor:
        """U c, the transpose of `ut`."""

    @property
    def seen(self) -> Tensor:
        """Modes that a measurement in this precision can tell from rounding: s > 30 eps max(s).

        Dividing rounding error of relative size eps by a smaller s would return noise of the size of the
        image.
        """
        return self.s > SEEN * torch.finfo(self.s.dtype).eps * self.s.max()

    def forward(self, x: Tensor) -> Tensor:
        """U s V^T x."""
        return self.u(self.s * self.vt(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """V s U^T y."""
        return self.v(self.s * self.ut(y))

    def inverse_coefficients(self, y: Tensor) -> Tensor:
        """U^T y / s, zero where s is not `seen`: the coefficients of A^+ y."""
        return torch.where(self.seen, self.ut(y) / torch.where(self.seen, self.s, 1), 0)

    def pinv(self, y: Tensor) -> Tensor:
        """A^+ y, without the modes that are not `seen`."""
        return self.v(self.inverse_coefficients(y))

    def ridge(self, x: Tensor, y: Tensor, lam: Weight) -> Tensor:
        """argmin_z |A z - y|^2 + lam |z - x|^2, by modes; lam = 0 leaves what is not `seen` as it is in x."""
        return self.ridge_modes(x, self.ut(y), lam)

    def ridge_modes(self, x: Tensor, uty: Tensor, lam: Weight) -> Tensor:
        """`ridge` for U^T y."""
        c, seen = self.vt(x), self.seen.to(self.s)
        weight = as_spectrum(lam, c)
        limit = (weight == 0).to(weight)  # products, for torch.where takes ten times as long on a CPU
        norm = self.s**2 + (weight + limit)
        # shares of the data and of x by mode: of the size of s, which is often less than that of c
        data = (1 - limit) * self.s / norm + limit * seen / (self.s + (1 - seen))
        kept = weight / norm + limit * (1 - seen)
        return self.v(data * uty + kept * c)


def as_spectrum(value: Weight, c: Tensor) -> Tensor:
    """A number or a value for each image, shaped to broadcast over spectral coefficients c of any rank."""
    value = torch.as_tensor(value, dtype=c.real.dtype, device=c.device)
    return value if value.ndim == 0 else value.reshape(-1, *[1] * (c.ndim - 1))
