"""Power by spatial frequency: is there as much detail as in the reference, and how much of it was measured?

Spectra are of the cosine transform (DCT-II, orthonormal): a picture has no edges there that leak into high
frequencies, every pixel counts the same, and the powers of all coefficients add up to those of all pixels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from undiffuse.core.devices import wide

PER_OCTAVE = 2  # bins
LEAST = 8  # pixels: two octaves
FLOOR = 5e-6  # [-1, 1] units squared: about what rounding to 8 bits adds to each coefficient
_TINY = 1e-20  # power of a bin without any: no noise is that low


def power(x: Tensor, *, per_octave: int = PER_OCTAVE) -> tuple[Tensor, Tensor]:
    """Radially averaged power spectrum of each image: (frequencies (N,), power (B, N)), float64.

    Frequencies in cycles a pixel, the geometric middle of bins with ratio 2^(1 / per_octave), from 0.5 (the
    finest stripes along an axis) down to about one cycle along the shorter side; corners beyond 0.5 and the mean are
    left out, and so are bins without a coefficient. Power is the mean square of the bin's coefficients, over
    channels too, in [-1, 1] units: white noise of deviation sigma has sigma^2 everywhere. ValueError for a
    side under 8 pixels.
    """
    return _binned(x, x, per_octave)


def bins(height: int, width: int, *, per_octave: int = PER_OCTAVE) -> tuple[Tensor, Tensor]:
    """The bins of `power` for this size: (frequencies (N,), how many coefficients of a channel (N,)), float64."""
    _, frequencies, counts = _bins(height, width, per_octave, torch.device("cpu"))
    return frequencies, counts


def spectrum_error(x: Tensor, reference: Tensor, *, per_octave: int = PER_OCTAVE) -> Tensor:
    """Difference of two pictures' power spectra in dB, (B,): root mean square over the bins of `power`.

    sqrt(mean over bins (10 log10 P_x - 10 log10 P_ref)^2), clamped to [-1, 1] first and with the power of 8-bit
    rounding added to both. 0 for equal spectra; octaves count the same, however little power they have, so
    that blur and noise show, which PSNR forgives or prefers.

    A stand-in for perceptual quality where no network's weights are at hand, and not more: it sees how much
    detail there is, not whether it is right or pleasant. Noise with the reference's spectrum scores 0. Read it
    together with PSNR or SSIM.
    """
    (_, a), (_, b) = (power(wide(z).clamp(-1, 1), per_octave=per_octave) for z in (x, reference))
    decibels = 10 * ((a + FLOOR) / (b + FLOOR)).log10()
    return decibels.square().mean(1).sqrt()


def invented(
    x: Tensor,
    seen: Callable[[Tensor, Tensor], Tensor],
    sigma_y: float,
    noise: Callable[[Tensor], Tensor],
    /,
    *,
    probes: int = 4,
    per_octave: int = PER_OCTAVE,
) -> tuple[Tensor, Tensor]:
    """Share of a restored picture's power that y cannot determine, by frequency: (frequencies (N,), share (B, N)).

    share_b = 1 - tr(F_b W_b) / tr(F_b),   W_b = (A^T A + lam_b)^-1 A^T A,   lam_b = sigma_y^2 / P_b,

    F_b the projection on bin b, P_b the power of x there; in [0, 1]. `seen(z, lam)` gives W z, as
    `functools.partial(restore.measured.determined, A)` does for any linear A. Without noise W is A^+ A, the
    projection on what A sees: share 0 for frequencies that all lie in the range, 1 in the null space. With noise
    a mode of singular value s counts by its Wiener weight s^2 P_b / (s^2 P_b + sigma_y^2). W is a function of
    A^T A: the choice of singular vectors among those of equal s changes nothing.

    P_b times the share is the power that the prior alone answers for. Only P_b is taken from x, as if pictures
    had equal power in all places, directions and channels of a bin (`gray` loses two thirds, though colours
    have less). Where x is too smooth for the truth, the share comes out too large, else too small. It says
    what could be known from y: not that the algorithm used it, nor that the rest is wrong.

    The trace is estimated by random signs of the bin's coefficients (Hutchinson 1990), from `noise(x)`,
    `probes` times: exact where A is diagonal in cosines (symmetric blurs with reflecting boundary), else off by
    as much as 0.1 in the lowest bins, of few coefficients, and by less than 0.01 in those of hundreds. x
    (B, C, H, W) and sigma_y in [-1, 1] units; probes x N calls.
    """
    frequencies, spectrum = power(x, per_octave=per_octave)
    bins, _, _ = _bins(x.shape[-2], x.shape[-1], per_octave, spectrum.device)
    lam = (sigma_y**2 / spectrum.clamp(min=_TINY)).to(x)
    kept = torch.zeros_like(spectrum)
    for _ in range(probes):
        signs = wide(torch.where(noise(x) < 0, -1.0, 1.0))
        for b in range(len(frequencies)):
            z = _from_cosines(signs * (bins == b)).to(x)
            total = wide(z * seen(z, lam[:, b, None, None, None])).flatten(1).sum(1)
            kept[:, b] += total / wide(z).square().flatten(1).sum(1) / probes
    return frequencies, 1 - kept


def _binned(a: Tensor, b: Tensor, per_octave: int) -> tuple[Tensor, Tensor]:
    """(frequencies, means over bins and channels of the products of coefficients (B, N))."""
    place = wide(a[:0]).device
    bins, frequencies, counts = _bins(a.shape[-2], a.shape[-1], per_octave, place)
    inside = bins >= 0
    total = torch.zeros(a.shape[0], len(counts), dtype=torch.float64, device=place)
    for channel in range(a.shape[1]):  # one at a time: memory
        first = _cosines(wide(a[:, channel]))
        second = first if a is b else _cosines(wide(b[:, channel]))
        total.index_add_(1, bins[inside], (first * second)[:, inside])
    return frequencies, total / (counts * a.shape[1])


def _bins(height: int, width: int, per_octave: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """(bin of each coefficient (H, W) or -1, frequencies, how many coefficients), lowest frequency first."""
    if min(height, width) < LEAST:
        raise ValueError(f"a spectrum needs at least {LEAST}x{LEAST} pixels; this image has {height}x{width}")
    rows, columns = (
        torch.arange(n, dtype=torch.float64, device=device) / (2 * n) for n in (height, width)
    )  # cosine k of n has k / 2 cycles along the side
    f = torch.hypot(rows[:, None], columns)
    below = math.floor(per_octave * math.log2(min(height, width) / 2))  # bins above one cycle a side
    octave = (per_octave * (0.5 / f.clamp(min=1e-12)).log2() + 1e-9).floor().long()  # 0 is the finest
    valid = (f <= 0.5) & (octave < below)
    found, index = torch.where(valid, below - 1 - octave, -1).unique(return_inverse=True)
    found, index = found[1:], index - 1  # -1 is always there: the mean
    frequencies = 0.5 * 2.0 ** (-(below - 1 - found.double() + 0.5) / per_octave)
    counts = torch.bincount(index[index >= 0], minlength=len(found)).double()
    return index, frequencies, counts


def _cosines(x: Tensor) -> Tensor:
    """Orthonormal DCT-II over the last two dimensions of a float64 x, by the Fourier transform of x and its mirror."""
    for _ in range(2):
        mirrored = torch.cat([x, x.flip(-1)], -1)
        x = (torch.fft.rfft(mirrored)[..., :-1] * _turn(x)).real.transpose(-1, -2)
    return x


def _from_cosines(c: Tensor) -> Tensor:
    """The inverse of `_cosines`."""
    for _ in range(2):
        half = torch.nn.functional.pad(c / _turn(c), (0, 1))  # the middle frequency of a mirrored signal is 0
        c = torch.fft.irfft(half, 2 * c.shape[-1])[..., : c.shape[-1]].transpose(-1, -2)
    return c


def _turn(x: Tensor) -> Tensor:
    """exp(-i pi k / 2n) / sqrt(2n): half a pixel's shift, and the norm."""
    n = x.shape[-1]
    k = torch.arange(n, dtype=torch.float64, device=x.device)
    turn = torch.polar(torch.full_like(k, 1 / math.sqrt(2 * n)), -math.pi * k / (2 * n))
    turn[0] /= math.sqrt(2)
    return turn
