"""A restoration algorithm made ready for one problem: on which grid, from which start."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from undiffuse.app.priors import Opened, denoiser, levels
from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import Denoise, Noise, Step
from undiffuse.registry import Entry
from undiffuse.restore import Problem, start
from undiffuse.restore.problem import Start


@dataclass(frozen=True, slots=True)
class Method:
    """An algorithm with its options, its grid (n + 1,) and its start."""

    entry: Entry
    options: Mapping[str, Any]
    sigmas: Tensor
    start: Start
    widen: float | None = None  # error bars of its draws by this, to be honest; None: it was not measured
    guided: bool = False  # each estimate is two calls, with the class and without

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        widened = f", error bars widened {self.widen:.3g} times" if self.widen and self.widen > 1 else ""
        return f"{self.entry.name}({options}), {self.calls} call{'s' if self.calls > 1 else ''}{widened}"

    @property
    def calls(self) -> int:
        """Network calls of one draw."""
        option: str | None = self.entry.facts.get("calls")  # the option that says how many a level takes
        return (len(self.sigmas) - 1) * (self.options[option] if option else 1) * (1 + self.guided)

    def on(self, sigmas: Tensor) -> "Method":
        """The same on other levels."""
        return replace(self, sigmas=sigmas)

    def step(self, denoise: Denoise, problem: Problem, noise: Noise) -> Step:
        """The step for a batch of problems, one seed each."""
        return self.entry(denoise, problem, noise, **self.options)


def plan_method(
    entry: Entry,
    options: Mapping[str, Any],
    opened: Opened,
    problem: Problem,
    steps: int,
    grid: Sequence[float] | None = None,
    *,
    guided: bool = False,
) -> Method:
    """The algorithm on `grid` (levels above 0, falling), else on its own of `steps` levels, else on the prior's.

    Built once, so that what it cannot do is refused: ValueError.
    """
    entry(denoiser(opened), problem, SeededNoise([0] * len(problem.y)), **options)
    own: Callable[[int, float], Tensor] | None = entry.facts.get("grid")
    if grid is not None:
        sigmas = explicit(grid)
    elif own is not None:
        sigmas = own(steps, problem.sigma_y)
    else:
        sigmas = levels(opened, problem.A.in_shape, steps)
    return Method(entry, options, sigmas, entry.facts.get("start", start), guided=guided)


def explicit(grid: Sequence[float]) -> Tensor:
    """Levels above 0, falling, in [-1, 1] units, as a grid: (n + 1,) float64 that ends at 0."""
    falling = all(a > b for a, b in zip(grid, grid[1:], strict=False))
    if not grid or not falling or not 0 < grid[-1] <= grid[0] < math.inf:
        told = ", ".join(f"{sigma:g}" for sigma in grid)
        raise ValueError(f"the grid [{told}]; expected noise levels that fall and stay above 0")
    return torch.tensor([*grid, 0.0], dtype=torch.float64)
