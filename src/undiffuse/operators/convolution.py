"""Filters in the pixel domain: the matrix of a 1-D one, and any 2-D one without a singular value
decomposition.

y = k * x is a true convolution (the kernel is turned round). y_i = sum_t k_t x(i f + o - t), o = (f - 1 + K -
1) // 2 in each dimension: an odd kernel is centred on its pixel, an even one (K - 1) / 2 rounded down, and
with subsampling by f both lie at the centre of the block of f, rounded down where this falls between pixels.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from undiffuse.core.spectra import irfft2, rfft2
from undiffuse.operators.base import LinearOperator, Precondition, Shape
from undiffuse.operators.precondition import blurred

Edge = Literal["reflect", "zero"]


def matrix(kernel: Tensor, n: int, edge: Edge, factor: int = 1) -> Tensor:
    """The map of a 1-D kernel on a line of n: (ceil(n / factor), n), float64."""
    m, reach = -(-n // factor), _reach(len(kernel), n, factor)
    z = torch.eye(n, dtype=torch.float64)
    z = pad(z, (reach[0], reach[1])) if edge == "zero" else z[:, mirrored(n, reach)]
    lines = z.unfold(1, len(kernel), factor)[:, :m]  # (n, m, K): what lies under the kernel
    return (lines @ kernel.double().flip(0)).mT.contiguous()


def mirrored(n: int, reach: tuple[int, int]) -> Tensor:
    """Indices from -reach[0] to n + reach[1], mirrored between samples: .. 1 0 | 0 1 .. n-1 | n-1 n-2 .."""
    p = torch.arange(-reach[0], n + reach[1]) % (2 * n)
    return torch.where(p < n, p, 2 * n - 1 - p)


class Convolution(LinearOperator):
    """A 2-D kernel with `reflect` or `zero` edges and subsampling, for what no fast decomposition is known.

    By FFT of the extended image, so that the cost does not grow with the kernel. The adjoint is exact; pinv
    and ridge are conjugate gradients: a kernel with small singular values needs lam > 0.
    """

    spectrum: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, shape: Shape, kernel: Tensor, edge: Edge, factor: int = 1):
        channels, height, width = shape
        super().__init__(shape, (channels, -(-height // factor), -(-width // factor)))
        self.edge, self.factor = edge, factor
        self.taps = (kernel.shape[0], kernel.shape[1])
        self.reach = (_reach(self.taps[0], height, factor), _reach(self.taps[1], width, factor))
        self.extended = (height + sum(self.reach[0]), width + sum(self.reach[1]))
        self.size = (fast_length(self.extended[0]), fast_length(self.extended[1]))
        spectrum = rfft2(kernel.double(), self.size)
        self.register_buffer(
            "spectrum", torch.view_as_real(spectrum)
        )  # .to(float32) would drop imaginary parts
        self.register_buffer("rows", mirrored(height, self.reach[0]))
        self.register_buffer("columns", mirrored(width, self.reach[1]))
        self.once = edge == "reflect" and all(
            0 <= r <= n for n, reach in zip((height, width), self.reach, strict=True) for r in reach
        )  # no edge is mirrored more than once: by slices, ten times as fast

    def forward(self, x: Tensor) -> Tensor:
        """k * x at every factor-th pixel."""
        z = irfft2(rfft2(self._extend(x), self.size) * torch.view_as_complex(self.spectrum), self.size)
        top, left = self.taps[0] - 1, self.taps[1] - 1  # before these the transform wraps round
        return z[..., top : self.extended[0] : self.factor, left : self.extended[1] : self.factor]

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y: zeros between the samples, correlation, and the edges folded back."""
        z = y.new_zeros(*y.shape[:-2], *self.size)
        top, left = self.taps[0] - 1, self.taps[1] - 1
        z[..., top : self.extended[0] : self.factor, left : self.extended[1] : self.factor] = y
        z = irfft2(rfft2(z, self.size) * torch.view_as_complex(self.spectrum).conj(), self.size)
        return self._fold(z[..., : self.extended[0], : self.extended[1]])

    def normal(self, x: Tensor) -> Tensor:
        """A^T A x, without a copy between the two."""
        if self.factor > 1:
            return super().normal(x)
        spectrum, (top, left) = torch.view_as_complex(self.spectrum), (self.taps[0] - 1, self.taps[1] - 1)
        z = irfft2(rfft2(self._extend(x), self.size).mul_(spectrum), self.size)
        for outside in (
            z[..., :top, :],
            z[..., self.extended[0] :, :],
            z[..., :left],
            z[..., self.extended[1] :],
        ):
            outside.zero_()
        z = irfft2(rfft2(z, self.size).mul_(spectrum.conj()), self.size)
        return self._fold(z[..., : self.extended[0], : self.extended[1]])

    def preconditioner(self) -> Precondition:
        """`blurred`; where samples are left out, or the kernel is larger than the image, a division."""
        *_, height, width = self.in_shape
        if self.factor > 1 or self.taps[0] > height or self.taps[1] > width:
            return super().preconditioner()
        kernel = irfft2(torch.view_as_complex(self.spectrum), self.size)[: self.taps[0], : self.taps[1]]
        return blurred(kernel, (height, width))

    def _extend(self, x: Tensor) -> Tensor:
        if self.edge == "zero":
            return pad(x, (*self.reach[1], *self.reach[0]))
        if not self.once:
            return x.index_select(-2, self.rows).index_select(-1, self.columns)
        (top, bottom), (left, right) = self.reach
        *_, height, width = self.in_shape
        z = x.new_zeros(*x.shape[:-2], *self.size)
        rows = z[..., left : left + width]
        rows[..., top : top + height, :] = x
        rows[..., :top, :] = x[..., :top, :].flip(-2)
        rows[..., top + height : self.extended[0], :] = x[..., height - bottom :, :].flip(-2)
        z[..., :left] = rows[..., :left].flip(-1)
        z[..., left + width : self.extended[1]] = rows[..., width - right :].flip(-1)
        return z

    def _fold(self, z: Tensor) -> Tensor:
        """The transpose of `_extend`. z is overwritten."""
        (top, bottom), (left, right) = self.reach
        if self.edge == "zero":
            return pad(z, (-left, -right, -top, -bottom))
        *_, height, width = self.in_shape
        if self.once:
            return _folded(_folded(z, -2, top, bottom), -1, left, right)
        z = z.new_zeros(*z.shape[:-2], height, z.shape[-1]).index_add(-2, self.rows, z)
        return z.new_zeros(*z.shape[:-1], width).index_add(-1, self.columns, z)


def _folded(z: Tensor, dim: int, before: int, after: int) -> Tensor:
    """The inner part of z with the mirrored ends added, in its place."""
    n = z.shape[dim] - before - after
    inside = z.narrow(dim, before, n)
    inside.narrow(dim, 0, before).add_(z.narrow(dim, 0, before).flip(dim))
    inside.narrow(dim, n - after, after).add_(z.narrow(dim, before + n, after).flip(dim))
    return inside


def fast_length(n: int) -> int:
    """The next multiple of 8 with no prime factor above 7, which FFTs like: 280 takes two thirds of the time of 270."""
    n = -(-n // 8) * 8
    while True:
        rest = n
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 8


def _reach(taps: int, n: int, factor: int) -> tuple[int, int]:
    """How far the first and the last output look over the edges; negative if they do not come near them."""
    offset, m = (factor + taps - 2) // 2, -(-n // factor)
    return taps - 1 - offset, (m - 1) * factor + offset - (n - 1)
