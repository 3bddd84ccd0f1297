"""What `undiffuse analyse guidance` is told."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pydantic

from undiffuse.config.analyse.common import AnalyseConfig

Scale = Annotated[float, pydantic.Field(ge=0, le=100)]


class GuidanceConfig(AnalyseConfig):
    """Which prior is guided, how far, and beside which other one."""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("run",)

    run: str  # a name, a file of weights or the folder of a run, with classes
    scales: Annotated[tuple[Scale, ...], pydantic.Field(min_length=1, max_length=12)] = (1.0, 3.0, 5.0, 7.0)
    against: str | None = None  # a student: the same scales and noise
    classifier: Path | None = None  # of clean pictures: a noisy classifier, an ONNX or a TorchScript network
    classifier_size: Annotated[int, pydantic.Field(ge=1, le=4096)] | None = (
        None  # None: the pictures as they are
    )
    classifier_range: Literal["0..255", "0..1", "-1..1", "imagenet"] = (
        "-1..1"  # what the network wants to see
    )

    @pydantic.model_validator(mode="after")
    def _scales(self) -> "GuidanceConfig":
        if len(set(self.scales)) < len(self.scales):
            raise ValueError(
                f"--scales {','.join(f'{scale:g}' for scale in self.scales)} says one of them twice"
            )
        return self
