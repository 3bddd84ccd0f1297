"""Power by spatial frequency: is there as much detail as in the reference, and how much of it was measured?

Spectra are of the cosine transform (DCT-II, orthonormal): a picture has no edges there that leak into high
frequencies, every pixel counts the same, and the powers of all coefficients add up to those of all pixels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

PER_OCTAVE = 2  # bins
LEAST = 8  # pixels: two octaves
FLOOR = 5e-6  # [-1, 1] units squared: about what rounding to 8 bits adds to each coefficient
_MEASURABLE = torch.finfo(torch.float64).tiny


def power(x: Tensor, *, per_octave: int = PER_OCTAVE) -> tuple[Tensor, Tensor]:
    """Radially averaged power spectrum of each image: (frequencies (N,), power (B, N)), float64.

    Frequencies in cycles a pixel, the geometric middle of bins with ratio 2^(1 / per_octave), from 0.5 (the
    finest stripes along an axis) down to about one cycle along the shorter side; corners beyond 0.5 and the mean are
    left out, and so are bins without a coefficient. Power is the mean square of the bin's coefficients, over
    channels too, in [-1, 1] units: white noise of deviation sigma has sigma^2 everywhere. ValueError for a
    side under 8 pixels.
    """
    frequencies, means = _binned([(x, x)], x, per_octave)
    return frequencies, means[0]


def spectrum_error(x: Tensor, reference: Tensor, *, per_octave: int = PER_OCTAVE) -> Tensor:
    """Difference of two pictures' power spectra in dB, (B,): root mean square over the bins of `power`.

    sqrt(mean over bins (10 log10 P_x - 10 log10 P_ref)^2), clamped to [-1, 1] first and with the power of 8-bit
    rounding added to both. 0 for equal spectra; octaves count the same, however little power they have, so
    that blur and noise show, which PSNR forgives or prefers.

    A stand-in for perceptual quality where no network's weights are at hand, and not more: it sees how much
    detail there is, not whether it is right or pleasant. Noise with the reference's spectrum scores 0. Read it
    together with PSNR or SSIM.
    """
    (frequencies, a), (_, b) = (power(z.double().clamp(-1, 1), per_octave=per_octave) for z in (x, reference))
    decibels = 10 * ((a + FLOOR) / (b + FLOOR)).log10()
    return decibels.square().mean(1).sqrt()


def invented(
    x: Tensor,
    determined: Callable[[Tensor], Tensor],
    sigma_y: float,
    *,
    per_octave: int = PER_OCTAVE,
) -> tuple[Tensor, Tensor]:
    """Share of a restored picture's power that the prior supplied, by frequency: (frequencies (N,), share (B, N)).

    share_b = 1 - <x, W_b x>_b / <x, x>_b, sums over the coefficients of bin b, with

        W_b = (A^T A + lam_b)^-1 A^T A,   lam_b = sigma_y^2 / P_b,   P_b the power of x in the bin.

    `determined(lam)` gives W x for lam (B, 1, 1, 1), as `restore.measured.determined` does for any linear A.
    Without noise W is A^+ A, the projection on what A sees: share 0 in the range, 1 in the null space. With
    noise each mode counts by its Wiener weight s^2 P_b / (s^2 P_b + sigma_y^2). W is a function of A^T A, so that
    nothing depends on which singular vectors are chosen among those of equal s.

    The one assumption is that the true picture has the power of the restored one, band by band. Where x is
    too smooth, this says more is invented than is; where it has too much texture, less. It says what could be
    known from y, not whether the algorithm used it, nor that what it invented is wrong. Where A mixes
    frequencies (missing pixels, subsampling) only the power-weighted mean over all frequencies is bound to
    [0, 1]; a bin can leave it by a little. NaN where the picture has no power. x (B, C, H, W) and sigma_y in
    [-1, 1] units; W is called once if sigma_y is 0, else once a bin.
    """
    frequencies, spectrum = power(x, per_octave=per_octave)
    if sigma_y == 0:
        _, (explained,) = _binned([(x, determined(_level(spectrum[:, 0] * 0, x)))], x, per_octave)
        return frequencies, 1 - explained / spectrum
    shares: list[Tensor] = []
    for b, level in enumerate(spectrum.unbind(1)):
        lam = sigma_y**2 / level.clamp(min=_MEASURABLE)
        _, (explained,) = _binned([(x, determined(_level(lam, x)))], x, per_octave)
        shares.append(1 - explained[:, b] / level)
    return frequencies, torch.stack(shares, 1)


def _level(lam: Tensor, x: Tensor) -> Tensor:
    return lam.clamp(max=torch.finfo(x.dtype).max / 1e6).to(x)[:, None, None, None]


def _binned(pairs: list[tuple[Tensor, Tensor]], like: Tensor, per_octave: int) -> tuple[Tensor, list[Tensor]]:
    """Means over bins and channels of the products of the coefficients of each pair, (B, N)."""
    bins, frequencies, counts = _bins(like.shape[-2], like.shape[-1], per_octave, like.device)
    inside = bins >= 0
    means: list[Tensor] = []
    for a, b in pairs:
        total = torch.zeros(a.shape[0], len(counts), dtype=torch.float64, device=a.device)
        for channel in range(a.shape[1]):  # one at a time: memory
            first = _cosines(a[:, channel])
            second = first if a is b else _cosines(b[:, channel])
            total.index_add_(1, bins[inside], (first * second)[:, inside])
        means.append(total / (counts * a.shape[1]))
    return frequencies, means


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
    """Orthonormal DCT-II over the last two dimensions, float64, by the Fourier transform of x and its mirror."""
    x = x.double()
    for _ in range(2):
        n = x.shape[-1]
        k = torch.arange(n, dtype=torch.float64, device=x.device)
        turn = torch.polar(torch.full_like(k, 1 / math.sqrt(2 * n)), -math.pi * k / (2 * n))
        turn[0] /= math.sqrt(2)
        x = (torch.fft.rfft(torch.cat([x, x.flip(-1)], -1))[..., :n] * turn).real.transpose(-1, -2)
    return x
