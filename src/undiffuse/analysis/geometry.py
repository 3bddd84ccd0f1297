"""The shape of trajectories: length, straightness, turning, distance of one from another.

Distances are root mean squares over a picture's numbers, |v| / sqrt(C H W), so that they are in the units of x and
do not grow with the picture. All of it is in the coordinate x = x0 + sigma n.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.core.devices import wide


@dataclass(frozen=True, slots=True)
class Geometry:
    """Of n trajectories through T points each, in float64.

    A trajectory that never moves has length 0, straightness 1 and no turning. T = 1 has neither steps nor turns.
    """

    steps: Tensor  # (T - 1, n), length of each step
    turns: Tensor  # (T - 2, n), angle between a step and the next in radians, 0 to pi; NaN beside a step of length 0
    chord: Tensor  # (n,), from the first point to the last as the crow flies

    @property
    def length(self) -> Tensor:
        """(n,): along the path."""
        return self.steps.sum(0)

    @property
    def straightness(self) -> Tensor:
        """(n,): chord over length, 1 for a straight line that never turns back, 0 for a path that comes home."""
        length = self.length
        return torch.where(length > 0, self.chord / length.clamp(min=torch.finfo(length.dtype).tiny), 1.0)

    @property
    def turning(self) -> Tensor:
        """(n,): the sum of all angles in radians, 0 for a straight line, 2 pi for any convex closed curve."""
        return self.turns.nansum(0)

    @property
    def curvature(self) -> Tensor:
        """(T - 2, n): angle over the mean length of two steps: 1 / r on a circle of radius r by the same measure.

        In radians for each unit of length; NaN beside a step of length 0.
        """
        return self.turns / (0.5 * (self.steps[:-1] + self.steps[1:]))


class Walk:
    """Geometry of a path that comes point by point: it holds the first point, the last one and the last step.

    Call it with (n, ...), the n trajectories' next points.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._last: Tensor | None = None
        self._step: Tensor | None = None
        self._steps: list[Tensor] = []
        self._turns: list[Tensor] = []

    def __call__(self, x: Tensor) -> None:
        x = wide(x.detach()).flatten(1)
        if self._last is None:
            self._first = self._last = x
            return
        step = x - self._last
        self._steps.append(rms(step).cpu())
        if self._step is not None:
            self._turns.append(angle(self._step, step).cpu())
        self._last, self._step = x, step

    def geometry(self) -> Geometry:
        """So far; a single point is a path that never moves. ValueError for no point."""
        if self._first is None or self._last is None:
            raise ValueError("a path without points has no geometry; expected one point or more")
        none = torch.zeros(0, len(self._first), dtype=torch.float64)
        steps, turns = (torch.stack(found) if found else none for found in (self._steps, self._turns))
        return Geometry(steps, turns, rms(self._last - self._first).cpu())


def geometry(points: Iterable[Tensor]) -> Geometry:
    """Of points (T, n, ...), or of an iterator over T of (n, ...)."""
    walk = Walk()
    for x in points:
        walk(x)
    return walk.geometry()


def joined(parts: Iterable[Geometry]) -> Geometry:
    """Of all trajectories of several batches, in order."""
    parts = list(parts)
    return Geometry(
        torch.cat([part.steps for part in parts], 1),
        torch.cat([part.turns for part in parts], 1),
        torch.cat([part.chord for part in parts]),
    )


def rms(v: Tensor) -> Tensor:
    """(..., k) -> (...): root mean square over the last axis."""
    return v.square().mean(-1).sqrt()


def angle(u: Tensor, v: Tensor) -> Tensor:
    """(..., k), (..., k) -> (...): radians, 0 to pi; NaN where one of them is 0.

    2 atan2(|a - b|, |a + b|) of the unit vectors (Kahan 2006, sec. 12): exact for small angles, where acos is not.
    """
    a, b = (w / w.square().sum(-1, keepdim=True).sqrt() for w in (u, v))
    return 2 * torch.atan2((a - b).square().sum(-1).sqrt(), (a + b).square().sum(-1).sqrt())


def distance(a: Tensor, b: Tensor) -> Tensor:
    """(T, n, k), (T, n, k) -> (T, n): between the points of two sets of trajectories, level by level.

    Both must have been recorded at the same noise levels from the same noise. 0 for the same trajectories.
    """
    if a.shape != b.shape:
        raise ValueError(
            f"trajectories of shape {tuple(a.shape)} and {tuple(b.shape)}; expected the same levels and pictures"
        )
    return torch.stack([rms(wide(x) - wide(y)) for x, y in zip(a, b, strict=True)])
