"""The orthonormal discrete cosine transform, in linear-log time."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from undiffuse.core.spectra import irfft, irfft2, rfft, rfft2


def dct(x: Tensor, dim: int = -1) -> Tensor:
    """Orthonormal DCT-II along dim: X_k = c_k sum_n x_n cos(pi k (2 n + 1) / (2 N)).

    c_0 = sqrt(1/N), c_k = sqrt(2/N). Makhoul (1980): one real FFT of the same length, of the even samples
    followed by the odd ones backwards. Any length, float32 or float64 (ValueError otherwise); `idct` is its
    inverse and its transpose.
    """
    _require_float(x)
    n = x.shape[dim]
    spectrum = rfft(_halves(x.movedim(dim, -1))) * _turn(n, x.dtype, x.device)
    return _unpaired(spectrum, n).movedim(-1, dim)


def idct(x: Tensor, dim: int = -1) -> Tensor:
    """Orthonormal DCT-III along dim, the inverse of `dct`: x_n = sum_k c_k X_k cos(pi k (2n+1) / (2N))."""
    _require_float(x)
    n = x.shape[dim]
    spectrum = _paired(x.movedim(dim, -1)) * _turn_back(n, x.dtype, x.device)
    return _apart(irfft(spectrum, n)).movedim(-1, dim)


def dct2(x: Tensor) -> Tensor:
    """`dct` along height and width of (..., H, W), by one transform in two dimensions.

    In the width X_k and -X_{N-k} are the parts of one complex number; of the transform of complex numbers along the
    height the real part is taken of both, with the negative frequency.
    """
    _require_float(x)
    height, width = x.shape[-2:]
    spectrum = rfft2(_halves(_halves(x), -2)) * _turn(width, x.dtype, x.device)
    turn = _turn(height, x.dtype, x.device, whole=True).unsqueeze(-1)
    c = turn * spectrum
    c[..., 1:, :].addcmul_(turn[1:].conj(), spectrum[..., 1:, :].flip(-2)).mul_(0.5)
    return _unpaired(c, width)


def idct2(x: Tensor) -> Tensor:
    """`idct` along height and width of (..., H, W), the inverse of `dct2`."""
    _require_float(x)
    height, width = x.shape[-2:]
    c = _paired(x) * _turn_back(width, x.dtype, x.device)
    turn = _turn_back(height, x.dtype, x.device, whole=True).unsqueeze(-1)
    spectrum = turn * c
    spectrum[..., 1:, :].addcmul_(-1j * turn[1:], c[..., 1:, :].flip(-2))
    return _apart(_apart(irfft2(spectrum, (height, width)), -2))


def _halves(x: Tensor, dim: int = -1) -> Tensor:
    """The even samples, then the odd ones backwards."""
    rest = [slice(None)] * (-1 - dim)
    even, odd = (x[(..., slice(first, None, 2), *rest)] for first in (0, 1))
    return torch.cat([even, odd.flip(dim)], dim)


def _apart(mixed: Tensor, dim: int = -1) -> Tensor:
    """The inverse of `_halves`."""
    n, rest = mixed.shape[dim], [slice(None)] * (-1 - dim)
    out = torch.empty_like(mixed)
    out[(..., slice(0, None, 2), *rest)] = mixed.narrow(dim, 0, (n + 1) // 2)
    out[(..., slice(1, None, 2), *rest)] = mixed.narrow(dim, (n + 1) // 2, n // 2).flip(dim)
    return out


def _unpaired(spectrum: Tensor, n: int) -> Tensor:
    """X_k, k < n, from X_k - i X_{n-k}, k = 0 .. n/2, which is so by symmetry."""
    return torch.cat([spectrum.real, -spectrum.imag[..., 1 : (n + 1) // 2].flip(-1)], -1)


def _paired(x: Tensor) -> Tensor:
    """X_k - i X_{n-k} for k = 0 .. n/2; X_n is 0."""
    n = x.shape[-1]
    imag = torch.cat([x.new_zeros(*x.shape[:-1], 1), -x[..., n - n // 2 :].flip(-1)], -1)
    return torch.complex(x[..., : n // 2 + 1], imag)


def _require_float(x: Tensor) -> None:
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"no cosine transform of {x.dtype}; convert to float32 or float64 first")


@lru_cache(maxsize=64)  # constants: a transform of 256 lines takes as long as its angles
def _turn(n: int, dtype: torch.dtype, device: torch.device, whole: bool = False) -> Tensor:
    """c_k exp(-i pi k / (2 N)) for k = 0 .. N/2, or all k."""
    return _turns(n, dtype, device, whole, sign=-1, scale=1.0)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # as below
def _turn_back(n: int, dtype: torch.dtype, device: torch.device, whole: bool = False) -> Tensor:
    """N c_k exp(i pi k / (2 N)) / 2, and twice the constant: N is what the inverse FFT divides by."""
    turns = _turns(n, dtype, device, whole, sign=1, scale=n / 2)
    return torch.cat([2 * turns[:1], turns[1:]])


@torch.inference_mode(False)  # what is kept serves callers in every mode
def _turns(
    n: int, dtype: torch.dtype, device: torch.device, whole: bool, *, sign: int, scale: float
) -> Tensor:
    """Angles in float64: in float32 they cost digits."""
    k = torch.arange(n if whole else n // 2 + 1, dtype=torch.float64)
    size = torch.full_like(k, scale * math.sqrt(2 / n))
    size[0] *= math.sqrt(0.5)
    return torch.polar(size, k * (sign * math.pi / (2 * n))).to(
        device, torch.promote_types(dtype, torch.complex32)
    )
