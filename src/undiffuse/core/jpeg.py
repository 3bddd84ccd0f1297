"""What the rounding of a JPEG's coefficients left of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
BLOCK, PART = 8, 1024  # pixels of a block's side, and of the side of the middle that is looked at
TO_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)  # JFIF 1.02
# Squared weights of Y, Cb, Cr in R, G, B, averaged over the three (JFIF 1.02).
INTO_RGB = (1.0, (1.772**2 + 0.344136**2) / 3, (1.402**2 + 0.714136**2) / 3)


@dataclass(frozen=True, slots=True)
class Tables:
    """How a JPEG was rounded: for each component its 8 x 8 steps, and rows and columns a sample stands for."""

    components: tuple[tuple[Array, int, int], ...]  # one, grey, or three, Y Cb Cr
    orientation: int = 1  # EXIF: how it is turned to be seen
    whole: Callable[[], Array | None] | None = (
        None  # (H, W, C) of bytes, as stored, where blocks go on beyond the picture's edge
    )


@dataclass(frozen=True, slots=True)
class Rounding:
    """What a JPEG is worth."""

    level: float  # of white noise that is as strong in the frequencies that are left, in units of [-1, 1]
    left: Array  # (8, 8), rows first: share of the blocks whose coefficient of grey was not rounded to 0
    tables: Tables


def flips(orientation: int) -> tuple[bool, bool]:
    """Whether rows and columns are turned round to see a picture; from 5 to 8 both change places first (EXIF 2.32)."""
    return orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)


def rounding(values: Array, tables: Tables) -> Rounding | None:
    """Of decoded values (H, W, C) of 0 to 255, not turned. None for less than a block.

    The blocks are transformed again, so that the coefficients are as they were but for the rounding of the
    values. One of step q that is not 0 has an error of variance q^2 / 12 (Widrow 1956). What became 0 has lost all it
    had: the frequencies count by the share of grey that they keep, or a blurred picture, which keeps few and has
    lost little in the others, would seem to be hardly touched. What colours lose that became 0 is not counted.
    """
    values = _middle(values).astype(np.float64) - 128.0
    planes = values if len(tables.components) == 1 else values @ TO_YCC.T
    variance, left = 0.0, None
    for k, (steps, rows, columns) in enumerate(tables.components):
        coefficients = _coefficients(planes[..., k], rows, columns)
        if not len(coefficients):
            return None
        kept = (np.abs(coefficients) >= steps / 2).mean(0)
        left = kept if left is None else left
        power = (kept * steps.astype(np.float64) ** 2 / 12).sum()
        variance += INTO_RGB[k] * float(power / max(left.sum(), 1))
    assert left is not None
    return Rounding(variance**0.5 * 2 / 255, left, tables)


def _middle(values: Array) -> Array:
    """From a block's corner on, for a component of a quarter of the rows too."""
    top, left = (max(n - PART, 0) // 2 // (4 * BLOCK) * (4 * BLOCK) for n in values.shape[:2])
    return values[top : top + PART, left : left + PART]


def _coefficients(plane: Array, rows: int, columns: int) -> Array:
    """(blocks, 8, 8) of the orthonormal cosine transform, after means over `rows` x `columns` values."""
    height, width = (n // (BLOCK * f) * BLOCK for n, f in zip(plane.shape, (rows, columns), strict=True))
    plane = plane[: height * rows, : width * columns]
    small = plane.reshape(height, rows, width, columns).mean((1, 3))
    blocks = small.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(0, 2, 1, 3)
    k = np.arange(BLOCK)
    cosines = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * BLOCK)) / 2  # (frequency, place)
    cosines[0] /= np.sqrt(2)
    return (cosines @ blocks @ cosines.T).reshape(-1, BLOCK, BLOCK)
