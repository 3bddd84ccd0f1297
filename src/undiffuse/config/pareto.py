"""What `undiffuse pareto` is told."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.config.said import AtOnce, Count, Device, Level, Numbers, Plugins, Said, Scale, Terms
from undiffuse.options import Options

SAMPLE = "sample"  # the task that is no degradation
Metric = Literal["fid", "kid"]
InOrder = pydantic.AfterValidator(lambda calls: tuple(sorted(set(calls))))


class ParetoConfig(Options):
    """Everything that decides what `undiffuse pareto` measures."""

    students: Annotated[Path, Said("Folder with runs and files below it, a run, or a file.", argument=True)]
    tasks: Annotated[
        tuple[str, ...],
        pydantic.Field(min_length=1),
        Terms,
        Said("sample, and degradations to restore from, with , or ; between them.", between=";"),
    ] = (SAMPLE,)
    calls: Annotated[
        tuple[Count, ...],
        pydantic.Field(min_length=1),
        Numbers,
        InOrder,
        Said("Network calls; a prior that was made for its own levels takes those alone."),
    ] = (1, 2, 4, 8, 16)
    teacher: Annotated[str | None, Said("A run, a file or a name. [whom the students' runs name]")] = None
    beside: Annotated[
        tuple[str, ...],
        Said("Another prior, such as photo; several times for more.", names=("--with",), many=True),
    ] = ()
    guidance: Annotated[
        Scale, Said("Towards the class, of priors that have none built in; counts calls twice.")
    ] = 1.0
    label: Annotated[str | None, Said("Class of samples; several: 3,5. [all in turn]")] = None
    sampler: Annotated[str, Said("Of priors that were made for no other.")] = "dpmpp_2m"
    presets: Annotated[
        Path | None, Said("samplers.yaml of `undiffuse compare`: used where it fits a prior's calls.")
    ] = None
    n: Annotated[  # KID leaves each out once
        int,
        pydantic.Field(ge=3, le=1_000_000),
        Said("Samples of each prior and number of calls.", names=("--n", "-n")),
    ] = 256
    reference: Annotated[
        Path | None, Said("What samples are compared with: a folder or an .npz. [what a run held out]")
    ] = None
    metrics: Annotated[
        Annotated[tuple[Metric, ...], pydantic.Field(min_length=1)] | None,
        Terms,
        Said("Of samples: fid, kid. [kid,fid]"),
    ] = None
    features: Annotated[  # else pca:64 or pixels:8
        str,
        Said("As of `undiffuse evaluate`; auto: inception if its weights are here."),
    ] = "auto"
    weights: Annotated[Path | None, Said("Of these features.")] = None
    data: Annotated[
        tuple[str, ...],
        Said("Pictures to restore: a folder, a file or a pattern. [what a run held out]", many=True),
    ] = ()
    count: Annotated[Count, Said("Of these pictures, of each entry.")] = 16
    size: Annotated[
        Annotated[int, pydantic.Field(ge=8, le=10_000)] | None,
        Said("Side of pictures [what the prior was trained on]."),
    ] = None
    noise: Annotated[Level, Said("Of the data, white - black = 1.")] = 0.05
    algorithm: Annotated[str, Said("Of restoration, name:key=value,...")] = "dpir"
    lpips: Annotated[str | None, Said("Weights for LPIPS: FILE or FILE,FILE, or auto.")] = None
    seed: Annotated[int, Said("Of all noise.")] = 0
    out: Annotated[Path | None, Said("Folder [out/pareto/NAME, or the next free NAME-2].")] = None
    batch: Annotated[AtOnce, Said("Samples at once, or auto.")] = "auto"
    device: Device = "auto"
    plugins: Plugins = ()  # that were loaded

    @pydantic.model_validator(mode="after")
    def _belongs_together(self) -> "ParetoConfig":
        if SAMPLE not in self.tasks and self.reference is not None:
            raise ValueError(
                f"--reference {self.reference} is of the task {SAMPLE}; add it to --tasks, or leave it out"
            )
        if not set(self.tasks) - {SAMPLE} and (self.data or self.lpips is not None):
            useless = f"--data {self.data[0]}" if self.data else f"--lpips {self.lpips}"
            raise ValueError(f"{useless} is of tasks such as sr4; add one to --tasks, or leave it out")
        return self
