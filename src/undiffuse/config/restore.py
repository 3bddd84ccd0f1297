"""What `undiffuse restore` is told."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.options import Options, Precision

Kind = Literal[
    "restored", "degraded", "original", "deviation", "q05", "q50", "q95", "draws", "y", "sheet", "record"
]  # of files


class RestoreConfig(Options):
    """Everything that decides what `undiffuse restore` does to a picture, or to each picture of a folder."""

    image: Path  # or a folder
    degrade: str
    out: Path = Path("out")
    measured: bool = False  # the picture is the measurement itself, not a clean image to degrade
    noise: Annotated[float, pydantic.Field(ge=0, le=10)] | Literal["auto"] | None = None  # [0, 1] units
    blind: bool = False  # the blur's options are estimated
    reference: Path | None = None
    size: str | None = None  # HxW or CxHxW of the restored picture
    prior: str = (
        "auto"  # photo, or photo-gaussian if there are not 3 channels; a name, a file or a run's folder
    )
    prior_options: str | None = None  # facts that a file from outside does not tell: key=value,...
    precision: Precision = "fp32"  # of the prior's convolutions and attention
    label: str | None = None  # a class of the prior, by name or number
    guidance: Annotated[float, pydantic.Field(ge=0, le=100)] = 1.0  # towards the class; 1 = conditional
    classifier: str | None = None  # a file, or a published name, that guides towards the class
    classifier_scale: Annotated[float, pydantic.Field(ge=0, le=1000)] = 1.0  # 1: Bayes' rule
    algorithm: str = "auto"
    steps: Annotated[int, pydantic.Field(ge=1, le=100_000)] | None = None
    eta: Annotated[float, pydantic.Field(ge=0, le=1)] | None = None
    eta_b: Annotated[float, pydantic.Field(ge=0, le=1)] | None = None
    goal: Literal["psnr", "perceptual", "posterior"] = "psnr"  # what auto is to choose for
    preset: Path | None = None  # a file of presets, in place of the package's own
    draws: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 1
    seed: int = 0
    window: Annotated[int, pydantic.Field(ge=2)] | None = None  # side of the prior's windows
    lpips: str | None = None  # files of its weights
    save: tuple[Kind, ...] | None = None  # kinds of files; None: all but draws, of folders the answers only
    batch: Annotated[int, pydantic.Field(ge=1, le=100_000)] | Literal["auto"] = "auto"  # draws at once
    fleet: str | None = None  # "local", or the address of a Ray cluster
    workers: Annotated[int, pydantic.Field(ge=1, le=100_000)] | None = None
    plugins: tuple[Path, ...] = ()  # that are loaded; workers load them, too
    device: str = "auto"
