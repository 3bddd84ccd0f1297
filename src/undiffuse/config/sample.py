"""What `undiffuse sample` is told."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.config.options import Options, Precision

Grid = Literal["karras", "timesteps", "leading", "linspace"]  # all but karras: of the prior's own schedule


class SampleConfig(Options):
    """Everything that decides what `undiffuse sample` draws."""

    prior: str  # a name, a .safetensors file or the folder of a run
    prior_options: str | None = None  # facts that a file from outside does not tell: key=value,...
    precision: Precision = "fp32"  # of the prior's convolutions and attention
    out: Path | None = None  # None: samples/ in the run's folder, else samples/NAME
    n: Annotated[int, pydantic.Field(ge=1, le=1_000_000)] = 16
    label: str | None = None  # a class, several with commas, all or none; None: all, in turn
    guidance: Annotated[float, pydantic.Field(ge=0, le=100)] = 1.0  # towards the class; 1 = conditional
    sampler: str | None = None  # None: dpmpp_2m, or the preset's
    steps: Annotated[int, pydantic.Field(ge=1, le=100_000)] | None = None  # None: 20, or the preset's
    eta: Annotated[float, pydantic.Field(ge=0, le=1)] | None = None
    grid: Grid | None = None  # None: the sampler's own, karras for most
    preset: Path | None = None  # sampler and levels that `undiffuse compare --presets` chose
    clip: bool = False  # each estimate of x0 within [-1, 1]
    size: str | None = None  # HxW; None: what the prior was trained on
    low_res: Path | None = None  # the picture that a super-resolution prior enlarges
    noise: Annotated[float, pydantic.Field(ge=0, le=10)] = 0.0  # of that picture, in [0, 1] units
    seed: int = 0
    stretch: bool = False
    npz: bool = False
    batch: Annotated[int, pydantic.Field(ge=1, le=100_000)] | Literal["auto"] = "auto"
    device: str = "auto"
