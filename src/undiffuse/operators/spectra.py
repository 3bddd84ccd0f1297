"""Two-dimensional FFTs with the types that torch does not state."""
# pyright: reportUnknownMemberType=false

from typing import cast

import torch
from torch import Tensor


def fft2(x: Tensor) -> Tensor:
    """The orthonormal complex transform of the last two dimensions."""
    return cast(Tensor, torch.fft.fft2(x, norm="ortho"))


def rfft2(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Half of the transform of a real x, extended by zeros to `size`; not normalised."""
    return cast(Tensor, torch.fft.rfft2(x, s=size))


def irfft2(c: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `rfft2`, of `size`."""
    return cast(Tensor, torch.fft.irfft2(c, s=size))
