"""How well a denoiser knows the noise, by noise level: size of its errors, bias, calibration, whiteness.

For x = x0 + sigma n and the answer D = x0hat the three things that networks are trained on have one error e = D - x0
in three units (Salimans and Ho 2022, sec. 4, in our coordinate):

    eps = n                                     epshat - eps = -e / sigma
    v = (n - sigma x0) / sqrt(1 + sigma^2)      vhat - v = -e sqrt(1 + sigma^2) / sigma
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.analysis.whiteness import Spectra, Whiteness, mean, spectra, whiteness
from undiffuse.analysis.whiteness import joined as joined_spectra

GRAIN = 2.0**-30  # of sums over images: whole numbers of it add up to the same in every order
LARGEST = 2.0**16  # of an error; 2^17 images of it fit the 63 bits of a sum


@dataclass(frozen=True, slots=True)
class Seen:
    """What is kept of the images at one level. All but `pattern` are (B,) float64, means over an image's numbers."""

    square: Tensor  # of e^2
    error: Tensor  # of e
    said: Tensor  # of epshat^2
    agreed: Tensor  # of epshat n
    pattern: Tensor  # (C, H, W) int64: the sum of e over the images, in GRAIN
    of_error: Spectra | None  # of epshat - eps; None for images too small for a spectrum
    of_said: Spectra | None  # of epshat


@dataclass(frozen=True, slots=True)
class Value:
    """A mean over images, and the deviation of that mean."""

    value: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Level:
    """A denoiser at one noise level, sigma in [-1, 1] units as all of x0's."""

    sigma: float
    images: int
    x0: Value  # root mean square of e
    eps: Value  # root mean square of epshat - eps: 0 for one who knows, 1 for one who always says 0
    v: Value  # root mean square of vhat - v
    bias: Value  # mean of e: brightness that is added
    pattern: float  # share of the mean of e^2 that is the same in all images; 0 for E[x0 | x], 1 for a fixed offset
    size: Value  # root mean square of x - x0hat, over sigma
    right_size: (
        float | None
    )  # what that would be if this error were that of E[x0 | x]; None: it is too large for that
    slope: Value  # of eps on epshat: 1 for E[x0 | x]; above it the denoiser takes too little noise away
    error_white: Whiteness | None
    said_white: Whiteness | None


def seen(x0: Tensor, n: Tensor, sigma: float, x0hat: Tensor) -> Seen:
    """One batch at one level: x0, n and the answer x0hat to x0 + sigma n, (B, C, H, W) each, sigma > 0.

    ValueError for an answer that is not finite, or is far from any picture.
    """
    if not sigma > 0:
        raise ValueError(f"sigma = {sigma}; the noise is known from a level above 0 only; leave it out")
    x0, n, x0hat = (t.detach().cpu().double() for t in (x0, n, x0hat))
    e = x0hat - x0
    if not (e.abs() < LARGEST).all():
        raise ValueError(
            f"an answer at sigma = {sigma:g} that is not finite or beyond {LARGEST:g}; the prior is broken there, or "
            "was never trained on that level: leave the level out"
        )
    said = n - e / sigma  # epshat = (x - x0hat) / sigma, without the rounding of x
    whole = min(x0.shape[-2:]) >= 8
    return Seen(
        square=e.square().flatten(1).mean(1),
        error=e.flatten(1).mean(1),
        said=said.square().flatten(1).mean(1),
        agreed=(said * n).flatten(1).mean(1),
        pattern=(e / GRAIN).round().long().sum(0),
        of_error=spectra(-e / sigma) if whole and (e != 0).flatten(1).any(1).all() else None,
        of_said=spectra(said) if whole and (said != 0).flatten(1).any(1).all() else None,
    )


def joined(parts: list[Seen]) -> Seen:
    """Several batches as one, small enough for any number of them."""
    errors = [part.of_error for part in parts if part.of_error is not None]
    said = [part.of_said for part in parts if part.of_said is not None]
    return Seen(
        torch.cat([part.square for part in parts]),
        torch.cat([part.error for part in parts]),
        torch.cat([part.said for part in parts]),
        torch.cat([part.agreed for part in parts]),
        torch.stack([part.pattern for part in parts]).sum(0),
        joined_spectra(errors) if len(errors) == len(parts) else None,
        joined_spectra(said) if len(said) == len(parts) else None,
    )


def level(found: Seen, sigma: float) -> Level:
    """All that is said of a level, the same to the bit for every order of the images. ValueError for a single image.

    Calibration. E[n | x] is the best that can be said of n, its error is uncorrelated with all functions of x, and so

        E |epshat|^2 = E |n|^2 - E |epshat - n|^2,  E n epshat = E epshat^2

    hold per number for D = E[x0 | x] and no other multiple of it: the first says how large x - x0hat should be
    (`right_size`, from the measured error), the second that `slope` is 1. A Gaussian prior of variance d'^2 on data of
    variance d^2 has the slope (d'^2 + sigma^2) / (d^2 + sigma^2).

    The share of the pattern is free of the bias that few images give it: (n |mean e|^2 - mean |e|^2) / (n - 1) over
    mean |e|^2; for few images it can be below 0.
    """
    images = len(found.square)
    if images < 2:
        raise ValueError(f"{images} image; expected 2 or more, as a mean has no deviation otherwise")
    square, size = _value(found.square), _value(found.said)
    x0 = _root(square)
    slope = mean(found.agreed).item() / size.value if size.value else float("nan")
    fixed = (found.pattern.double() * GRAIN / images).square().mean().item()
    pattern = (images * fixed - square.value) / ((images - 1) * square.value) if square.value else 0.0
    preserved = (1 + sigma**2) ** 0.5 / sigma
    return Level(
        sigma=sigma,
        images=images,
        x0=x0,
        eps=Value(x0.value / sigma, x0.deviation / sigma),
        v=Value(x0.value * preserved, x0.deviation * preserved),
        bias=_value(found.error),
        pattern=pattern,
        size=_root(size),
        right_size=(1 - square.value / sigma**2) ** 0.5 if square.value <= sigma**2 else None,
        slope=Value(
            slope, _value(found.agreed - slope * found.said).deviation / size.value if size.value else 0.0
        ),
        error_white=None if found.of_error is None else whiteness(found.of_error),
        said_white=None if found.of_said is None else whiteness(found.of_said),
    )


def _value(values: Tensor) -> Value:
    middle = mean(values)
    variance = (values - middle).square().sort(0).values.sum().item() / (len(values) - 1)
    return Value(middle.item(), (variance / len(values)) ** 0.5)


def _root(square: Value) -> Value:
    """The root of a mean square, and its deviation to first order."""
    root = square.value**0.5
    return Value(root, square.deviation / (2 * root) if root else 0.0)
