"""What `undiffuse bench` and `undiffuse tune` are told."""

import math
import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.options import Options, Precision

CONTINUES = r"\s*\w+\s*="  # an item that begins so is an option of the name before it

Level = Annotated[float, pydantic.Field(ge=0, le=10)]  # noise, white - black = 1
Calls = Annotated[int, pydantic.Field(ge=1, le=100_000)]
Count = Annotated[int, pydantic.Field(ge=1, le=100_000)]
Side = Annotated[int, pydantic.Field(ge=8, le=10_000)]


class BenchConfig(Options):
    """Everything that decides what `undiffuse bench` measures."""

    data: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]  # folders, pictures or patterns of names
    out: Path = Path("out/bench")
    tasks: tuple[str, ...] = ("sr4", "deblur_gauss", "inp")
    algorithms: tuple[str, ...] = ("dpir", "ddrm", "diffpir")
    baselines: tuple[str, ...] = ("auto",)
    noise: tuple[Level, ...] = (0.0, 0.05)
    prior: str = "photo"
    prior_options: str | None = None  # facts that a file from outside does not tell: key=value,...
    precision: Precision = "fp32"  # of the prior's convolutions and attention
    calls: Calls = 20  # of the network for each draw, where a name does not say it with @N
    draws: Annotated[int, pydantic.Field(ge=1, le=1000)] = 1  # above 1: the mean of so many is compared
    count: Count = 8  # pictures of each entry of data
    size: Side = 256  # side of the centre crop
    reference: str | None = None  # the method that the others are compared with; None: the first
    lpips: str | None = None  # FILE or FILE,FILE with its weights, or auto: where they usually lie
    seed: int = 0
    report: bool = False
    device: str = "auto"


class TuneConfig(Options):
    """Everything that decides what `undiffuse tune` searches."""

    task: str
    data: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    out: Path = Path("preset.yaml")
    noise: Level = 0.0
    calls: Calls = 5
    algorithm: str = "dpir"
    prior: str = "photo"
    prior_options: str | None = None
    precision: Precision = "fp32"
    goal: Literal["psnr"] = "psnr"
    count: Annotated[int, pydantic.Field(ge=4, le=100_000)] = 8  # half are searched on, half judge the result
    size: Side = 256
    rounds: Annotated[int, pydantic.Field(ge=1, le=1000)] = 6  # of the search, each with half the step
    seed: int = 0
    device: str = "auto"


def split_terms(text: str) -> tuple[str, ...]:
    """`sr4,inp:random,missing=0.5;deno` -> the three terms: at ';', and at ',' unless key=value follows."""
    terms: list[str] = []
    for part in text.split(";"):
        for number, item in enumerate(part.split(",")):
            if number and re.match(CONTINUES, item):
                terms[-1] += f",{item.strip()}"
            else:
                terms.append(item.strip())
    empty = [term for term in terms if not term]
    if empty:
        raise ValueError(f"'{text}' has an empty name; write names with ; between them, as in dpir;ddrm")
    return tuple(dict.fromkeys(terms))


def split_numbers(text: str, option: str) -> tuple[float, ...]:
    """`0,0.05` -> (0.0, 0.05)."""
    try:
        numbers = [float(part) for part in re.split("[,;]", text)]
    except ValueError:
        raise ValueError(f"{option} {text}; expected numbers such as 0,0.05") from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{option} {text}; expected finite numbers such as 0,0.05")
    return tuple(dict.fromkeys(numbers))


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
