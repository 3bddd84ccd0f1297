"""What guidance does to a set of pictures: how far beyond white and black, how varied, how like the unguided ones."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.analysis.embedding import Frame
from undiffuse.analysis.trajectory import Trajectories
from undiffuse.core.devices import wide

ROWS = 256  # of a matrix of distances at once


@dataclass(frozen=True, slots=True)
class Saturation:
    """Of pictures before they are clipped to [-1, 1]."""

    beyond: float  # share of the pixels of which a channel is beyond [-1, 1]; 0 for pictures within
    contrast: float  # mean |x|: 0 for mid-grey, 1 for nothing but black and white
    colour: (
        float | None
    )  # mean over pixels of (highest - lowest channel) / 2, clipped: 0 for grey; None of one channel


class Saturations:
    """Saturation of pictures that come in batches: call it with (B, C, H, W)."""

    def __init__(self) -> None:
        self._sums, self._pixels, self._channels = [0.0, 0.0, 0.0], 0, 0

    def __call__(self, x: Tensor) -> None:
        x = wide(x.detach())
        clipped = x.clamp(-1, 1)
        beyond = (x.abs() > 1).any(1)
        colour = (clipped.amax(1) - clipped.amin(1)) / 2
        for i, values in enumerate((beyond, x.abs().mean(1), colour)):
            self._sums[i] += values.sum().item()
        self._pixels += beyond.numel()
        self._channels = x.shape[1]

    def saturation(self) -> Saturation:
        """So far. ValueError before any picture."""
        if not self._pixels:
            raise ValueError("no pictures; expected at least one to measure")
        beyond, contrast, colour = (total / self._pixels for total in self._sums)
        return Saturation(beyond, contrast, colour if self._channels > 1 else None)


def saturation(x: Tensor) -> Saturation:
    """Of (B, C, H, W) at once."""
    found = Saturations()
    found(x)
    return found.saturation()


def diversity(points: Tensor, groups: Sequence[int | None] | None = None) -> float:
    """Mean distance of two different samples of one group: root mean square over their numbers, in their units.

    points: (n, k). groups: n labels, such as classes; None: all are one group. 0 for samples that are all the same;
    of N(m, s^2) in k numbers 2 s Gamma((k + 1) / 2) / (Gamma(k / 2) sqrt(k)), which tends to sqrt(2) s. nan if no group
    has two.
    """
    n, k = points.shape
    labels = list(groups) if groups is not None else [None] * n
    if len(labels) != n:
        raise ValueError(f"{len(labels)} groups for {n} samples; expected one each")
    total, pairs = 0.0, 0
    for label in dict.fromkeys(labels):
        mine = points[[i for i, other in enumerate(labels) if other == label]].double()
        for i in range(0, len(mine), ROWS):
            near = torch.cdist(mine[i : i + ROWS], mine, compute_mode="donot_use_mm_for_euclid_dist")
            total += near.sum().item()
        pairs += len(mine) * (len(mine) - 1)
    return total / pairs / math.sqrt(k) if pairs else math.nan


def unrelated(points: Tensor, groups: Sequence[int | None]) -> float:
    """`diversity` within groups, or over all where no group has two: how far two pictures are that share no noise."""
    within = diversity(points, groups)
    return diversity(points) if math.isnan(within) else within


def similarity(a: Tensor, b: Tensor, centre: Tensor) -> Tensor:
    """Cosine between a - centre and b - centre along the last axis: 1 for the same, 0 for unrelated, -1 for opposite.

    1 - |u - v|^2 / 2 of the unit vectors, which is exactly 1 for the same samples. nan where one of them is the centre.
    """
    u, v = (
        (x.double() - centre.double()) / (x.double() - centre.double()).square().sum(-1, keepdim=True).sqrt()
        for x in (a, b)
    )
    return 1 - (u - v).square().sum(-1) / 2


def accuracy(scores: Iterable[Tensor], labels: Sequence[int | None]) -> float:
    """Share of pictures whose highest score is that of their class: 1 / classes by chance. scores: (B, classes) each.

    Pictures without a class are left out; nan if there are none with one.
    """
    guessed = [int(i) for batch in scores for i in batch.argmax(1)]
    if len(guessed) != len(labels):
        raise ValueError(f"scores of {len(guessed)} pictures for {len(labels)} labels; expected one row each")
    known = [(guess, label) for guess, label in zip(guessed, labels, strict=True) if label is not None]
    return sum(guess == label for guess, label in known) / len(known) if known else math.nan


@dataclass(frozen=True, slots=True)
class Drawn:
    """The pictures of one prior at one scale."""

    scale: float
    trajectories: Trajectories
    pictures: Tensor  # the first few, (P, C, H, W)
    saturation: Saturation
    diversity: float  # within classes, white - black = 1
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Field:
    """Where guidance pushes, at one level: what a scale of 2 adds to the estimate at unguided states."""

    sigma: float  # [-1, 1] units
    at: Tensor  # (n, k): the unguided estimates
    push: Tensor  # (n, k)


@dataclass(frozen=True, slots=True)
class Guided:
    """All that was drawn."""

    name: str
    drawn: tuple[Drawn, ...]  # by rising scale, 1 among them
    fields: tuple[Field, ...]
    frame: Frame  # of the estimates at scale 1
    labels: tuple[int | None, ...]  # of the pictures
    student: str | None = None
    others: tuple[Drawn, ...] = ()  # of the student, at those scales that it knows

    @property
    def unguided(self) -> Drawn:
        """At scale 1."""
        return next(one for one in self.drawn if one.scale == 1)
