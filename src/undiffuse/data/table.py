"""Images in one array: what npz, idx and CIFAR files become."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from undiffuse.core.images import from_unit
from undiffuse.data.dataset import Item, Unusable, pixel_digest

Layout = Literal["auto", "NHWC", "NCHW"]
Range = Literal["0..1", "-1..1", "0..255"]
LARGEST_LABEL = 10**6


@dataclass(frozen=True)
class Table:
    """Images in an array, in memory or mapped. Floats are brought to [-1, 1] from `span` when read."""

    source: str  # a path: names and messages begin with it
    images: NDArray[Any]  # (N, H, W, C), or (N, C, H, W) if `first`
    labels: NDArray[np.int64] | None
    first: bool
    span: Range | None = None
    classes: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        return self.images.shape[1 if self.first else 3]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int, /) -> Item:
        if not 0 <= i < len(self):
            raise IndexError(i)
        values = self._values(i)
        image = torch.from_numpy(np.ascontiguousarray(values if self.first else np.moveaxis(values, 2, 0)))
        label = None if self.labels is None else int(self.labels[i])
        return Item(image if self.span is None else self._signed(image.float(), i), label)

    def _signed(self, image: Tensor, i: int) -> Tensor:
        low, high = {"0..1": (0, 1), "-1..1": (-1, 1), "0..255": (0, 255)}[self.span or "0..1"]
        if not ((image >= low) & (image <= high)).all():  # also false for NaN
            raise Unusable(
                f"{self.name(i)}: holds values beyond {self.span}; expected none; set range, or mend it"
            )
        return image if low < 0 else from_unit(image / high)

    def name(self, i: int, /) -> str:
        return f"{self.source}#{i}"

    def digest(self, i: int, /) -> bytes:
        return pixel_digest(torch.from_numpy(self._values(i)))

    def _values(self, i: int) -> NDArray[Any]:
        """A copy in this machine's byte order: of a mapped file, only this image is read."""
        return np.array(self.images[i], self.images.dtype.newbyteorder("="))


def numbered(labels: Sequence[int] | NDArray[Any]) -> tuple[str, ...]:
    """Names for classes that have none: 0 to the highest label."""
    return tuple(str(n) for n in range(int(max(labels)) + 1))


def axes(shape: tuple[int, ...], layout: Layout, source: str) -> tuple[tuple[int, ...], bool, str]:
    """The shape with four axes, whether channels come first, and how that was decided."""
    if len(shape) == 3:
        shape, layout = (*shape, 1), "NHWC"
    if len(shape) != 4 or 0 in shape:
        raise ValueError(
            f"{source}: an array of shape {shape}; expected (N, H, W), (N, H, W, C) or (N, C, H, W), not empty; reshape"
        )
    if layout != "auto":
        return shape, layout == "NCHW", f"read as {layout}"
    first, last = shape[1] <= 4, shape[3] <= 4
    if first == last:
        raise ValueError(f"{source}: shape {shape} may be NHWC or NCHW; expected a clear one; set layout")
    return shape, first, f"shape {shape} read as {'NCHW' if first else 'NHWC'}: that axis is at most 4"


def checked_labels(labels: NDArray[Any], count: int, source: str) -> NDArray[np.int64]:
    """One non-negative integer for each image; shapes (N,) and (N, 1)."""
    if labels.dtype.kind not in "iu" or labels.size != count or labels.shape[:1] != (count,):
        raise ValueError(
            f"{source}: labels of type {labels.dtype} and shape {labels.shape}; expected {count} integers, one for "
            "each image; name another array"
        )
    flat = labels.reshape(-1)
    if count and (int(flat.min()) < 0 or int(flat.max()) > LARGEST_LABEL):
        raise ValueError(
            f"{source}: labels from {flat.min()} to {flat.max()}; expected 0 to {LARGEST_LABEL}; renumber them"
        )
    return flat.astype(np.int64)
