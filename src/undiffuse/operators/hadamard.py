"""Compressed sensing with the Walsh-Hadamard transform of the whole image."""
# ruff: noqa: D102 (the methods are described in base)

import math
from functools import lru_cache
from typing import Annotated

import pydantic
import torch
from torch import Tensor

from undiffuse.operators import direct
from undiffuse.operators.base import LinearOperator, Shape, SVDOperator
from undiffuse.operators.masks import coefficients
from undiffuse.registry import OPERATORS

RADIX = 6  # bits a pass: a product with a 64 x 64 matrix costs less than the memory traffic it saves


def fwht(x: Tensor) -> Tensor:
    """Orthonormal Walsh-Hadamard transform of the last dimension, in natural (Sylvester) order; its own
    inverse.

    H_n is a Kronecker product of smaller ones, so each pass applies one of up to 64 x 64 to a group of index
    bits. ValueError unless the length is a power of two.
    """
    n = x.shape[-1]
    bits = n.bit_length() - 1
    if n != 1 << bits:
        raise ValueError(f"the Walsh-Hadamard transform needs a power of two, got length {n}; pad with zeros")
    shape, after = x.shape, 1
    while after < n:
        size = 1 << min(RADIX, bits - (after.bit_length() - 1))
        h = sylvester(size, x.dtype, x.device)
        x = x.reshape(-1, size) @ h if after == 1 else h @ x.reshape(-1, size, after)
        after *= size
    return x.reshape(shape)


@lru_cache(maxsize=32)  # constants of at most 64 x 64, which a transform asks for at each pass
@torch.inference_mode(False)  # what is kept serves callers in every mode
def sylvester(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal n x n Hadamard matrix in natural order."""
    h = torch.ones(1, 1, dtype=dtype, device=device)
    while len(h) < n:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h / math.sqrt(n)


class Hadamard(SVDOperator):
    """The coefficients `kept` of each channel's Walsh-Hadamard transform; H * W is a power of two."""

    kept: Tensor

    def __init__(self, shape: Shape, kept: Tensor):
        channels, height, width = shape
        super().__init__(shape, (channels, len(kept)))
        s = torch.zeros(1, height * width, dtype=torch.float64)
        s[0, kept] = 1
        self.register_buffer("s", s)
        self.register_buffer("kept", kept)

    def vt(self, x: Tensor) -> Tensor:
        return fwht(x.flatten(-2))

    def v(self, c: Tensor) -> Tensor:
        return fwht(c).reshape(-1, *self.in_shape)

    def ut(self, y: Tensor) -> Tensor:
        return y.new_zeros(*y.shape[:-1], self.s.shape[-1]).index_copy(-1, self.kept, y)

    def u(self, c: Tensor) -> Tensor:
        return c.index_select(-1, self.kept)

    def forward(self, x: Tensor) -> Tensor:
        return self.u(self.vt(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.v(self.ut(y))

    def pinv(self, y: Tensor) -> Tensor:
        return self.v(self.ut(y))


class PaddedHadamard(LinearOperator):
    """The same for any size: the flattened image is followed by zeros up to a power of two.

    Rows of the transform are no longer orthogonal on what is left of them: pinv and ridge are conjugate
    gradients.
    """

    kept: Tensor

    def __init__(self, shape: Shape, kept: Tensor):
        channels, height, width = shape
        super().__init__(shape, (channels, len(kept)))
        self.pixels = height * width
        self.length = power_of_two(self.pixels)
        self.register_buffer("kept", kept)

    def forward(self, x: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(x.flatten(-2), (0, self.length - self.pixels))
        return fwht(padded).index_select(-1, self.kept)

    def adjoint(self, y: Tensor) -> Tensor:
        full = y.new_zeros(*y.shape[:-1], self.length).index_copy(-1, self.kept, y)
        return fwht(full)[..., : self.pixels].reshape(-1, *self.in_shape)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


@OPERATORS.register(
    "cs",
    summary="random Walsh-Hadamard coefficients of the whole image",
    example="cs:ratio=4",
    direct=direct.cs,
)
def cs(
    shape: Shape,
    /,
    *,
    ratio: Annotated[
        float, pydantic.Field(ge=1, le=1e4, description="pixels for each coefficient kept")
    ] = 4.0,
    seed: Annotated[int, pydantic.Field(ge=0, description="of the choice of coefficients")] = 0,
) -> LinearOperator:
    """y (B, C, kept): round(H W / ratio) coefficients in ascending order, the same for all channels.

    Coefficient 0, the mean, is always kept. DDRM leaves it to chance, and loses the brightness of the image
    with probability 1 - 1 / ratio.
    """
    pixels = shape[1] * shape[2]
    length = power_of_two(pixels)
    kept = coefficients(pixels, length, ratio, seed)
    return Hadamard(shape, kept) if length == pixels else PaddedHadamard(shape, kept)


for _ratio in (2, 4):
    OPERATORS.preset(
        f"cs{_ratio}",
        "cs",
        summary=f"compressed sensing with 1/{_ratio} of the Walsh-Hadamard coefficients",
        example=f"cs{_ratio}",
        ratio=float(_ratio),
    )
