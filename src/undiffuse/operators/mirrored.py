"""Blur with reflecting edges by a kernel that equals its mirror images, diagonal in cosines."""
# ruff: noqa: D102 (the methods are described in base)

import torch
from torch import Tensor

from undiffuse.core.dct import dct2, idct2
from undiffuse.operators.axes import numerical_zero
from undiffuse.operators.base import Shape, SVDOperator

SAME = 1e-12  # of the largest tap


class CosineBlur(SVDOperator):
    """y = k * x with half-sample symmetric edges, for k(i, j) = k(-i, j) = k(i, -j): a disk, an Airy pattern.

    Products of cosines are its eigenvectors (Strang 1999), as of any such kernel, whether it is a product itself or
    not, with the values H(m, n) = sum_ij k(i, j) cos(pi m i / H) cos(pi n j / W): s = |H|, and its sign is U's.
    A kernel larger than the image is reflected as often as needed. ValueError for one that is not its mirror images.
    """

    s: Tensor
    response: Tensor

    def __init__(self, shape: Shape, kernel: Tensor):
        super().__init__(shape, shape)
        if not is_mirrored(kernel):
            raise ValueError("the kernel does not equal both its mirror images; use a Convolution")
        rows, columns = (_cosines(taps, n) for taps, n in zip(kernel.shape, shape[1:], strict=True))
        response = rows @ kernel.double() @ columns.mT
        response = torch.where(response.abs() < numerical_zero(response.abs(), max(shape[1:])), 0, response)
        self.register_buffer("s", response.abs().unsqueeze(0))
        self.register_buffer("response", response)

    def vt(self, x: Tensor) -> Tensor:
        return dct2(x)

    def v(self, c: Tensor) -> Tensor:
        return idct2(c)

    def ut(self, y: Tensor) -> Tensor:
        return self.response.sign() * dct2(y)

    def u(self, c: Tensor) -> Tensor:
        return idct2(self.response.sign() * c)

    def forward(self, x: Tensor) -> Tensor:
        return idct2(self.response * dct2(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """A is symmetric."""
        return self(y)


def is_mirrored(kernel: Tensor) -> bool:
    """Whether a kernel (K_rows, K_columns) has a middle tap and equals both its mirror images, to 1e-12."""
    off = max(float((kernel - kernel.flip(dim)).abs().max()) for dim in (0, 1))
    return all(taps % 2 for taps in kernel.shape) and off <= SAME * float(kernel.abs().max())


def _cosines(taps: int, n: int) -> Tensor:
    """(n, taps) float64: cos(pi m i / n) for offsets i from the middle tap."""
    offsets = torch.arange(taps, dtype=torch.float64) - taps // 2
    return torch.cos(torch.outer(torch.arange(n, dtype=torch.float64), offsets * (torch.pi / n)))
