"""FFTs with the types that torch does not state, and of a batch of no images, which torch refuses."""
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor


def fft2(x: Tensor) -> Tensor:
    """The orthonormal complex transform of the last two dimensions."""
    return _of(torch.fft.fft2, x, norm="ortho")


def rfft(x: Tensor) -> Tensor:
    """Half of the transform of the last dimension of a real x; not normalised."""
    return _of(torch.fft.rfft, x)


def irfft(c: Tensor, n: int) -> Tensor:
    """The inverse of `rfft`, of length n."""
    return _of(torch.fft.irfft, c, n=n)


def rfft2(x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Half of the transform of a real x, extended by zeros to `size`; not normalised."""
    return _of(torch.fft.rfft2, x, s=size)


def irfft2(c: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `rfft2`, of `size`."""
    return _of(torch.fft.irfft2, c, s=size)


def _of(transform: Callable[..., Any], x: Tensor, **options: Any) -> Tensor:
    if len(x):
        return cast(Tensor, transform(x, **options))
    return cast(Tensor, transform(x.new_zeros(1, *x.shape[1:]), **options))[:0]
