"""What `undiffuse analyse noise` is told."""

from typing import Annotated, ClassVar

import pydantic

from undiffuse.config.analyse.common import AnalyseConfig


class NoiseConfig(AnalyseConfig):
    """Whose errors, on which pictures, at how many levels."""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("runs",)

    runs: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]  # names, files of weights, runs' folders
    data: str | None = (
        None  # clean pictures: a folder, or what `source` reads; None: what the first run held out
    )
    source: str | None = (
        None  # a dataset of the registry with its options, such as idx:split=test; None: folder
    )
    levels: Annotated[int, pydantic.Field(ge=2, le=1000)] = 12  # of noise, evenly in log sigma

    @pydantic.model_validator(mode="after")
    def _belongs_together(self) -> "NoiseConfig":
        if self.source is not None and self.data is None:
            raise ValueError(f"source {self.source} says how data is read; give the data with --data")
        return self
