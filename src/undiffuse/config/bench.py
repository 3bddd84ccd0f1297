"""What `undiffuse bench` and `undiffuse tune` are told."""

import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.config.said import (
    Count,
    Device,
    Level,
    Numbers,
    OfNetwork,
    Plugins,
    PriorOptions,
    Said,
    Terms,
)
from undiffuse.options import Options

Side = Annotated[int, pydantic.Field(ge=8, le=10_000), Said("Side of the centre crop.")]
Prior = Annotated[str, Said("Name, file of weights or run's folder.")]
Seed = Annotated[int, Said("Of the noise.")]
Data = Annotated[
    tuple[str, ...],
    pydantic.Field(min_length=1),
    Said("Folder of clean pictures, a picture, or a pattern; several times for more.", many=True),
]


class BenchConfig(Options):
    """Everything that decides what `undiffuse bench` measures."""

    data: Data
    tasks: Annotated[tuple[str, ...], Terms, Said("Degradations with ; or , between them.", between=";")] = (
        "sr4", "deblur_gauss", "inp",
    )  # fmt: skip
    algorithms: Annotated[
        tuple[str, ...], Terms, Said("Algorithms with ; between them; NAME@N takes N calls.", between=";")
    ] = ("dpir", "ddrm", "diffpir")
    baselines: Annotated[
        tuple[str, ...],
        Terms,
        Said("pinv, bicubic, lanczos, wiener, tv, bm3d, bm3d_deblur; auto, all or none.", between=";"),
    ] = ("auto",)
    noise: Annotated[tuple[Level, ...], Numbers, Said("Noise levels with commas, white - black = 1.")] = (
        0.0, 0.05,
    )  # fmt: skip
    prior: Prior = "photo"
    prior_options: PriorOptions = None
    precision: OfNetwork = "fp32"
    calls: Annotated[Count, Said("Network calls of each draw.")] = 20  # where a name does not say it with @N
    draws: Annotated[
        int,
        pydantic.Field(ge=1, le=1000),
        Said("Draws; above 1 their mean is compared, and coverage is found."),
    ] = 1
    count: Annotated[Count, Said("Pictures of each --data.")] = 8
    size: Side = 256
    reference: Annotated[str | None, Said("Method that the others are compared with [the first].")] = None
    lpips: Annotated[str | None, Said("Weights of LPIPS: FILE, FILE,FILE, or auto. [without]")] = None
    out: Annotated[Path, Said("Folder; what is there is kept and added to.")] = Path("out/bench")
    report: Annotated[bool, Said("Also report.html, one file.")] = False
    seed: Seed = 0
    device: Device = "auto"


class TuneConfig(Options):
    """Everything that decides what `undiffuse tune` searches."""

    task: Annotated[str, Said("Degradation, name:key=value,...", argument=True)]
    data: Data
    noise: Annotated[Level, Said("Noise level, white - black = 1.")] = 0.0
    calls: Annotated[Count, Said("Network calls, and so levels of the grid.")] = 5
    algorithm: Annotated[str, Said("Algorithm, name:key=value,...")] = "dpir"
    prior: Prior = "photo"
    prior_options: PriorOptions = None
    precision: OfNetwork = "fp32"
    goal: Literal["psnr"] = "psnr"
    count: Annotated[
        int,
        pydantic.Field(ge=4, le=100_000),
        Said("Pictures of each --data: half to search on, half to judge."),
    ] = 8
    size: Side = 256
    rounds: Annotated[int, pydantic.Field(ge=1, le=1000), Said("Of the search, each with half the step.")] = 6
    out: Annotated[Path, Said("The preset; what was tried is kept beside it.")] = Path("preset.yaml")
    seed: Seed = 0
    device: Device = "auto"
    plugins: Plugins = ()  # that were loaded: the preset names the command that made it


def split_calls(term: str) -> tuple[str, int | None, float | None]:
    """`dpir@5`, `ddrm@20@1` or `dpir@5:lam=0.3` -> the term alone, network calls, the highest noise level.

    None where the term does not say. The level in [0, 1] units: white - black = 1.
    """
    if "@" not in term:
        return term, None, None
    found = re.fullmatch(r"([^@]+)@(\d{1,6})(@\d{0,4}\.?\d{1,6})?(:.*)?", term)
    top = None if not found or found[3] is None else float(found[3][1:])
    if not found or int(found[2]) < 1 or top == 0:
        raise ValueError(f"'{term}'; expected NAME@CALLS or NAME@CALLS@LEVEL, such as dpir@5 or ddrm@20@1")
    return found[1] + (found[4] or ""), int(found[2]), top
