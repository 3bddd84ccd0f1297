"""Size students: networks of the teacher's kind with a share of its parameters.

All widths, and the width of what the blocks are told, shrink by one factor, about the square root of the share, as
parameters go with the square of the width. Below a share of 0.1 there is one level less, the coarsest. Widths are
rounded to multiples of 16, or of less where that misses the share, and groups and heads follow. Where no widths meet
it, a level has one block.
"""

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from undiffuse.checkpoints import PriorConfig

SHALLOW = 0.1  # share below which a level is left out
NEAR = 0.1  # the parameters may miss the share by so much of it
UNITS = (16, 8, 4, 2, 1)  # widths are multiples of
# Of the factor that fits best: for all widths, and for what blocks are told.
TRIED = (1.0, 0.95, 1.05, 0.9, 1.1, 0.8, 1.2)


def student(teacher: PriorConfig, share: float) -> PriorConfig:
    """The teacher's description with a smaller network: its parameters are `share` of the teacher's, within 10 %.

    share 1 is the teacher itself, without a learned variance. ValueError for a share outside (0, 1], and for one
    that no network of this kind has.
    """
    if not 0 < share <= 1:
        raise ValueError(
            f"size {share:g}; expected a share of the teacher's parameters, more than 0, at most 1"
        )
    whole = _with(teacher, {**teacher.network, "learned_variance": False})
    if share == 1:
        return whole
    goal, shallow, sizes = share * parameters(whole), share < SHALLOW, whole.network_config()
    of_heads = getattr(sizes, "head_channels", None) or 0
    units = [unit for unit in (of_heads, of_heads // 2) if unit > UNITS[0]] + list(UNITS)
    best: tuple[float, PriorConfig] | None = None
    for blocks in sorted({int(sizes.blocks), 1}, reverse=True):
        for unit in units:
            for found in _candidates(whole, goal, unit, blocks, shallow=shallow):
                off = abs(parameters(found) / goal - 1)
                if best is None or off < best[0]:
                    best = off, found
            if best is not None and best[0] <= NEAR / 2:
                return best[1]
    if best is None or best[0] > NEAR:
        least = "" if best is None else f"; the nearest has {share * parameters(best[1]) / goal:.3g}"
        raise ValueError(f"size {share:g} of {parameters(whole):,} parameters: no such network{least}")
    return best[1]


def parameters(config: PriorConfig) -> int:
    """How many a network of this description has."""
    return _count(config.model_dump_json())


@functools.lru_cache(maxsize=4096)
def _count(description: str) -> int:
    with torch.device("meta"):
        net = PriorConfig.model_validate_json(description).build_network()
    return sum(p.numel() for p in net.parameters())


def _candidates(
    teacher: PriorConfig, goal: float, unit: int, blocks: int, *, shallow: bool
) -> Iterator[PriorConfig]:
    """One for all widths shrunk by one factor, found by bisection; then some whose widths differ a little from it."""
    low, high = 0.0, 1.0
    for _ in range(12):
        factor = (low + high) / 2
        found = _shrunk(teacher, factor, factor, unit, blocks, shallow)
        low, high = (low, factor) if parameters(found) > goal else (factor, high)
    yield found
    if abs(parameters(found) / goal - 1) <= NEAR / 2:
        return
    for widths in TRIED:
        for told in TRIED:
            yield _shrunk(teacher, factor * widths, factor * told, unit, blocks, shallow)


def _shrunk(
    teacher: PriorConfig, factor: float, told: float, unit: int, blocks: int, shallow: bool
) -> PriorConfig:
    network = dict(teacher.network)
    whole = teacher.network_config()
    widths = [_rounded(factor * width, unit) for width in whole.widths]
    if shallow and len(widths) > 1:
        widths.pop()
    network |= {"groups": math.gcd(whole.groups, *widths), "blocks": blocks}
    if network["name"] == "photo":
        network |= {"widths": widths, "embedding": min(_rounded(told * whole.embedding, 2), whole.embedding)}
        return _with(teacher, network)
    attention = [level for level in whole.attention if level < len(widths)]
    width = min(_rounded(told * whole.width, max(4, unit)), whole.width)
    network["groups"] = math.gcd(network["groups"], width)  # DDPM's first layer is as wide
    network |= {"width": width, "multipliers": _multipliers(widths, width), "attention": attention}
    attended = [widths[level] for level in {*attention, len(widths) - 1}]
    for name in ("heads", "head_channels", "heads_up"):
        if getattr(whole, name, None) is not None:
            network[name] = math.gcd(getattr(whole, name), *attended)
    return _with(teacher, network)


def _multipliers(widths: list[int], width: int) -> list[float]:
    """Those that give just these widths: a network takes int(multiplier * width)."""
    return [
        math.nextafter(goal / width, math.inf) if int(goal / width * width) < goal else goal / width
        for goal in widths
    ]


def _rounded(width: float, unit: int) -> int:
    return max(unit, unit * round(width / unit))


def _with(teacher: PriorConfig, network: Mapping[str, Any]) -> PriorConfig:
    return teacher.model_copy(update={"network": dict(network)})


@torch.no_grad()
def inherit(student: nn.Module, teacher: nn.Module) -> float:
    """Give a student the teacher's weights where it has a tensor of that name; the share that it took over.

    A smaller tensor gets the leading part of the teacher's, of every axis; one that is larger in any axis, or unknown
    to the teacher, stays as it is. Equal networks become equal.
    """
    known, taken, whole = teacher.state_dict(), 0, 0
    for name, mine in student.state_dict().items():
        whole += mine.numel()
        theirs = known.get(name)
        if theirs is None or theirs.ndim != mine.ndim:
            continue
        if any(a > b for a, b in zip(mine.shape, theirs.shape, strict=True)):
            continue
        mine.copy_(theirs[tuple(slice(size) for size in mine.shape)])
        taken += mine.numel()
    return taken / max(1, whole)
