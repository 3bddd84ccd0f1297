"""Images of a run by their number: the same whatever the workers, the number of processes and the interruptions."""

import threading
import warnings
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from undiffuse.data.dataset import Dataset, Unusable
from undiffuse.data.order import Order, Place
from undiffuse.data.transforms import Transform, item_generator

MILESTONES = (1, 10, 100, 1000, 10_000)  # numbers of unusable items that are told
_AHEAD = 2  # batches in the making while one is in use


class Batch(NamedTuple):
    """Images, their labels if there are any, and their indices in the dataset."""

    x: Tensor  # (B, C, H, W) float32 in [-1, 1]
    labels: Tensor | None  # (B,) int64
    index: Tensor  # (B,) int64


class _Row(NamedTuple):
    x: Tensor
    label: int | None
    index: int


class Skips:
    """Unusable items, each counted once. ValueError when they are more than `most` of all.

    Warns at the 1st, 10th, 100th ... and names the first five, unless `quiet`; `summary` is for logs and reports.
    """

    def __init__(self, length: int, *, most: float = 0.01, quiet: bool = False):
        self._length, self._most, self._quiet = length, most, quiet
        self._reasons: dict[int, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._reasons)

    def __contains__(self, index: object) -> bool:
        return index in self._reasons

    def add(self, index: int, name: str, reason: str) -> None:
        """Count one item."""
        with self._lock:
            if index in self._reasons:
                return
            self._reasons[index] = reason if name in reason else f"{name}: {reason}"
            number = len(self._reasons)
        if number > self._most * self._length:
            limit = f"expected at most {self._most:.0%}; mend or remove them"
            raise ValueError(f"{self.summary()}; {limit}")
        if number in MILESTONES and not self._quiet:
            warnings.warn(f"{self.summary()}; the next ones take their places", stacklevel=2)

    def summary(self) -> str:
        """How many were passed over, and why the first of them were; empty for none."""
        if not self._reasons:
            return ""
        first = " | ".join(list(self._reasons.values())[:5])
        return f"{len(self)} of {self._length} images so far cannot be used: {first}"


class Stream:
    """`stream(range(start, stop, step))`: items k of `Order(len(dataset), seed)`, as a batch.

    Whoever trains asks for k = images_seen + rank, in steps of the number of processes. Workers are threads that read
    ahead, on the guess that the numbers go on as they are; they change nothing but the speed, and `close` ends them. An
    Unusable item is replaced by the next of the dataset that is not, and counted in `skips`.
    """

    def __init__(
        self,
        dataset: Dataset,
        transform: Transform,
        /,
        *,
        seed: int,
        workers: int = 0,
        skips: Skips | None = None,
    ):
        if workers < 0:
            raise ValueError(f"workers={workers}; expected 0 (no reading ahead) or more; correct it")
        self._dataset, self._transform, self._order = dataset, transform, Order(len(dataset), seed)
        self.skips = Skips(len(dataset)) if skips is None else skips
        self._pool = ThreadPoolExecutor(workers, "undiffuse-data") if workers else None
        self._coming: dict[int, Future[_Row]] = {}

    def __call__(self, which: range, /) -> Batch:
        if self._pool is None:
            return _stacked([self._row(k) for k in which])
        last = which.stop if not which else which[-1]
        ahead = range(last + which.step, last + which.step * (_AHEAD * len(which) + 1), which.step)
        wanted = {*which, *ahead}
        for k in [k for k in self._coming if k not in wanted]:
            self._coming.pop(k).cancel()
        for k in (*which, *ahead):
            if k not in self._coming:
                self._coming[k] = self._pool.submit(self._row, k)
        return _stacked([self._coming.pop(k).result() for k in which])

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _row(self, k: int) -> "_Row":
        return _row(self._dataset, self._transform, self._order[k], self._order.seed, self.skips)


def collate(
    dataset: Dataset,
    transform: Transform,
    indices: Iterable[int],
    /,
    *,
    seed: int,
    skips: Skips | None = None,
) -> Batch:
    """These items, as in epoch 0: for a validation set, the same pixels each time."""
    skips = Skips(len(dataset)) if skips is None else skips
    return _stacked([_row(dataset, transform, Place(0, i), seed, skips) for i in indices])


def _row(dataset: Dataset, transform: Transform, place: Place, seed: int, skips: Skips) -> _Row:
    """The item of a place, or the first usable one after it: a function of the data alone."""
    for step in range(len(dataset)):
        index = (place.index + step) % len(dataset)
        if index in skips:
            continue
        try:
            item = dataset[index]
            return _Row(
                transform(item.image, item_generator(seed, place.epoch, place.index)), item.label, index
            )
        except Unusable as error:
            skips.add(index, dataset.name(index), str(error))
    raise ValueError(f"{skips.summary()}; expected one that can; check the dataset")


def _stacked(rows: list[_Row]) -> Batch:
    shapes = {tuple(row.x.shape) for row in rows}
    if len(shapes) != 1:
        raise ValueError(
            f"images of shapes {sorted(shapes)} in one batch; expected one shape; crop or resize them"
        )
    labels = [row.label for row in rows if row.label is not None]
    if labels and len(labels) != len(rows):
        raise ValueError(f"{len(labels)} of {len(rows)} images of a batch have labels; expected all or none")
    index = torch.tensor([row.index for row in rows])
    return Batch(torch.stack([row.x for row in rows]), torch.tensor(labels) if labels else None, index)
