"""Trajectories recorded as a loop passes by, in bounded memory."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from undiffuse.analysis.geometry import Geometry, Walk, joined
from undiffuse.core.dct import dct2
from undiffuse.core.state import State

LEVELS = 65  # noise levels of which points are kept
BUDGET = 2**27  # bytes of the points of one prior
LEAST = 256  # numbers of a sketch: fewer are no picture of the distances


@dataclass(frozen=True, slots=True)
class Sketch:
    """A fixed linear map of pictures to k numbers that keeps root mean squares: all of them for k = C H W.

    Random signs, an orthonormal cosine transform, k of its coefficients at random (Ailon and Chazelle 2009): a part of
    a rotation, so that the mean square of k numbers is that of all on average, with the relative deviation `error`.
    """

    shape: tuple[int, ...]  # (C, H, W)
    k: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.k <= math.prod(self.shape):
            raise ValueError(
                f"a sketch of {self.k} numbers of {self.shape}; expected 1 to {math.prod(self.shape)}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, k), in x's type; the pictures themselves, flattened, for k = C H W."""
        if self.exact:
            return x.flatten(1)
        generator = torch.Generator().manual_seed(self.seed)
        signs = 2.0 * torch.randint(2, self.shape, generator=generator) - 1
        chosen = torch.randperm(math.prod(self.shape), generator=generator)[: self.k].sort().values
        return dct2(signs.to(x) * x).flatten(1)[:, chosen.to(x.device)]

    @property
    def exact(self) -> bool:
        """Whether nothing is lost."""
        return self.k == math.prod(self.shape)

    @property
    def error(self) -> float:
        """Relative standard deviation of a root mean square: sqrt((1 - k / D) / (2 k)), for normal numbers."""
        return ((1 - self.k / math.prod(self.shape)) / (2 * self.k)) ** 0.5


def fitting(shape: Sequence[int], n: int, steps: int, budget: int = BUDGET) -> tuple[Sketch, list[int]]:
    """A sketch, and the numbers of the states that are kept, of n trajectories within `budget` bytes.

    The first and the last state are always kept. ValueError for so many pictures that no useful sketch fits.
    """
    count = min(steps + 1, LEVELS)
    kept = sorted({round(i * steps / (count - 1)) for i in range(count)})
    whole = math.prod(shape)
    k = min(whole, budget // (2 * 4 * n * len(kept)))
    if k < min(LEAST, whole):
        most = budget // (2 * 4 * len(kept) * min(LEAST, whole))
        raise ValueError(
            f"{n} trajectories take more memory than they may; expected at most {most}, say --n {most}"
        )
    return Sketch(tuple(shape), k), kept


@dataclass(frozen=True, slots=True)
class Trajectories:
    """n trajectories of one prior at T noise levels, from the highest to 0."""

    label: str
    levels: Tensor  # (S,) float64, all that were visited, in [-1, 1] units
    sigmas: Tensor  # (T,) float64, those of them at which points were kept
    states: Tensor  # (T, n, k) float32, sketches of x
    estimates: Tensor  # (T, n, k) float32, of x0 as estimated at that level; at 0 of the picture itself
    path: Geometry  # of x through all levels, exact
    guess: Geometry  # of the estimate through the S - 1 levels above 0, exact

    @property
    def n(self) -> int:
        """How many."""
        return self.states.shape[1]

    def scaled(self) -> Tensor:
        """(T, n, k): x / sqrt(1 + sigma^2), from noise of deviation 1 to the picture."""
        return self.states / (1 + self.sigmas**2).sqrt().float()[:, None, None]


@dataclass
class Recorder:
    """Takes down a batch of trajectories: iterate over `recorder(states)` in place of `states`.

    What it keeps: sketches of states and estimates at the levels `kept`, lengths and angles at all. A state brings
    the estimate at the level before it, so that a level's estimate is known one state later.
    """

    sketch: Sketch
    kept: Sequence[int]
    _states: list[Tensor] = field(default_factory=list[Tensor], init=False)
    _estimates: list[Tensor] = field(default_factory=list[Tensor], init=False)
    _levels: list[float] = field(default_factory=list[float], init=False)
    _path: Walk = field(default_factory=Walk, init=False)
    _guess: Walk = field(default_factory=Walk, init=False)

    def __call__(self, states: Iterator[State]) -> Iterator[State]:
        """The same states, untouched."""
        wanted = set(self.kept)
        last: State | None = None
        for number, state in enumerate(states):
            self._path(state.x)
            self._levels.append(state.sigma.flatten()[0].item())
            if state.x0 is not None:
                self._guess(state.x0)
                if number - 1 in wanted:
                    self._estimates.append(self._sketched(state.x0))
            if number in wanted:
                self._states.append(self._sketched(state.x))
            last = state
            yield state
        if last is not None and len(self._estimates) < len(self._states):
            self._estimates.append(self._states[-1])  # at the last level the picture is there

    def _sketched(self, x: Tensor) -> Tensor:
        return self.sketch(x.detach()).float().cpu().clone()

    def trajectories(self, label: str) -> Trajectories:
        """What was recorded, once the last state has passed. ValueError for what is not finite."""
        assert len(self._states) == len(self._estimates), "asked before the last state had passed"
        levels = torch.tensor(self._levels, dtype=torch.float64)
        found = Trajectories(
            label,
            levels,
            levels[sorted(set(self.kept))],
            torch.stack(self._states),
            torch.stack(self._estimates),
            self._path.geometry(),
            self._guess.geometry(),
        )
        if not (found.states.isfinite().all() and found.estimates.isfinite().all()):
            raise ValueError(f"{label}: a trajectory is not finite; use more steps, or another sampler")
        return found


def together(parts: Sequence[Trajectories]) -> Trajectories:
    """The trajectories of several batches of one prior, in order."""
    first = parts[0]
    return Trajectories(
        first.label,
        first.levels,
        first.sigmas,
        torch.cat([part.states for part in parts], 1),
        torch.cat([part.estimates for part in parts], 1),
        joined(part.path for part in parts),
        joined(part.guess for part in parts),
    )
