"""Pixels of image files, as stored: uint8 wherever the file has at most 8 bits."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from undiffuse.core import images
from undiffuse.core.decode import KINDS, Limits, decode
from undiffuse.data.dataset import Unusable

MAX_PIXELS = 100_000_000  # of one training image; a larger claim is not decoded
_LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def from_file(path: Path, channels: int) -> Tensor:
    """(C, H, W), uint8 if the file has at most 8 bits, else float in [-1, 1], converted as `core.images.read` says.

    Unusable if it cannot be read.
    """
    try:
        picture = images.read(path, max_pixels=MAX_PIXELS)
    except ValueError as error:
        raise Unusable(str(error)) from error
    pixels = picture.pixels
    if picture.levels is not None and picture.levels <= 255:
        pixels = torch.from_numpy(images.to_bytes(pixels)).permute(2, 0, 1).contiguous()
    return as_channels(pixels, channels, str(path))


def from_bytes(data: bytes, channels: int, name: str) -> Tensor:
    """An encoded 8-bit image out of a database, grey or RGB. Unusable if it cannot be read."""
    try:
        raster = decode(BytesIO(data), Limits(MAX_PIXELS))
    except Exception as error:  # decoders raise anything on bytes that nobody vouches for
        what = " ".join(f"{type(error).__name__}: {error}".splitlines())
        raise Unusable(f"{name}: cannot be decoded ({what}); expected a whole {KINDS}; remove it") from error
    if raster.levels != 255 or raster.alpha or raster.cmyk or raster.orientation > 1:
        raise Unusable(
            f"{name}: has transparency, CMYK, a turn or not 8 bits; expected grey or RGB of 8 bits; convert it"
        )
    pixels = torch.from_numpy(np.array(np.moveaxis(raster.values, 2, 0), np.uint8))
    return as_channels(pixels, channels, name)


def as_channels(pixels: Tensor, channels: int, name: str) -> Tensor:
    """Grey to RGB by repetition, RGB to grey by Rec. 601 luma. Unusable for any other pair."""
    have = pixels.shape[0]
    if have == channels:
        return pixels
    if have == 1:
        return pixels.expand(channels, -1, -1).contiguous()
    if channels == 1 and have == 3:
        grey = torch.einsum("c,chw->hw", torch.tensor(_LUMA), pixels.float())[None]
        return grey if pixels.is_floating_point() else grey.round().to(torch.uint8)
    wanted = "grey or RGB, without alpha" if channels in (1, 3) else channels
    raise Unusable(f"{name}: has {have} channels; expected {wanted}; convert it")
