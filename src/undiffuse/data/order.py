"""Which item comes k-th: known for every k without walking there."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from undiffuse.core.noise import image_seed


class Place(NamedTuple):
    """Where one item of the stream comes from."""

    epoch: int
    index: int


@dataclass(frozen=True, slots=True)
class Order:
    """An endless order of items: each epoch a permutation of its own, drawn from (seed, epoch).

    Rank r of n takes k = r, r + n, ...; a run resumed at k goes on as if it had not stopped.
    """

    length: int
    seed: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError("an order of no items; expected at least one; check the dataset")

    def __getitem__(self, k: int, /) -> Place:
        epoch, place = divmod(k, self.length)
        if k < 0:
            raise ValueError(f"item {k} of an order; expected 0 or more; correct images_seen")
        return Place(epoch, int(_permutation(self.length, self.seed, epoch)[place]))


@functools.lru_cache(maxsize=4)
def _permutation(length: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(length, generator=Generator().manual_seed(image_seed(seed, "order", epoch)))
