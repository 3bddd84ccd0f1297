"""What a dataset answers. Factories of datasets are entered in `registry.DATASETS`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor


class Item(NamedTuple):
    """One image as stored: uint8, or float32 in [-1, 1]."""

    image: Tensor  # (C, H, W)
    label: int | None = None


class Unusable(ValueError):
    """One item that cannot be used, among others that can: counted and passed over by `stream`."""


class Dataset(Protocol):
    """Images by index. Reading one changes nothing, so any thread may ask for any of them."""

    @property
    def classes(self) -> tuple[str, ...] | None: ...  # names of the labels; None: none known
    @property
    def channels(self) -> int: ...
    @property
    def notes(self) -> tuple[str, ...]: ...  # what was decided and left out, in words that a user reads
    def __len__(self) -> int: ...
    def __getitem__(self, i: int, /) -> Item: ...  # Unusable if this one cannot be read
    def name(self, i: int, /) -> str: ...
    def digest(self, i: int, /) -> bytes: ...  # of the stored content: equal for copies


def pixel_digest(image: Tensor) -> bytes:
    """SHA-256 of type, shape and values, for datasets without files."""
    values = image.contiguous().numpy()
    return hashlib.sha256(f"{values.dtype}{values.shape}".encode() + values.tobytes()).digest()


@dataclass(frozen=True)
class Subset:
    """Some items of a dataset, in the order of `indices`."""

    whole: Dataset
    indices: Sequence[int]
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...] | None:
        return self.whole.classes

    @property
    def channels(self) -> int:
        return self.whole.channels

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int, /) -> Item:
        return self.whole[self.indices[i]]

    def name(self, i: int, /) -> str:
        return self.whole.name(self.indices[i])

    def digest(self, i: int, /) -> bytes:
        return self.whole.digest(self.indices[i])


def subrange(dataset: Dataset, start: int, stop: int) -> Subset:
    """Items start..stop-1. ValueError if they are not all there."""
    if not 0 <= start < stop <= len(dataset):
        raise ValueError(
            f"range {start}:{stop} of a dataset of {len(dataset)} items; expected 0 <= start < stop <= "
            f"{len(dataset)}; choose another range"
        )
    return Subset(dataset, range(start, stop), (f"items {start} to {stop - 1} of {len(dataset)}",))
