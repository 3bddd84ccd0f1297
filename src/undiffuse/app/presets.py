"""Presets: for a prior, a kind of task, a range of noise and a goal, the algorithm that a benchmark chose.

Data, not code: src/undiffuse/assets/presets.yaml, and files of the user's own, which `undiffuse tune` writes. Each
says which run chose it and what that run measured.
"""

import functools
import math
from collections.abc import Iterable
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Literal, get_args

import pydantic

from undiffuse.app.kinds import Kind, kind_of
from undiffuse.app.methods import Method, explicit, plan_method
from undiffuse.app.priors import Opened
from undiffuse.config import Options, explain, from_term, parse_term
from undiffuse.config.train import read_yaml, write_yaml
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem

Goal = Literal["psnr", "perceptual", "posterior"]
GOALS: tuple[Goal, ...] = get_args(Goal)
BUILTIN = ("presets.yaml", "presets_fast.yaml", "presets_small.yaml")
SHORTEST = 12  # digits of a sha256 that name a prior

Level = Annotated[float, pydantic.Field(ge=0, le=10)]


class ChosenBy(Options):
    """The run that chose a preset."""

    command: str
    date: str
    data: str
    pictures: Annotated[int, pydantic.Field(ge=1)]
    figures: dict[str, float | str]  # what it measured, by name


class Preset(Options):
    """What to restore with. Noise in [0, 1] units; grid: levels above 0 in [-1, 1] units, None: the algorithm's own."""

    prior: str  # the name it is asked for by, or the first digits of its file's sha256
    task: Kind
    noise: tuple[Level, Level]  # from the first, below the second
    goal: Goal
    algorithm: str  # with its options
    steps: Annotated[int, pydantic.Field(ge=1, le=100_000)]  # noise levels
    grid: tuple[float, ...] | None = None
    draws: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 1
    widen: Annotated[float, pydantic.Field(ge=1, le=100)] | None = None  # error bars of draws, to be honest
    instead_of: str | None = None  # a prior that it is as good as, in fewer calls: `auto` takes it
    instead_from: Annotated[float, pydantic.Field(ge=0)] = 0.0  # where this share of the numbers is measured
    chosen_by: ChosenBy

    @pydantic.model_validator(mode="after")
    def _complete(self) -> "Preset":
        if not self.noise[0] < self.noise[1]:
            raise ValueError(f"noise {list(self.noise)}; expected [low, high] with low < high")
        if self.grid is not None:
            explicit(self.grid)
            if len(self.grid) != self.steps:
                raise ValueError(f"a grid of {len(self.grid)} levels and steps {self.steps}; make them equal")
        name, first, given = parse_term(self.algorithm)
        from_term(RESTORERS[name], first, given)
        return self

    def suits(self, opened: Opened, problem: Problem) -> bool:
        """Whether it was chosen for this prior, kind of task and noise."""
        sha256 = opened.sha256 or ""
        named = self.prior == opened.name or (len(self.prior) >= SHORTEST and sha256.startswith(self.prior))
        within = self.noise[0] <= problem.sigma_y / 2 < self.noise[1]
        return named and within and self.task == kind_of(problem.A) and self._able(opened, problem)

    def stands_in(self, prior: str, problem: Problem) -> bool:
        """Whether the prior `auto` may take it where it would take that one."""
        share = problem.A.measurements / math.prod(problem.A.in_shape)
        return self.instead_of == prior and share >= self.instead_from

    def _able(self, opened: Opened, problem: Problem) -> bool:
        """Whether the algorithm takes this operator: some need an SVD, which not all of a kind have."""
        try:
            self.method(opened, problem)
        except ValueError:
            return False
        return True

    def method(self, opened: Opened, problem: Problem) -> Method:
        """The algorithm on its grid, ready to step."""
        name, first, given = parse_term(self.algorithm)
        entry = RESTORERS[name]
        method = plan_method(entry, from_term(entry, first, given), opened, problem, self.steps, self.grid)
        return replace(method, widen=self.widen)


class _File(Options):
    presets: tuple[Preset, ...]


def preset_for(
    opened: Opened, problem: Problem, goal: Goal, presets: Iterable[Preset] | None = None
) -> Preset | None:
    """The first of `presets` (the package's own, if not given) that suits; None if none was chosen for this."""
    for preset in builtin() if presets is None else presets:
        if preset.goal == goal and preset.suits(opened, problem):
            return preset
    return None


@functools.cache
def builtin() -> tuple[Preset, ...]:
    """Those that come with the package."""
    found: list[Preset] = []
    for name in BUILTIN:
        with as_file(files("undiffuse.assets") / name) as path:
            found += read_presets(path)
    return tuple(found)


def read_presets(path: Path) -> tuple[Preset, ...]:
    """A file of presets. ValueError in one line for whatever is wrong."""
    if not path.is_file():
        raise ValueError(f"no file of presets '{path}'; `undiffuse tune` writes one")
    try:
        return _File.model_validate(read_yaml(path, "presets:, as `undiffuse tune` writes")).presets
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, f"'{path}'", _File)) from None


def presets_text(presets: Iterable[Preset]) -> str:
    """A file of presets."""
    return write_yaml({"presets": [preset.model_dump(mode="json") for preset in presets]})
