"""What `undiffuse compare` and `undiffuse likelihood` are told."""

import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.options import Options, Precision

Count = Annotated[int, pydantic.Field(ge=1, le=100_000)]


class Asked(Options):
    """Which prior, for which class, on which machine."""

    prior: str  # a name, a .safetensors file or the folder of a run
    prior_options: str | None = None  # facts that a file from outside does not tell: key=value,...
    precision: Precision = "fp32"
    label: str | None = None  # a class; None: all in turn, or of the data
    size: str | None = None  # HxW; None: what the prior was trained on
    seed: int = 0
    batch: Annotated[int, pydantic.Field(ge=1, le=100_000)] | Literal["auto"] = "auto"
    device: str = "auto"


class CompareConfig(Asked):
    """Everything that decides what `undiffuse compare` measures."""

    samplers: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    out: Path | None = None  # None: compare/ in the run's folder, else compare/NAME
    n: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 8  # pictures, each from noise of its own
    fine: Annotated[int, pydantic.Field(ge=0, le=100_000)] = 200  # steps of heun; 0: without
    presets: tuple[Count, ...] = ()  # network calls that presets are chosen for; with guidance twice as many
    rounds: Annotated[int, pydantic.Field(ge=1, le=100)] = 4  # of that search, each with half the step
    fid: Path | None = None  # reference of Frechet distances: pictures, or an .npz of mu and sigma
    features: str = "inception"  # of these distances, as `undiffuse evaluate` has them
    weights: Path | None = None
    guidance: Annotated[float, pydantic.Field(ge=0, le=100)] = 1.0
    clip: bool = False

    @pydantic.model_validator(mode="after")
    def _measurable(self) -> "CompareConfig":
        if self.presets and self.fine < 2:
            raise ValueError("presets are chosen by the distance to the fine solution; give --fine 200")
        if self.fine == 1:
            raise ValueError("a fine solution of 1 step; expected 2 or more, or 0 for none")
        return self


class LikelihoodConfig(Asked):
    """Everything that decides what `undiffuse likelihood` measures."""

    data: str  # a folder of pictures, or what `source` reads
    source: str = "folder"  # a dataset of the registry with its options, such as idx:split=test
    count: Count = 100  # of the pictures, evenly over the data
    steps: Annotated[int, pydantic.Field(ge=2, le=100_000)] = 100  # of the ODE
    probes: Annotated[int, pydantic.Field(ge=1, le=1000)] = 1  # Rademacher vectors for each picture
    trace: Literal["auto", "exact", "hutchinson"] = "auto"
    dequantise: Literal["uniform", "unit", "normal"] = "uniform"
    bound: bool = False  # also the variational bound, of learned variances
    out: Path | None = None  # JSON


def split_sampler(text: str) -> tuple[str, str | None, int]:
    """`ddim:50`, `ddim@50`, `ddim:eta=1:50` or `ddim:grid=leading:50` -> the term, its grid, its steps."""
    found = re.fullmatch(r"([^:@,]+)(?:@(\d{1,6}))?(?::(.*))?", text.strip())
    if not found:
        raise ValueError(_expected(text))
    name, steps, rest = found[1].strip(), found[2], found[3] or ""
    if steps is None:
        last = re.fullmatch(r"(?:(.*):)?(\d{1,6})", rest)
        if not last:
            raise ValueError(_expected(text))
        rest, steps = last[1] or "", last[2]
    if int(steps) < 1:
        raise ValueError(_expected(text))
    items = [item for item in rest.split(",") if item]
    grids = [item.partition("=")[2].strip() for item in items if item.partition("=")[0].strip() == "grid"]
    if len(grids) > 1:
        raise ValueError(f"'{text}' has two grids; give one")
    kept = [item for item in items if item.partition("=")[0].strip() != "grid"]
    return ":".join([name, ",".join(kept)] if kept else [name]), (grids or [None])[0], int(steps)


def _expected(text: str) -> str:
    return (
        f"'{text}'; expected NAME:STEPS, NAME:OPTIONS:STEPS or NAME@STEPS, such as ddim:50 or ddim:eta=1:50"
    )


def split_calls_list(text: str | None) -> tuple[int, ...]:
    """`5,10,20` -> (5, 10, 20)."""
    parts = [] if text is None else [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise ValueError(f"--presets {text}; expected numbers of network calls, such as 5,10,20")
    return tuple(dict.fromkeys(int(part) for part in parts))
