"""Linear maps along one dimension of a tensor, with their singular value decompositions.

An axis takes length n to length m: A = U diag(s) V^T. Spectral coefficients have length n; those of the null
space have s == 0, and `u` and `ut` are zero there. `kronecker.Kronecker` makes image operators of up to three
of them. Dimensions are counted from the end: dim < 0.
"""
# ruff: noqa: D102 (the methods are described in Axis)

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn


class Axis(nn.Module, ABC):
    """A linear map along one dimension: n in, m out, s (n,) >= 0."""

    s: Tensor

    def __init__(self, n: int, m: int):
        super().__init__()
        self.n, self.m = n, m

    @abstractmethod
    def vt(self, x: Tensor, dim: int) -> Tensor:
        """Length n -> n, orthonormal."""

    @abstractmethod
    def v(self, c: Tensor, dim: int) -> Tensor:
        """The inverse of `vt`."""

    @abstractmethod
    def ut(self, y: Tensor, dim: int) -> Tensor:
        """Length m -> n, zero where s == 0."""

    @abstractmethod
    def u(self, c: Tensor, dim: int) -> Tensor:
        """Length n -> m, the transpose of `ut`."""

    @abstractmethod
    def map(self, x: Tensor, dim: int) -> Tensor:
        """A x: length n -> m, by the shortest way."""

    @abstractmethod
    def transpose(self, y: Tensor, dim: int) -> Tensor:
        """A^T y: length m -> n, by the shortest way."""

    @abstractmethod
    def inverse(self, y: Tensor, dim: int) -> Tensor:
        """A^+ y: length m -> n, by the shortest way; divides by all s > 0, however small."""


class DenseAxis(Axis):
    """Any matrix (m, n), by LAPACK: O(n^3) to build, O(n^2) a line to apply.

    Singular values below `threshold` are zeroed, and with them the map itself (default: what LAPACK cannot
    tell from zero, max(m, n) eps max(s)). `explicit_zeros` keeps their left singular vectors in `u` and `ut`:
    see `compat`.
    """

    matrix: Tensor
    left: Tensor
    right: Tensor

    def __init__(self, matrix: Tensor, *, threshold: float | None = None, explicit_zeros: bool = False):
        m, n = matrix.shape
        super().__init__(n, m)
        matrix = matrix.double()
        left, s, right = svd(matrix, full=m < n)
        s = torch.where(s < (numerical_zero(s, max(m, n)) if threshold is None else threshold), 0, s)
        exact = matrix if threshold is None else (left * s) @ right[: len(s)]
        self.register_buffer("matrix", exact.contiguous())
        self.register_buffer("left", left if explicit_zeros else left * (s > 0))  # (m, min(m, n))
        self.register_buffer("right", right)  # (n, n), V^T
        self.register_buffer("s", nn.functional.pad(s, (0, n - len(s))))

    def vt(self, x: Tensor, dim: int) -> Tensor:
        return times(self.right, x, dim)

    def v(self, c: Tensor, dim: int) -> Tensor:
        return times(self.right.mT, c, dim)

    def ut(self, y: Tensor, dim: int) -> Tensor:
        return lengthen(times(self.left.mT, y, dim), self.n, dim)

    def u(self, c: Tensor, dim: int) -> Tensor:
        return times(self.left, c.narrow(dim, 0, self.left.shape[1]), dim)

    def map(self, x: Tensor, dim: int) -> Tensor:
        return times(self.matrix, x, dim)

    def transpose(self, y: Tensor, dim: int) -> Tensor:
        return times(self.matrix.mT, y, dim)

    def inverse(self, y: Tensor, dim: int) -> Tensor:
        s = self.s[: self.left.shape[1]]
        c = times(self.left.mT, y, dim) * along(torch.where(s > 0, 1 / s, 0), dim)
        return times(self.right[: len(s)].mT, c, dim)


class BlockAxis(Axis):
    """Means over blocks of `factor`; the last block averages what is left. O(n), nothing dense.

    The mean of a block is its product with a constant vector, so one Householder reflection in each block is
    V: coefficient 0 of a block is its mean times -sqrt(size), the others are differences.
    """

    mirror: Tensor
    sign: Tensor
    weight: Tensor

    def __init__(self, n: int, factor: int):
        blocks = -(-n // factor)
        super().__init__(n, blocks)
        self.factor = factor
        inside = (torch.arange(blocks * factor) < n).double().reshape(blocks, factor)
        size = inside.sum(1, keepdim=True)
        mirror, sign, _ = reflector((inside / size.sqrt()).mT)
        first = torch.arange(factor) == 0
        self.register_buffer("mirror", mirror.mT.contiguous())  # (blocks, factor)
        self.register_buffer("sign", sign)  # (blocks,)
        self.register_buffer("weight", inside / size)  # (blocks, factor)
        self.register_buffer("s", (first / size.sqrt()).flatten()[:n].clone())

    def vt(self, x: Tensor, dim: int) -> Tensor:
        reflected = reflect(self._blocks(x, dim), along(self.mirror, dim), dim)
        return reflected.flatten(dim - 1, dim).narrow(dim, 0, self.n)

    def v(self, c: Tensor, dim: int) -> Tensor:
        return self.vt(c, dim)  # a reflection is its own inverse

    def ut(self, y: Tensor, dim: int) -> Tensor:
        y = (y * along(self.sign, dim)).unsqueeze(dim)
        return lengthen(y, self.factor, dim).flatten(dim - 1, dim).narrow(dim, 0, self.n)

    def u(self, c: Tensor, dim: int) -> Tensor:
        return self._blocks(c, dim).select(dim, 0) * along(self.sign, dim)

    def map(self, x: Tensor, dim: int) -> Tensor:
        return (self._blocks(x, dim) * along(self.weight, dim)).sum(dim)

    def transpose(self, y: Tensor, dim: int) -> Tensor:
        spread = y.unsqueeze(dim) * along(self.weight, dim)
        return spread.flatten(dim - 1, dim).narrow(dim, 0, self.n)

    def inverse(self, y: Tensor, dim: int) -> Tensor:
        return y.repeat_interleave(self.factor, dim).narrow(dim, 0, self.n)

    def _blocks(self, x: Tensor, dim: int) -> Tensor:
        """Length n -> (blocks, factor) at dim - 1, dim, with zeros after the end."""
        return split(lengthen(x, self.m * self.factor, dim), dim, self.m)


def reflector(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Householder (1958): for each column of a (r, c), I - w w^T takes a to sign |a| e_0; gives w, sign, |a|.

    The sign is opposite to a_0, so that nothing cancels. A zero column is treated as e_0.
    """
    norm = a.square().sum(0).sqrt()
    pivot = torch.zeros_like(a)
    pivot[0] = 1
    unit = torch.where(norm > 0, a / torch.where(norm > 0, norm, 1), pivot)
    sign = torch.where(unit[0] > 0, -1.0, 1.0).to(a.dtype)
    w = unit - sign * pivot
    return w * (2 / w.square().sum(0)).sqrt(), sign, norm


def reflect(x: Tensor, w: Tensor, dim: int) -> Tensor:
    """(I - w w^T) x along dim."""
    return torch.addcmul(x, w, (w * x).sum(dim, keepdim=True), value=-1)


def along(v: Tensor, dim: int) -> Tensor:
    """v with trailing dimensions of size 1: its last one then lies at dim of what it is multiplied with."""
    return v.reshape(*v.shape, *[1] * (-dim - 1))


def split(x: Tensor, dim: int, parts: int) -> Tensor:
    """x with its dimension dim as (parts, rest) at dim - 1, dim."""
    after = x.shape[dim + 1 :] if dim < -1 else ()
    return x.reshape(*x.shape[:dim], parts, x.shape[dim] // parts, *after)


def lengthen(x: Tensor, n: int, dim: int) -> Tensor:
    """x with zeros after its end along dim, to length n."""
    missing = n - x.shape[dim]
    return nn.functional.pad(x, (*[0] * (-2 * dim - 2), 0, missing)) if missing else x


def times(matrix: Tensor, x: Tensor, dim: int) -> Tensor:
    """matrix (m, n) times x along dim."""
    if dim == -1:
        return x @ matrix.mT
    after = x.shape[dim + 1 :]
    return (matrix @ x.flatten(dim + 1)).reshape(*x.shape[:dim], len(matrix), *after)


def svd(matrix: Tensor, *, full: bool) -> tuple[Tensor, Tensor, Tensor]:
    """U, s, V^T by LAPACK; `full`: all of V."""
    found = torch.linalg.svd(matrix, full_matrices=full)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast(tuple[Tensor, Tensor, Tensor], found)


def numerical_zero(s: Tensor, length: int) -> float:
    """Below this a computed singular value is not told from zero: length eps max(s), as in a matrix rank."""
    return length * torch.finfo(s.dtype).eps * float(s.max())
