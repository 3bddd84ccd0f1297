"""The orthonormal discrete cosine transform, in linear-log time."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# (torch.fft is untyped)

import math
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
    spectrum = spectrum * _twiddle(x, n, sign=-1) * math.sqrt(2 / n)
    low, high = spectrum.real, -spectrum.imag[..., 1 : (n + 1) // 2].flip(-1)  # X_{N-k} = -Im, by symmetry
    out = torch.cat([low[..., :1] * math.sqrt(0.5), low[..., 1:], high], -1)
    return out.movedim(-1, dim)


def idct(x: Tensor, dim: int = -1) -> Tensor:
    """Orthonormal DCT-III along dim, the inverse of `dct`: x_n = sum_k c_k X_k cos(pi k (2n+1) / (2N))."""
    _require_float(x)
    n = x.shape[dim]
    x = x.movedim(dim, -1)
    real = torch.cat([x[..., :1] * math.sqrt(2), x[..., 1 : n // 2 + 1]], -1)  # X_0 .. X_{N/2}
    imag = torch.cat([torch.zeros_like(x[..., :1]), -x[..., n - n // 2 :].flip(-1)], -1)  # 0, -X_{N-1} ..
    spectrum = torch.complex(real, imag) * _twiddle(x, n, sign=1)
    mixed = cast(Tensor, torch.fft.irfft(spectrum, n=n)) * math.sqrt(n / 2)
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


def _twiddle(x: Tensor, n: int, sign: int) -> Tensor:
    """exp(sign i pi k / (2 N)) for k = 0 .. N/2: in float64, for float32 angles cost digits."""
    angle = torch.arange(n // 2 + 1, dtype=torch.float64, device=x.device) * (sign * math.pi / (2 * n))
    return torch.polar(torch.ones_like(angle), angle).to(torch.promote_types(x.dtype, torch.complex32))
