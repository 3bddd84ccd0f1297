"""Kernels, masks and matrices from files of unknown origin: sizes are checked before anything is decoded."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def read_array(path: Path, /, *, what: str, entries: int) -> Tensor:
    """A `.npy` file as float64. ValueError unless it is a finite, real, numeric array of 1 to `entries`
    numbers.

    Pickled objects are never loaded; the header is read before the data.
    """
    _exists(path, what)
    try:
        array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError) as error:
        raise ValueError(f"{what} file '{path}' is not a plain .npy array: {error}") from None
    if not hasattr(array, "dtype"):
        raise ValueError(f"{what} file '{path}' is an archive; save one array with numpy.save")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{what} file '{path}' holds {array.dtype}; real numbers are needed")
    if not 0 < array.size <= entries:
        raise ValueError(f"{what} file '{path}' has shape {array.shape}; 1 to {entries} numbers are accepted")
    values = torch.tensor(np.array(array, dtype=np.float64))
    if not values.isfinite().all():
        raise ValueError(f"{what} file '{path}' holds values that are not finite")
    return values


def read_grey(path: Path, /, *, what: str, entries: int, behind: str) -> Tensor:
    """An image file as (H, W) float64 of 0 to 255, grey; `behind`: the colour of what is transparent.

    ValueError above `entries` pixels.
    """
    _exists(path, what)
    try:
        with Image.open(path) as opened:
            image: Image.Image = opened
            if math.prod(image.size) > entries:
                width, height = image.size
                raise ValueError(f"it has {height} x {width} pixels, {entries} are accepted")
            if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
                return torch.tensor(np.array(image, dtype=np.float64) / 257)
            if image.has_transparency_data:
                ground = Image.new("RGBA", image.size, behind)
                image = Image.alpha_composite(ground, image.convert("RGBA"))
            return torch.tensor(np.array(image.convert("L"), dtype=np.float64))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{what} file '{path}' cannot be read as an image: {error}") from None


def _exists(path: Path, what: str) -> None:
    if not path.is_file():
        raise ValueError(f"no {what} file '{path}'")
