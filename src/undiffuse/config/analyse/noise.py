"""What `undiffuse analyse noise` is told."""

from typing import Annotated

import pydantic

from undiffuse.config.analyse.common import PRIORS, AnalyseConfig
from undiffuse.config.said import Said


class NoiseConfig(AnalyseConfig):
    """Whose errors, on which pictures, at how many levels."""

    runs: Annotated[tuple[str, ...], pydantic.Field(min_length=1), PRIORS]
    data: Annotated[
        str | None, Said("Clean pictures: a folder, or what --source reads. [what the first run held out]")
    ] = None
    source: Annotated[str | None, Said("Dataset, such as idx:split=test. [folder]")] = None
    levels: Annotated[int, pydantic.Field(ge=2, le=1000), Said("Noise levels, evenly in log sigma.")] = 12
    steps: Annotated[int, pydantic.Field(ge=2, le=10_000), Said("Of samples, where there is no data.")] = 50
    sampler: Annotated[str, Said("Of samples, where there is no data.")] = "ddim"

    @pydantic.model_validator(mode="after")
    def _belongs_together(self) -> "NoiseConfig":
        if self.source is not None and self.data is None:
            raise ValueError(f"source {self.source} says how data is read; give the data with --data")
        return self
