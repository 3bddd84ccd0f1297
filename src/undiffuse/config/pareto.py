"""What `undiffuse pareto` is told."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.options import Options

SAMPLE = "sample"  # the task that is no degradation
Calls = Annotated[int, pydantic.Field(ge=1, le=100_000)]
Metric = Literal["fid", "kid"]


class ParetoConfig(Options):
    """Everything that decides what `undiffuse pareto` measures."""

    students: Path  # a folder with runs and files of weights below it, a run, or a file
    tasks: Annotated[tuple[str, ...], pydantic.Field(min_length=1)] = (SAMPLE,)  # and degradations
    calls: Annotated[tuple[Calls, ...], pydantic.Field(min_length=1)] = (1, 2, 4, 8, 16)
    teacher: str | None = None  # None: whom the students' runs name
    beside: tuple[str, ...] = ()  # other priors
    guidance: Annotated[float, pydantic.Field(ge=0, le=100)] = 1.0  # of priors that have none built in
    label: str | None = None  # of samples; None: all classes in turn
    sampler: str = "dpmpp_2m"  # of priors that were made for no other
    presets: Path | None = (
        None  # samplers.yaml of compare: its choice, where there is one for a prior and its calls
    )
    n: Annotated[int, pydantic.Field(ge=3, le=1_000_000)] = 256  # samples of each; KID leaves each out once
    reference: Path | None = None  # what samples are compared with; None: what a run held out
    metrics: Annotated[tuple[Metric, ...], pydantic.Field(min_length=1)] | None = (
        None  # None: all that can be
    )
    features: str = "auto"  # as of evaluate; auto: inception where its weights are, else pca:64 or pixels:8
    weights: Path | None = None  # of these features
    data: tuple[str, ...] = ()  # pictures to restore; (): what a run held out
    count: Annotated[int, pydantic.Field(ge=1, le=100_000)] = 16  # of them
    size: Annotated[int, pydantic.Field(ge=8, le=10_000)] | None = None  # side; None: the prior's own
    noise: Annotated[float, pydantic.Field(ge=0, le=10)] = 0.05  # of the data, white - black = 1
    algorithm: str = "dpir"
    lpips: str | None = None  # FILE or FILE,FILE with its weights, or auto: where they usually lie
    seed: int = 0
    out: Path | None = None  # None: out/pareto/NAME, or the first number after it that is free
    batch: Annotated[int, pydantic.Field(ge=1, le=100_000)] | Literal["auto"] = "auto"  # of samples
    device: str = "auto"
    plugins: tuple[Path, ...] = ()  # that were loaded

    @pydantic.model_validator(mode="after")
    def _belongs_together(self) -> "ParetoConfig":
        if SAMPLE not in self.tasks and self.reference is not None:
            raise ValueError(
                f"--reference {self.reference} is of the task {SAMPLE}; add it to --tasks, or leave it out"
            )
        if self.data and not set(self.tasks) - {SAMPLE}:
            raise ValueError(
                f"--data {self.data[0]} is of tasks such as sr4; add one to --tasks, or leave it out"
            )
        return self


def split_calls(text: str) -> tuple[int, ...]:
    """`1,2,4` -> (1, 2, 4), in order and each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) <= 6 for part in parts):
        raise ValueError(f"--calls {text[:80]}; expected numbers of network calls, such as 1,2,4,8")
    return tuple(sorted({int(part) for part in parts}))
