"""Convolution kernels: built-in shapes, and files of unknown origin.

Kernels are float64 tensors (K_rows, K_columns) or, for the reductions, (K,). Built-in shapes add up to 1.
"""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.operators.files import read_array, read_grey

LARGEST = 1025  # taps a side
SUM_TOLERANCE = 1e-3
FINE = 128  # taps a side up to which shapes are drawn finely: a larger one would take gigabytes


USES = {
    "uniform": {"taps"},
    "gaussian": {"taps", "std", "std_y"},
    "disk": {"taps"},
    "motion": {"taps", "angle"},
}
REDUCTIONS = ("bicubic", "lanczos3", "gaussian", "box")


def described(
    *,
    kernel: str,
    taps: float | None = None,
    std: float | None = None,
    std_y: float | None = None,
    angle: float | None = None,
    normalise: bool | None = None,
) -> Tensor:
    """The kernel that the options of `blur` describe; ValueError for an option that does not apply to it."""
    given = {"taps": taps, "std": std, "std_y": std_y, "angle": angle}
    uses = USES.get(kernel, set[str]())
    unused = [f"{name}={value:g}" for name, value in given.items() if value is not None and name not in uses]
    if normalise is not None and kernel in USES:
        unused.append(f"normalise={normalise}")
    if unused:
        choices = ", ".join(sorted(uses or {"normalise"}))
        raise ValueError(f"{', '.join(unused)} has no meaning for kernel {kernel}; it takes {choices}")
    if kernel == "disk":
        return disk(taps or 9)
    if taps is not None and taps != int(taps):
        raise ValueError(
            f"taps={taps:g} for kernel {kernel}; expected a whole number, as only a disk has another"
        )
    taps = None if taps is None else int(taps)
    if kernel == "uniform":
        return uniform(taps or 9)
    if kernel == "motion":
        return motion(taps or 15, angle or 0.0)
    if kernel == "gaussian":
        std = std or 2.0
        std_y = std_y or std
        return gaussian(taps or 2 * math.ceil(3 * max(std, std_y)) + 1, std, std_y)
    return from_file(Path(kernel), normalise)


def reduction(*, kernel: str, factor: int, std: float | None, normalise: bool | None) -> Tensor:
    """The kernel that the options of `downsample` describe; ValueError for one that does not apply to it."""
    if kernel != "gaussian" and std is not None:
        raise ValueError(f"std={std} has no meaning for kernel {kernel}; drop it")
    if kernel not in REDUCTIONS:
        return from_file(Path(kernel), normalise)
    if normalise is not None:
        raise ValueError(f"normalise={normalise} has no meaning for kernel {kernel}; drop it")
    if kernel == "gaussian":
        return _product(bell(factor, factor / 2 if std is None else std))
    return _product({"bicubic": bicubic, "lanczos3": lanczos3, "box": box}[kernel](factor))


def uniform(taps: int) -> Tensor:
    """taps x taps equal weights."""
    return _product(torch.ones(taps, dtype=torch.float64))


def gaussian(taps: int, std: float, std_y: float) -> Tensor:
    """exp(-d^2 / 2 std^2) sampled at the taps, std_y vertically; a wide one in few taps is nearly uniform."""
    d = _offsets(taps)
    return _product((-0.5 * (d / std_y) ** 2).exp(), (-0.5 * (d / std) ** 2).exp())


def disk(diameter: float) -> Tensor:
    """A disk (defocus) centred on a pixel; a tap is the covered share of its pixel, from 16 x 16 points or 4 x 4."""
    taps = 2 * math.ceil((diameter - 1) / 2) + 1
    n = 16 if taps <= FINE else 4
    d = (torch.arange(n * taps, dtype=torch.float64) + 0.5) / n - taps / 2
    inside = (d**2 + d.unsqueeze(1) ** 2 <= (diameter / 2) ** 2).double()
    return _unit(inside.reshape(taps, n, taps, n).mean((1, 3)))


def motion(taps: int, angle: float) -> Tensor:
    """A line of `taps` pixels at `angle` degrees, counter-clockwise from horizontal, drawn bilinearly."""
    points = (64 if taps <= FINE else 8) * taps + 1
    way = torch.linspace(-0.5, 0.5, points, dtype=torch.float64) * (taps - 1)
    turn = math.radians(angle)
    rows = _hat(_offsets(taps).unsqueeze(1) + way * math.sin(turn))  # y points down
    columns = _hat(_offsets(taps).unsqueeze(1) - way * math.cos(turn))
    return _unit(rows @ columns.mT)


def bicubic(factor: int) -> Tensor:
    """Keys (1981) with a = -1/2, stretched by factor: as MATLAB, Pillow and antialiased torch reduce."""

    def weight(d: Tensor) -> Tensor:
        near = 1.5 * d**3 - 2.5 * d**2 + 1
        far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        return torch.where(d <= 1, near, torch.where(d < 2, far, 0))

    return _stretched(weight, 2, factor)


def lanczos3(factor: int) -> Tensor:
    """sinc(d) sinc(d / 3) for |d| < 3 (Duchon 1979), stretched by factor."""
    return _stretched(lambda d: torch.where(d < 3, torch.sinc(d) * torch.sinc(d / 3), 0), 3, factor)


def box(factor: int) -> Tensor:
    """The mean over a block."""
    return torch.full((factor,), 1 / factor, dtype=torch.float64)


def bell(factor: int, std: float) -> Tensor:
    """A Gaussian of `std` input pixels, to 3 std, with as many taps as centre it on a block."""
    taps = 2 * math.ceil(3 * std) + factor % 2
    return _unit((-0.5 * (_offsets(taps) / std) ** 2).exp())


def from_file(path: Path, normalise: bool | None) -> Tensor:
    """A kernel (K_rows, K_columns) from .npy (1-D: its outer product with itself) or .png.

    An image has no absolute scale, so it is always made to add up to 1. An array is used as it is: ValueError
    if it does not add up to 1 within 1e-3, unless `normalise`.
    """
    if path.suffix.lower() == ".npy":
        kernel = read_array(path, what="kernel", entries=LARGEST**2)
        kernel = _product_as_is(kernel) if kernel.ndim == 1 and len(kernel) <= LARGEST else kernel
    elif path.suffix.lower() == ".png":
        if normalise is False:
            raise ValueError(f"kernel '{path}' is an image, whose scale means nothing: drop normalise=false")
        kernel, normalise = read_grey(path, what="kernel", entries=LARGEST**2, behind="black"), True
    else:
        raise ValueError(f"no kernel '{path}': neither a built-in shape nor a .png or .npy file")
    if kernel.ndim != 2 or max(kernel.shape) > LARGEST:
        raise ValueError(
            f"kernel '{path}' has shape {tuple(kernel.shape)}; use 1 or 2 dimensions, up to {LARGEST} taps"
        )
    total, size = float(kernel.sum()), float(kernel.abs().sum())
    if normalise:
        if abs(total) <= 1e-6 * size:
            raise ValueError(f"kernel '{path}' adds up to {total:g} and cannot be normalised")
        return kernel / total
    if abs(total - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"kernel '{path}' adds up to {total:g}, not 1; use normalise=true to divide by the sum"
        )
    return kernel


def factors(kernel: Tensor) -> tuple[Tensor, Tensor] | None:
    """(rows, columns) with kernel = rows x columns^T within 1e-6 (float32 files), or None.

    Factors that are symmetric up to rounding are made exactly so.
    """
    largest = float(kernel.abs().max())
    row = int(kernel.abs().amax(1).argmax())
    columns = kernel[row] / kernel[row].abs().max()
    rows = kernel @ columns / (columns @ columns)
    if float((torch.outer(rows, columns) - kernel).abs().max()) > 1e-6 * largest:
        return None
    return _evened(rows), _evened(columns)


def _evened(k: Tensor) -> Tensor:
    even = (k + k.flip(0)) / 2
    return even if float((k - even).abs().max()) <= 1e-6 * float(k.abs().max()) else k


def _offsets(taps: int) -> Tensor:
    return torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2


def _stretched(weight: Callable[[Tensor], Tensor], reach: int, factor: int) -> Tensor:
    """weight(|d| / factor) at all samples within reach * factor of the centre of a block."""
    return _unit(weight(_offsets(2 * reach * factor - factor % 2).abs() / factor))


def _hat(d: Tensor) -> Tensor:
    return (1 - d.abs()).clamp(min=0)


def _unit(k: Tensor) -> Tensor:
    return k / k.sum()


def _product(rows: Tensor, columns: Tensor | None = None) -> Tensor:
    return torch.outer(_unit(rows), _unit(rows if columns is None else columns))


def _product_as_is(k: Tensor) -> Tensor:
    return torch.outer(k, k)
