"""What `undiffuse analyse sizes` is told."""

import re
from typing import Annotated, Any, ClassVar

import pydantic

from undiffuse.config.analyse.common import AnalyseConfig

Share = Annotated[float, pydantic.Field(gt=0, le=100)]


class SizesConfig(AnalyseConfig):
    """Students of several sizes, whom they are compared with, and which sizes are looked at closely."""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("students",)

    students: Annotated[tuple[str, ...], pydantic.Field(min_length=1, max_length=64)]
    n: Annotated[int, pydantic.Field(ge=4, le=100_000)] = 64  # pictures of each; their halves are compared
    teacher: str | None = None  # None: whom the students' folders name, else the largest of them
    focus: tuple[Share, Share] | None = None  # sizes over the teacher's, from and to
    choose: tuple[Share, ...] = ()  # sizes that are compared; (): three, spread over the focus
    data: str | None = None  # pictures that samples are compared with; None: what the teacher's run held out
    source: str | None = None  # how they are read
    features: str = "pixels:8"  # of that comparison, as `undiffuse evaluate` has them
    repeats: Annotated[int, pydantic.Field(ge=1, le=1000)] = 5  # calls that are timed

    @pydantic.field_validator("focus", mode="before")
    @classmethod
    def _range(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"\s*([0-9.]+)\s*-\s*([0-9.]+)\s*", value)
        if match is None:
            raise ValueError("expected two sizes with a dash, such as 0.1-0.5")
        return match[1], match[2]

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
