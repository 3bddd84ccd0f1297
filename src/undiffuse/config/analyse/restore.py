"""What `undiffuse analyse restore` is told."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.config.analyse.common import ReportConfig
from undiffuse.config.said import Count, Said


class RestoreAnalysisConfig(ReportConfig):
    """Which restoration is followed, and how closely."""

    result: Annotated[
        Path, Said("OUT/NAME of a restored picture: its record is OUT/NAME.json.", argument=True)
    ]
    every: Annotated[
        Count | Literal["step"], Said("Steps that are shown: step for all, or 5 for every fifth.")
    ] = "step"
    bands: Annotated[
        int, pydantic.Field(ge=1, le=16), Said("Bands of singular values, beside the null space.")
    ] = 4
    draws: Annotated[
        Annotated[int, pydantic.Field(ge=1, le=10_000)] | None, Said("Draws [as many as were restored].")
    ] = None
    exact: Annotated[
        int,
        pydantic.Field(ge=0, le=1000),
        Said("Pictures from a prior in closed form, to calibrate the algorithm on; 0: none."),
    ] = 8
    seed: Annotated[int, Said("Of these pictures.")] = 0
    prior: Annotated[str | None, Said("The prior's place, where it is not the record's any more.")] = None
