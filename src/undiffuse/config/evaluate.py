"""What `undiffuse evaluate` is told."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.config.said import Device, Said, Words
from undiffuse.options import Options

Metric = Literal["fid", "kid", "prdc", "is"]


class EvaluateConfig(Options):
    """Everything that decides what `undiffuse evaluate` measures."""

    samples: Annotated[Path, Said("Folder of pictures, or .npz with arr_0.", argument=True)]
    reference: Annotated[Path, Said("The same, or an .npz with mu and sigma.")]
    samples_source: Annotated[
        str | None, Said("How they are stored, as train's data.source: npz:range=0..1.")
    ] = None
    reference_source: Annotated[
        str | None, Said("The same of the reference: idx:split=test, cifar10, ...")
    ] = None
    metrics: Annotated[
        Annotated[tuple[Metric, ...], pydantic.Field(min_length=1)] | None,
        Words,
        Said("Of fid, kid, prdc, is, with commas. [fid,kid,prdc]"),  # as far as the reference allows
    ] = None
    features: Annotated[
        str, Said("inception, dinov2, pixels:SIDE, pca:COMPONENTS, or a .onnx or TorchScript file.")
    ] = "inception"
    weights: Annotated[Path | None, Said("Of inception or dinov2. [where they usually lie]")] = None
    resize: Annotated[  # clean: with a filter (Parmar et al. 2022)
        Literal["tf1", "clean"], Said("For inception: tf1, as published, or clean.")
    ] = "tf1"
    size: Annotated[
        Annotated[int, pydantic.Field(ge=1, le=2048)] | None, Said("Side that a network of a file sees.")
    ] = None
    range: Annotated[
        Literal["-1..1", "0..1", "0..255", "imagenet"] | None,
        Said("Values that it sees."),
    ] = None
    only: Annotated[str | None, Said("Samples with names such as '*_restored.png'.")] = None
    neighbours: Annotated[
        int, pydantic.Field(ge=1, le=1000), Said("Of precision, recall, density and coverage.")
    ] = 5
    pairs: Annotated[
        int,
        pydantic.Field(ge=10, le=100_000),
        Said("Pictures of each, at most, for kid and prdc."),  # which compare them one by one
    ] = 10_000
    out: Annotated[Path | None, Said("Folder of the result [evaluate/NAME].")] = None
    batch: Annotated[int, pydantic.Field(ge=1, le=10_000), Said("Pictures at once.")] = 32
    device: Device = "auto"

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
