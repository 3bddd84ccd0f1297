"""What `undiffuse analyse all` is told."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pydantic

from undiffuse.config.analyse.common import AnalyseConfig
from undiffuse.config.analyse.trajectories import Way

Part = Literal["trajectories", "guidance", "sizes", "noise", "attention", "restore", "determinism"]


class AllConfig(AnalyseConfig):
    """A prior, its students, and which parts are left out."""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("run", "students")

    run: str  # the prior that others are compared with
    students: tuple[str, ...] = ()
    skip: tuple[Part, ...] = ()
    embed: Annotated[tuple[Way, ...], pydantic.Field(min_length=1)] = ("pca",)  # of trajectories
    scales: Annotated[tuple[float, ...], pydantic.Field(min_length=1)] = (1.0, 3.0, 5.0, 7.0)  # of guidance
    classifier: Path | None = None  # that judges guided pictures
    restored: Path | None = None  # OUT/NAME of undiffuse restore: its restoration is followed
    data: str | None = None  # clean pictures, for noise and sizes
    source: str | None = None  # how they are read
