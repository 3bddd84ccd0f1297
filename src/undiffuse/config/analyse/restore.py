"""What `undiffuse analyse restore` is told."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pydantic

from undiffuse.config.analyse.common import ReportConfig


class RestoreAnalysisConfig(ReportConfig):
    """Which restoration is followed, and how closely."""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("result",)

    result: Path  # OUT/NAME of `undiffuse restore`: its record is OUT/NAME.json
    every: Annotated[int, pydantic.Field(ge=1, le=100_000)] | Literal["step"] = "step"  # steps that are shown
    bands: Annotated[int, pydantic.Field(ge=1, le=16)] = 4  # of the singular values that are not 0
    draws: Annotated[int, pydantic.Field(ge=1, le=10_000)] | None = None  # None: as many as were restored
    exact: Annotated[int, pydantic.Field(ge=0, le=1000)] = 8  # pictures drawn from a prior in closed form
    seed: int = 0  # of those
    prior: str | None = None  # where the record's is not to be found any more
