"""What all parts of `undiffuse analyse` are told."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pydantic

from undiffuse.options import Options, Precision


class ReportConfig(Options):
    """Where the report goes, and on what machine it is made."""

    POSITIONAL: ClassVar[tuple[str, ...]] = ()  # fields that are arguments of the command, in order

    out: Path | None = None  # None: out/analyse/NAME, or the first free number after it
    batch: Annotated[int, pydantic.Field(ge=1, le=100_000)] | Literal["auto"] = "auto"
    device: str = "auto"
    plugins: tuple[Path, ...] = ()  # that were loaded


class AnalyseConfig(ReportConfig):
    """Pictures, noise and levels; the parts add which priors, and what is asked of them."""

    n: Annotated[int, pydantic.Field(ge=2, le=100_000)] = (
        64  # pictures of each prior, each from noise of its own
    )
    seed: int = 0  # picture i begins in the noise that it has in `undiffuse sample`
    steps: Annotated[int, pydantic.Field(ge=2, le=10_000)] = 50  # noise levels, the same for all priors
    sampler: str = "ddim"  # NAME or NAME:key=value; one call a level, and no fresh noise
    label: str | None = None  # a class, several with commas, or none; None: all in turn
    guidance: Annotated[float, pydantic.Field(ge=0, le=100)] = 1.0  # towards the class, of all priors
    size: str | None = None  # HxW; None: what the first prior was trained on
    prior_options: str | None = None  # facts that files from outside do not tell
    precision: Precision = "fp32"
