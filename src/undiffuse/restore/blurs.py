"""The blurs that are looked for in a picture, and how likely each of them is."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (tolist is untyped)

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from undiffuse.operators import kernels
from undiffuse.restore.power import STEPS, Fit, Power, cells, fit, photographs, transfer

Family = Literal["gaussian", "disk", "motion"]
Blur = tuple[float, float]  # (std, 0), (diameter, 0) or (taps, angle)

STDS = tuple(k / 10 for k in range(81))
DIAMETERS = (0.0, *(k / 4 for k in range(6, 165)))
STEP = 0.05  # of diameters, around the likely ones
LENGTHS = tuple(range(3, 42))  # each: the zeros of one length are not those of its neighbours
TURN = 4.0  # degrees between the first angles
SOFT = 0.75  # std by which the photographs that the model knows differ in sharpness of their own


@dataclass(frozen=True, slots=True)
class Kind:
    """What is known of a family."""

    size: str  # the option of the degradation `blur` that is its width or length
    sharp: float  # up to which a photograph may look like that by itself
    largest: float  # that is looked for
    temper: float  # what the log likelihood is divided by
    ahead: float  # by how much of that it must be better than a Gaussian
    called: str


# The cells of one spectrum are not independent, nor are photographs Gaussian, so that a likelihood is tempered. With
# 10, 95 % of the intervals of std held the truth on training photographs (84 cases); with 12, all angles of four
# photographs were held, none of which is among those of benchmarks/results/blind.md. A disk of deviation std is 4 std
# wide. Sharp photographs with many edges in one direction look like a motion of 3. For 36 Gaussians a disk was ahead
# by at most 1.5, for disks of 8.4 pixels in noise of 0.05 by 6.5 and more; of ten photographs enlarged fourfold one
# looked like a motion by 16, and motions of five pixels and more, in noise of 0.02, by 27 and more. What comes of it
# where the kind is left open: benchmarks/results/blind.md.
KINDS: dict[Family, Kind] = {
    "gaussian": Kind("std", SOFT, STDS[-1], 10.0, 0.0, "a Gaussian blur"),
    "disk": Kind("taps", 4 * SOFT, DIAMETERS[-1], 10.0, 4.0, "a disk"),
    "motion": Kind("taps", 4.0, LENGTHS[-1], 12.0, 20.0, "a motion"),
}


def kernel(family: Family, blur: Blur) -> Tensor:
    """The kernel that the operator `blur` uses; a point for a width of 0 or one tap."""
    size, angle = blur
    if size == 0 or (family == "motion" and size <= 1):
        return torch.ones(1, 1, dtype=torch.float64)
    if family == "gaussian":
        return kernels.described(kernel=family, std=size)
    if family == "disk":
        return kernels.described(kernel=family, taps=size)
    return kernels.described(kernel=family, taps=round(size), angle=angle)


def _fit(
    power: Power,
    family: Family,
    blurs: Sequence[Blur],
    noise: tuple[float, float],
    thinned: int = 1,
    steps: int = STEPS,
) -> Fit:
    """With one cell in `thinned`, for a first look."""
    transfers, looked_at = _transfers(family, tuple(blurs), power.side, thinned), power.every(thinned)
    return fit(looked_at.telling(), transfers[:, looked_at.told], noise, photographs(), steps)


@lru_cache(maxsize=8)  # the first grids are those of every picture, and most of the time; 24 MB each at most
def _transfers(family: Family, blurs: tuple[Blur, ...], side: int, thinned: int) -> Tensor:
    used = cells(side)[::thinned]
    return torch.stack([transfer(kernel(family, b), side).flatten()[used] for b in blurs])


def search(power: Power, family: Family, noise: tuple[float, float]) -> tuple[list[Blur], Fit]:
    """What was looked at, no blur first, and how likely each is."""
    if family == "motion":
        return _motion_search(power, noise)
    if family == "disk":
        return _disk_search(power, noise)
    blurs = [(std, 0.0) for std in STDS]
    return blurs, _fit(power, family, blurs, noise)


def _disk_search(power: Power, noise: tuple[float, float]) -> tuple[list[Blur], Fit]:
    """A grid, then a finer one over all that is likely; no blur comes first."""
    blurs = [(size, 0.0) for size in DIAMETERS]
    found = _fit(power, "disk", blurs, noise, 3, STEPS // 2)
    log_l = found.log_likelihood * 3 / KINDS["disk"].temper
    near = [size for size, v in zip(DIAMETERS, log_l.tolist(), strict=True) if v > float(log_l.max()) - 5]
    low, high = max(min(near) - 0.25, 1.0), max(near) + 0.25  # a disk of less than a pixel is none
    count = max(min(round((high - low) / STEP), 120), 8)
    blurs = [(0.0, 0.0), *((low + (high - low) * k / count, 0.0) for k in range(count + 1))]
    return blurs, _fit(power, "disk", blurs, noise)


def _motion_search(power: Power, noise: tuple[float, float]) -> tuple[list[Blur], Fit]:
    """A grid, finer around the best five lengths, then a regular one over all that is likely; no blur comes first."""
    still: Blur = (1.0, 0.0)
    angles = [TURN * k for k in range(round(180 / TURN))]
    blurs = [still, *((float(n), a) for n in LENGTHS for a in angles)]
    found = _fit(power, "motion", blurs, noise, 5, STEPS // 2)  # 5 divides no row: all directions stay
    by_length = found.log_likelihood[1:].view(len(LENGTHS), len(angles)).max(1)
    best = [
        (LENGTHS[k], angles[int(by_length.indices[k])]) for k in by_length.values.topk(5).indices.tolist()
    ]
    near = {
        (float(n + d), a + turn) for n, a in best for d in (-1, 0, 1) for turn in (-3.0, -1.5, 0.0, 1.5, 3.0)
    }
    blurs = [still, *sorted(near)]
    found = _fit(power, "motion", blurs, noise, 3, STEPS // 2)
    blurs = [still, *_likely(blurs, found, 3)]
    return blurs, _fit(power, "motion", blurs, noise)


def _likely(blurs: list[Blur], found: Fit, thinned: int) -> list[Blur]:
    """A regular grid over the box in which the tempered log likelihood is within 5 of the best."""
    log_l = found.log_likelihood * thinned / KINDS["motion"].temper
    top = blurs[int(log_l[1:].argmax()) + 1]
    inside = [b for b, v in zip(blurs, log_l.tolist(), strict=True) if v > float(log_l[1:].max()) - 5]
    inside = [(n, turned(a, top[1])) for n, a in inside if n > 1]
    low, high = (int(f(n for n, _ in inside)) for f in (min, max))
    first, last = (f(a for _, a in inside) for f in (min, max))
    first, last = max(first - 2, top[1] - 90), min(last + 2, top[1] + 90)
    lengths = range(max(low - 1, 2), high + 2)
    count = max(min(int((last - first) / 0.5), 120 // len(lengths)), 8)
    return [(float(n), first + (last - first) * k / count) for n in lengths for k in range(count + 1)]


def turned(angle: float, centre: float) -> float:
    """The same direction within 90 degrees of `centre`."""
    return centre + (angle - centre + 90) % 180 - 90
