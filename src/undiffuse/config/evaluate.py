"""What `undiffuse evaluate` is told."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.options import Options

Metric = Literal["fid", "kid", "prdc", "is"]


class EvaluateConfig(Options):
    """Everything that decides what `undiffuse evaluate` measures."""

    samples: Path  # a folder of pictures, or an .npz with arr_0
    reference: Path  # the same, or an .npz with mu and sigma
    samples_source: str | None = (
        None  # of arrays and data sets: how they are stored, as in data.source of train
    )
    reference_source: str | None = None
    metrics: tuple[Metric, ...] | None = None  # None: fid, kid and prdc, as far as the reference allows
    features: str = (
        "inception"  # inception, dinov2, pixels:SIDE, pca:COMPONENTS, or a .onnx or TorchScript file
    )
    weights: Path | None = None  # of inception or dinov2; None: where they usually lie
    resize: Literal["tf1", "clean"] = (
        "tf1"  # of inception: as published, or with a filter (Parmar et al. 2022)
    )
    size: Annotated[int, pydantic.Field(ge=1, le=2048)] | None = None  # side that a network of a file sees
    range: Literal["-1..1", "0..1", "0..255", "imagenet"] | None = None  # and the values that it sees
    only: str | None = None  # pattern of names, of a folder of samples
    neighbours: Annotated[int, pydantic.Field(ge=1, le=1000)] = (
        5  # of precision, recall, density and coverage
    )
    pairs: Annotated[int, pydantic.Field(ge=10, le=100_000)] = 10_000  # pictures of each compared one by one
    out: Path | None = None  # None: evaluate/NAME
    batch: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 32
    device: str = "auto"

    @pydantic.model_validator(mode="after")
    def _belongs_together(self) -> "EvaluateConfig":
        named = self.features.partition(":")[0]
        if self.samples_source is not None and self.only is not None:
            raise ValueError(f"--only {self.only} is of a folder of pictures; leave --samples-source out")
        if self.weights is not None and named not in ("inception", "dinov2"):
            raise ValueError(
                f"weights are of inception or dinov2, not of {self.features}; leave --weights out"
            )
        if self.resize != "tf1" and named != "inception":
            raise ValueError(f"--resize {self.resize} is of inception, not of {self.features}; leave it out")
        built_in = named in ("inception", "dinov2", "pixels", "pca")
        if built_in and (self.size is not None or self.range is not None):
            raise ValueError(
                f"--size and --range are of a network's file, not of {self.features}; leave them out"
            )
        if self.metrics is not None and "is" in self.metrics and named != "inception":
            raise ValueError(
                f"'is' needs the classes of inception, not {self.features}; leave one of them out"
            )
        return self
