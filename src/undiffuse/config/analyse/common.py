"""What all parts of `undiffuse analyse` are told."""

from pathlib import Path
from typing import Annotated

import pydantic

from undiffuse.config.said import Batch, Device, OfNetwork, Plugins, PriorOptions, Said, Scale
from undiffuse.options import Options

PRIORS = Said("Runs' folders, files of weights, or names of priors.", argument=True)
Seed = Annotated[int, Said("Of the noise, as in `undiffuse sample`.")]
Size = Annotated[str | None, Said("HxW [what the first prior was trained on].")]


class ReportConfig(Options):
    """Where the report goes, and on what machine it is made."""

    out: Annotated[Path | None, Said("Folder [out/analyse/NAME, or the next free NAME-2].")] = None
    batch: Batch = "auto"
    device: Device = "auto"
    plugins: Plugins = ()  # that were loaded


class AnalyseConfig(ReportConfig):
    """Pictures, noise and levels; the parts add which priors, and what is asked of them."""

    n: Annotated[
        int, pydantic.Field(ge=2, le=100_000), Said("Pictures of each prior.", names=("--n", "-n"))
    ] = 64
    label: Annotated[
        str | None, Said("Class by name or number; several: 3,5; none: no class. [all in turn]")
    ] = None
    guidance: Annotated[Scale, Said("Towards the class; 1 = the conditional prior.")] = 1.0  # of all priors
    size: Size = None
    seed: Seed = 0
    steps: Annotated[
        int,
        pydantic.Field(ge=2, le=10_000),
        Said("Noise levels, the same for all priors."),
    ] = 50
    sampler: Annotated[str, Said("Sampler, name:key=value,...; see `undiffuse samplers`.")] = "ddim"
    prior_options: PriorOptions = None
    precision: OfNetwork = "fp32"
