"""Symmetric filters with reflecting boundary and subsampling, diagonal in cosines."""
# ruff: noqa: D102 (the methods are described in axes.Axis)

import torch
from torch import Tensor, nn

from undiffuse.core.dct import dct, idct
from undiffuse.operators.axes import Axis, along, lengthen, numerical_zero, reflect, reflector, split


class CosineAxis(Axis):
    """A symmetric kernel with half-sample symmetric boundary, then every `factor`-th sample, at the block
    centres.

    Reflection makes cosines eigenvectors (Strang 1999): DCT-II mode m is scaled by the kernel's real response
    H(m). Subsampling to h = n / factor points folds modes 2jh + k and 2jh - k onto low mode k with sign
    (-1)^j, and odd multiples of h onto zero. Within each such group of `factor` modes one Householder
    reflection completes the SVD: O(n log n) and nothing dense. The first h spectral coefficients are the
    range, in order of frequency. A short kernel is applied as a sum of shifted copies, which is faster still.

    The kernel has even length for even factors and odd length otherwise (the centre of an even block lies
    between two samples); n must be divisible by factor. A kernel longer than the line is reflected as often
    as needed.
    """

    SHORT = 24  # taps per factor up to which a sum of shifted copies beats two transforms

    taps: Tensor
    gain: Tensor
    mirror: Tensor
    sign: Tensor
    order: Tensor

    def __init__(self, kernel: Tensor, factor: int, n: int):
        super().__init__(n, n // factor)
        self.factor, h = factor, self.m
        _check(kernel, factor, n)
        offsets = torch.arange(len(kernel), dtype=torch.float64) - (len(kernel) - 1) / 2
        modes = torch.arange(n, dtype=torch.float64)
        response = kernel.double() @ torch.cos(torch.outer(offsets, modes * (torch.pi / n)))
        mode = torch.arange(n).reshape(factor, h)
        mode[1::2] = mode[1::2].flip(1).roll(1, 1)  # row 2j - 1 holds 2jh - k, row 2j holds 2jh + k
        self.register_buffer("order", mode.flatten())  # its own inverse
        j = (torch.arange(factor) + 1) // 2
        gain = response[mode] * (1 - 2 * (j % 2)).unsqueeze(1) / factor**0.5
        gain[1::2, 0] = 0  # odd multiples of h
        gain[2::2, 0] *= 2**0.5  # onto the constant low mode, whose norm is 1/h and not 2/h
        mirror, sign, s = reflector(gain)
        s = torch.where(s < numerical_zero(s, n), 0, s)
        self.overhang = (len(kernel) - factor) // 2  # how far the kernel reaches beyond the line
        self.short = len(kernel) <= self.SHORT * factor and 0 <= self.overhang <= n and bool((s > 0).all())
        self.register_buffer("taps", kernel.double().clone())
        self.register_buffer("gain", gain * (s > 0))  # (factor, h)
        self.register_buffer("mirror", mirror)  # (factor, h)
        self.register_buffer("sign", sign * (s > 0))  # (h,)
        self.register_buffer("s", nn.functional.pad(s, (0, n - h)))

    def vt(self, x: Tensor, dim: int) -> Tensor:
        return self.from_cosines(dct(x, dim), dim)

    def v(self, c: Tensor, dim: int) -> Tensor:
        return idct(self.to_cosines(c, dim), dim)

    def from_cosines(self, c: Tensor, dim: int) -> Tensor:
        """V^T of what has these cosine coefficients."""
        if self.factor == 1:  # the reflection of one mode
            return -c
        return reflect(self._fold(c, dim), along(self.mirror, dim), dim - 1).flatten(dim - 1, dim)

    def to_cosines(self, c: Tensor, dim: int) -> Tensor:
        """The inverse of `from_cosines`."""
        if self.factor == 1:
            return -c
        return self._unfold(reflect(split(c, dim, self.factor), along(self.mirror, dim), dim - 1), dim)

    def ut(self, y: Tensor, dim: int) -> Tensor:
        return lengthen(dct(y, dim) * along(self.sign, dim), self.n, dim)

    def u(self, c: Tensor, dim: int) -> Tensor:
        return idct(c.narrow(dim, 0, self.m) * along(self.sign, dim), dim)

    def map(self, x: Tensor, dim: int) -> Tensor:
        if not self.short:
            return idct((self._fold(dct(x, dim), dim) * along(self.gain, dim)).sum(dim - 1), dim)
        before, after = x.narrow(dim, 0, self.overhang), x.narrow(dim, self.n - self.overhang, self.overhang)
        x = torch.cat([before.flip(dim), x, after.flip(dim)], dim)
        y = self.taps[0] * self._tap(x, 0, dim)
        for k in range(1, len(self.taps)):
            y.addcmul_(self.taps[k], self._tap(x, k, dim))
        return y

    def transpose(self, y: Tensor, dim: int) -> Tensor:
        if not self.short:
            return idct(self._unfold(dct(y, dim).unsqueeze(dim - 1) * along(self.gain, dim), dim), dim)
        reach = self.overhang
        shape = list(y.shape)
        shape[dim] = self.n + 2 * reach
        x = y.new_zeros(shape)
        for k in range(len(self.taps)):
            self._tap(x, k, dim).addcmul_(self.taps[k], y)
        inside = x.narrow(dim, reach, self.n)
        inside.narrow(dim, 0, reach).add_(x.narrow(dim, 0, reach).flip(dim))
        inside.narrow(dim, self.n - reach, reach).add_(x.narrow(dim, self.n + reach, reach).flip(dim))
        return inside

    def inverse(self, y: Tensor, dim: int) -> Tensor:
        s = self.s[: self.m]
        c = dct(y, dim) * along(torch.where(s > 0, 1 / s**2, 0), dim)
        return idct(self._unfold(c.unsqueeze(dim - 1) * along(self.gain, dim), dim), dim)

    def _tap(self, x: Tensor, k: int, dim: int) -> Tensor:
        """Every factor-th sample of the extended line from k on: what tap k sees, a view."""
        first = x.narrow(dim, k, (self.m - 1) * self.factor + 1)
        return first[(..., slice(None, None, self.factor), *[slice(None)] * (-dim - 1))]

    def _fold(self, c: Tensor, dim: int) -> Tensor:
        """Modes -> (factor, h) at dim - 1, dim: column k holds all modes that alias to k."""
        return split(self._ordered(c, dim), dim, self.factor)

    def _unfold(self, c: Tensor, dim: int) -> Tensor:
        return self._ordered(c.flatten(dim - 1, dim), dim)

    def _ordered(self, c: Tensor, dim: int) -> Tensor:
        if self.factor == 1:
            return c
        if dim == -1:  # ten times as fast on a CPU as picking single numbers by index_select
            return c.gather(-1, self.order.expand(c.shape))
        return c.index_select(dim, self.order)


def symmetric(kernel: Tensor) -> bool:
    """Whether a 1-D kernel equals its mirror image to 1e-12 of its largest tap."""
    return bool((kernel - kernel.flip(0)).abs().max() <= 1e-12 * kernel.abs().max())


def _check(kernel: Tensor, factor: int, n: int) -> None:
    taps = len(kernel)
    if n % factor:
        raise ValueError(f"length {n} is not divisible by factor {factor}; use a DenseAxis")
    if taps % 2 != factor % 2:
        parity = "odd" if factor % 2 else "even"
        raise ValueError(f"factor {factor} needs an {parity} number of taps, got {taps}; use a DenseAxis")
    if not symmetric(kernel):
        raise ValueError("the kernel is not symmetric; use a DenseAxis")
