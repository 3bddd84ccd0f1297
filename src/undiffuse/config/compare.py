"""What `undiffuse compare` and `undiffuse likelihood` are told."""

import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.config.said import (
    PRIOR,
    Batch,
    Count,
    Device,
    Numbers,
    OfNetwork,
    PriorOptions,
    Said,
    Scale,
    Terms,
)
from undiffuse.options import Options


class Asked(Options):
    """Which prior, for which class, on which machine."""

    prior: Annotated[str, PRIOR]
    label: Annotated[str | None, Said("Class by name or number; several: 3,5. [all]")] = None
    size: Annotated[str | None, Said("HxW [what the prior was trained on].")] = None
    seed: Annotated[int, Said("Of the noise, as in `undiffuse sample`.")] = 0
    batch: Batch = "auto"
    device: Device = "auto"
    prior_options: PriorOptions = None
    precision: OfNetwork = "fp32"


class CompareConfig(Asked):
    """Everything that decides what `undiffuse compare` measures."""

    samplers: Annotated[
        tuple[str, ...],
        pydantic.Field(min_length=1),
        Terms,
        Said("NAME:STEPS or NAME:OPTIONS:STEPS with commas; grid= is an option of all."),
    ] = ("ddim:50", "dpmpp:20", "heun:10")
    n: Annotated[
        int,
        pydantic.Field(ge=1, le=10_000),
        Said("Pictures, each from noise of its own.", names=("--n", "-n")),
    ] = 8
    fine: Annotated[
        int, pydantic.Field(ge=0, le=100_000), Said("Heun steps of the fine solution; 0: without.")
    ] = 200
    presets: Annotated[
        tuple[Count, ...],
        Numbers,
        Said("Choose solver and levels for so many calls, twice that with guidance: 5,10,20."),
    ] = ()
    rounds: Annotated[int, pydantic.Field(ge=1, le=100), Said("Of that search, each with half the step.")] = 4
    fid: Annotated[Path | None, Said("Reference of Frechet distances: a folder or an .npz.")] = None
    features: Annotated[str, Said("For these, as `undiffuse evaluate` has them.")] = "inception"
    weights: Annotated[Path | None, Said("Of these features.")] = None
    guidance: Annotated[Scale, Said("Towards the class; 1 = the conditional prior.")] = 1.0
    clip: Annotated[bool, Said("Hold every estimate within black and white.")] = False
    out: Annotated[Path | None, Said("Folder [RUN/compare or compare/NAME].")] = None

    @pydantic.model_validator(mode="after")
    def _measurable(self) -> "CompareConfig":
        if self.presets and self.fine < 2:
            raise ValueError("presets are chosen by the distance to the fine solution; give --fine 200")
        if self.fine == 1:
            raise ValueError("a fine solution of 1 step; expected 2 or more, or 0 for none")
        if self.fid is None and (self.weights is not None or self.features != "inception"):
            raise ValueError("--features and --weights are of --fid REFERENCE; give it, or leave them out")
        if self.fid is not None and self.n < 2:
            raise ValueError(f"{self.n} picture with --fid, which takes 2 or more; give --n 2000")
        return self


class LikelihoodConfig(Asked):
    """Everything that decides what `undiffuse likelihood` measures."""

    data: Annotated[str, Said("Folder of pictures, or what --source reads.")]
    source: Annotated[str, Said("Dataset with its options, such as idx:split=test.")] = "folder"
    count: Annotated[Count, Said("Pictures, evenly over the data.")] = 100
    steps: Annotated[int, pydantic.Field(ge=2, le=100_000), Said("Of the flow's path.")] = 100
    probes: Annotated[
        int, pydantic.Field(ge=1, le=1000), Said("Random directions for each picture's trace.")
    ] = 1
    trace: Annotated[Literal["auto", "exact", "hutchinson"], Said("auto: exact for tiny pictures.")] = "auto"
    dequantise: Annotated[
        Literal["uniform", "unit", "normal"], Said("unit: for priors trained with dequantise: true.")
    ] = "uniform"
    bound: Annotated[bool, Said("Also the variational bound, of learned variances.")] = False
    out: Annotated[Path | None, Said("JSON with every picture's number.")] = None
    label: Annotated[str | None, Said("Class of all pictures. [the data's]")] = None
    seed: Annotated[int, Said("Of probes and dequantisation.")] = 0

    @pydantic.model_validator(mode="after")
    def _belongs_together(self) -> "LikelihoodConfig":
        if self.trace == "exact" and self.probes != 1:
            raise ValueError(
                f"--probes {self.probes} with --trace exact, which takes none; leave one of them out"
            )
        return self


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
