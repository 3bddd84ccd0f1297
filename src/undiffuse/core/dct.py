"""The orthonormal discrete cosine transform, in linear-log time."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (torch.fft is untyped)

import math
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor


def dct(x: Tensor, dim: int = -1) -> Tensor:
    """Orthonormal DCT-II along dim: X_k = c_k sum_n x_n cos(pi k (2 n + 1) / (2 N)).

    c_0 = sqrt(1/N), c_k = sqrt(2/N). Makhoul (1980): one real FFT of the same length, of the even samples
    followed by the odd ones backwards. Any length, float32 or float64 (ValueError otherwise); `idct` is its
    inverse and its transpose.
    """
    _require_float(x)
    n = x.shape[dim]
    x = x.movedim(dim, -1)
    spectrum = cast(Tensor, torch.fft.rfft(torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)))
    spectrum = spectrum * _turn(n, x.dtype, x.device)
    high = spectrum.imag[..., 1 : (n + 1) // 2].flip(-1)  # -X_{N-k} is the imaginary part of X_k, by symmetry
    return torch.cat([spectrum.real, -high], -1).movedim(-1, dim)


def idct(x: Tensor, dim: int = -1) -> Tensor:
    """Orthonormal DCT-III along dim, the inverse of `dct`: x_n = sum_k c_k X_k cos(pi k (2n+1) / (2N))."""
    _require_float(x)
    n = x.shape[dim]
    x = x.movedim(dim, -1)
    imag = torch.cat([x.new_zeros(*x.shape[:-1], 1), -x[..., n - n // 2 :].flip(-1)], -1)  # 0, -X_{N-1} ..
    spectrum = torch.complex(x[..., : n // 2 + 1], imag) * _turn_back(n, x.dtype, x.device)
    mixed = cast(Tensor, torch.fft.irfft(spectrum, n=n))
    out = torch.empty_like(mixed)
    out[..., ::2] = mixed[..., : (n + 1) // 2]
    out[..., 1::2] = mixed[..., (n + 1) // 2 :].flip(-1)
    return out.movedim(-1, dim)


def dct2(x: Tensor) -> Tensor:
    """`dct` along height and width of (..., H, W)."""
    return dct(dct(x, -1), -2)


def idct2(x: Tensor) -> Tensor:
    """`idct` along height and width of (..., H, W)."""
    return idct(idct(x, -2), -1)


def _require_float(x: Tensor) -> None:
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"no cosine transform of {x.dtype}; convert to float32 or float64 first")


@lru_cache(maxsize=64)  # constants: a transform of 256 lines takes as long as its angles
def _turn(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """c_k exp(-i pi k / (2 N)) for k = 0 .. N/2."""
    return _turns(n, dtype, device, sign=-1, scale=1.0)


@lru_cache(maxsize=64)
def _turn_back(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """c_k exp(i pi k / (2 N)) for k = 0 .. N/2, times what irfft divides by, and twice the constant."""
    turns = _turns(n, dtype, device, sign=1, scale=n / 2)
    return torch.cat([2 * turns[:1], turns[1:]])


@torch.inference_mode(False)  # what is kept serves callers in every mode
def _turns(n: int, dtype: torch.dtype, device: torch.device, *, sign: int, scale: float) -> Tensor:
    """Angles in float64: in float32 they cost digits."""
    angle = torch.arange(n // 2 + 1, dtype=torch.float64, device=device) * (sign * math.pi / (2 * n))
    size = torch.full_like(angle, scale * math.sqrt(2 / n))
    size[0] *= math.sqrt(0.5)
    return torch.polar(size, angle).to(torch.promote_types(dtype, torch.complex32))
