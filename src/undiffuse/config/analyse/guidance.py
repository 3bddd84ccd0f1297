"""What `undiffuse analyse guidance` is told."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.config.analyse.common import AnalyseConfig
from undiffuse.config.said import Said, Scale, Words


class GuidanceConfig(AnalyseConfig):
    """Which prior is guided, how far, and beside which other one."""

    run: Annotated[
        str, Said("Run's folder, file of weights, or name of a prior with classes.", argument=True)
    ]
    scales: Annotated[
        tuple[Scale, ...],
        pydantic.Field(min_length=1, max_length=12),
        Words,
        Said("With commas; 1, the unguided prior, is always among them."),
    ] = (1.0, 3.0, 5.0, 7.0)
    against: Annotated[str | None, Said("A student, at the same scales and noise.")] = None
    classifier: Annotated[
        Path | None, Said("Which class is seen: a noisy classifier, .onnx or TorchScript (.ts) file.")
    ] = None
    classifier_size: Annotated[
        Annotated[int, pydantic.Field(ge=1, le=4096)] | None, Said("Side it sees [that of the pictures].")
    ] = None
    classifier_range: Annotated[
        Literal["0..255", "0..1", "-1..1", "imagenet"], Said("Values that a network wants to see.")
    ] = "-1..1"
    guidance: float = 1.0  # the scales are

    @pydantic.model_validator(mode="after")
    def _scales(self) -> "GuidanceConfig":
        if len(set(self.scales)) < len(self.scales):
            raise ValueError(
                f"--scales {','.join(f'{scale:g}' for scale in self.scales)} says one of them twice"
            )
        return self
