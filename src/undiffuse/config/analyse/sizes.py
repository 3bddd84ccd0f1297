"""What `undiffuse analyse sizes` is told."""

import re
from typing import Annotated

import pydantic

from undiffuse.config.analyse.common import PRIORS, AnalyseConfig
from undiffuse.config.said import Said, Words, read

Share = Annotated[float, pydantic.Field(gt=0, le=100)]


def two_sizes(text: str) -> tuple[str, str]:
    """`0.1-0.5` -> its ends."""
    number = r"\s*([0-9.]+(?:e-?[0-9]+)?)\s*"
    match = re.fullmatch(f"{number}-{number}", text)
    if match is None:
        raise ValueError("expected two sizes with a dash, such as 0.1-0.5")
    return match[1], match[2]


class SizesConfig(AnalyseConfig):
    """Students of several sizes, whom they are compared with, and which sizes are looked at closely."""

    students: Annotated[tuple[str, ...], pydantic.Field(min_length=1, max_length=64), PRIORS]
    teacher: Annotated[str | None, Said("[whom the students' folders name, else the largest]")] = None
    focus: Annotated[
        tuple[Share, Share] | None,
        read(two_sizes),
        Said("Sizes over the teacher's to look at closely: 0.1-0.5.", between="-"),
    ] = None
    choose: Annotated[
        tuple[Share, ...], Words, Said("Sizes to compare: 0.1,0.3. [three over the focus]")
    ] = ()
    data: Annotated[
        str | None,
        Said("Clean pictures: a folder, or what --source reads. [what the teacher's run held out]"),
    ] = None
    source: Annotated[str | None, Said("Dataset, such as idx:split=test. [folder]")] = None
    features: Annotated[
        str,
        Said("Of samples and data: pixels:8, inception, dinov2, or a file."),
    ] = "pixels:8"
    repeats: Annotated[int, pydantic.Field(ge=1, le=1000), Said("Calls that are timed.")] = 5
    n: Annotated[  # their halves are compared
        int, pydantic.Field(ge=4, le=100_000), Said("Pictures of each prior.", names=("--n", "-n"))
    ] = 64

    @pydantic.model_validator(mode="after")
    def _belongs_together(self) -> "SizesConfig":
        if self.focus is not None and not self.focus[0] < self.focus[1]:
            raise ValueError(f"--focus {self.focus[0]:g}-{self.focus[1]:g}; expected the smaller size first")
        if self.source is not None and self.data is None:
            raise ValueError(f"source {self.source} says how data is read; give the data with --data")
        if self.features.startswith("pca"):
            raise ValueError(
                f"--features {self.features} is of thousands of pictures; use pixels:8, or a network"
            )
        return self
