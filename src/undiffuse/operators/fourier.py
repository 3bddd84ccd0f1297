"""Circular blur with any 2-D kernel, diagonal in harmonics."""
# ruff: noqa: D102 (the methods are described in base)

import torch
from torch import Tensor

from undiffuse.core.spectra import fft2, irfft2, rfft2
from undiffuse.operators.axes import numerical_zero
from undiffuse.operators.base import Shape, SVDOperator


class CircularBlur(SVDOperator):
    """y = k * x on a torus: s = |k^|, by FFT.

    V^T is the orthonormal Hartley transform, Re F - Im F of the Fourier transform F (Bracewell 1983): real,
    its own inverse, and half the memory of complex coefficients. The phase phi of k^ turns the pair of modes
    f and -f, which have the same s: (U^T y)_f = cos(phi_f) y^_f + sin(phi_f) y^_-f.
    The centre of the kernel is (K - 1) / 2, rounded down; a kernel larger than the image is wrapped.
    """

    response: Tensor
    cosine: Tensor
    sine: Tensor

    def __init__(self, shape: Shape, kernel: Tensor):
        super().__init__(shape, shape)
        size = shape[1:]
        rows = (torch.arange(kernel.shape[0]) - (kernel.shape[0] - 1) // 2) % size[0]
        columns = (torch.arange(kernel.shape[1]) - (kernel.shape[1] - 1) // 2) % size[1]
        wrapped = torch.zeros(kernel.shape[0], size[1], dtype=torch.float64)
        wrapped = wrapped.index_add(1, columns, kernel.double())
        wrapped = torch.zeros(*size, dtype=torch.float64).index_add(0, rows, wrapped)
        full = fft2(wrapped) * (size[0] * size[1]) ** 0.5
        s = (full.abs() + negated(full.abs())) / 2  # equal by symmetry: make the rounding so, too
        s = torch.where(s < numerical_zero(s, max(size)), 0, s)
        phase = torch.where(s > 0, full / torch.where(s > 0, s, 1), 0)
        self.register_buffer("s", s.unsqueeze(0))
        self.register_buffer("cosine", phase.real.contiguous())
        self.register_buffer("sine", phase.imag.contiguous())
        self.register_buffer("response", torch.view_as_real(rfft2(wrapped, (size[0], size[1]))))

    def vt(self, x: Tensor) -> Tensor:
        spectrum = fft2(x)
        return spectrum.real - spectrum.imag

    def v(self, c: Tensor) -> Tensor:
        return self.vt(c)

    def ut(self, y: Tensor) -> Tensor:
        c = self.vt(y)
        return self.cosine * c + self.sine * negated(c)

    def u(self, c: Tensor) -> Tensor:
        return self.vt(self.cosine * c - self.sine * negated(c))

    def forward(self, x: Tensor) -> Tensor:
        return self._filter(x, torch.view_as_complex(self.response))

    def adjoint(self, y: Tensor) -> Tensor:
        return self._filter(y, torch.view_as_complex(self.response).conj())

    def _filter(self, x: Tensor, response: Tensor) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        return irfft2(rfft2(x, size) * response, size)


def negated(c: Tensor) -> Tensor:
    """c at minus its frequencies."""
    return c.flip((-2, -1)).roll((1, 1), (-2, -1))
