"""What `undiffuse sample` is told."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from undiffuse.options import Options, Precision

Grid = Literal["karras", "timesteps", "leading", "linspace"]  # all but karras: of the prior's own schedule
BETWEEN = 8  # pictures of an interpolation
Sigma = Annotated[float, pydantic.Field(ge=0)]  # in [-1, 1] units
Seed = Annotated[int, pydantic.Field(ge=0, lt=2**63)]


class SampleConfig(Options):
    """Everything that decides what `undiffuse sample` draws."""

    prior: str  # a name, a .safetensors file or the folder of a run
    prior_options: str | None = None  # facts that a file from outside does not tell: key=value,...
    precision: Precision = "fp32"  # of the prior's convolutions and attention
    out: Path | None = None  # None: samples/ in the run's folder, else samples/NAME
    n: Annotated[int, pydantic.Field(ge=1, le=1_000_000)] = 16
    label: str | None = None  # a class, several with commas, all or none; None: all, in turn
    guidance: Annotated[float, pydantic.Field(ge=0, le=100)] = 1.0  # towards the class; 1 = conditional
    classifier: str | None = None  # a file, or a published name, that guides towards the class
    classifier_scale: Annotated[float, pydantic.Field(ge=0, le=1000)] = 1.0  # 1: Bayes' rule
    guidance_interval: tuple[Sigma, Sigma] | None = None  # guided for low < sigma <= high only
    autoguidance: str | None = None  # a weaker prior to be guided away from, in place of no class
    autoguidance_options: str | None = None  # facts that its file does not tell
    sampler: str | None = None  # None: dpmpp_2m, or the preset's
    steps: Annotated[int, pydantic.Field(ge=1, le=100_000)] | None = None  # None: 20, or the preset's
    eta: Annotated[float, pydantic.Field(ge=0, le=1)] | None = None
    grid: Grid | None = None  # None: the sampler's own, karras for most
    preset: Path | None = None  # sampler and levels that `undiffuse compare --presets` chose
    clip: bool = False  # each estimate of x0 within [-1, 1]
    size: str | None = None  # HxW; None: what the prior was trained on
    low_res: Path | None = None  # the picture that a super-resolution prior enlarges
    noise: Annotated[float, pydantic.Field(ge=0, le=10)] = 0.0  # of that picture, in [0, 1] units
    start: Path | None = None  # a picture to begin at, with noise added (SDEdit)
    strength: Annotated[float, pydantic.Field(ge=0.01, le=1)] | None = (
        None  # of that noise; 1: the highest level
    )
    invert: Path | None = None  # a picture to bring back to its noise, and to draw again
    interpolate: tuple[str, str] | None = None  # two seeds, or two pictures
    seed: int | tuple[Seed, Seed] = 0  # of all pictures; (first, last): picture i has first + i
    stretch: bool = False
    npz: bool = False
    path: Literal["gif", "strip", "mp4"] | None = None  # the way of the first pictures, as one file
    batch: Annotated[int, pydantic.Field(ge=1, le=100_000)] | Literal["auto"] = "auto"
    device: str = "auto"
    compile: bool = False  # the network, by torch

    @pydantic.model_validator(mode="before")
    @classmethod
    def _how_many(cls, given: Any) -> Any:
        """As many as seeds; one that is inverted; a row of those in between."""
        if not isinstance(given, dict) or "n" in given:
            return given
        seed = given.get("seed")
        if isinstance(seed, tuple | list) and len(seed) == 2:
            return {**given, "n": seed[1] - seed[0] + 1}
        fitting = [n for name, n in (("invert", 1), ("interpolate", BETWEEN)) if given.get(name) is not None]
        return {**given, "n": fitting[0]} if fitting else given

    @pydantic.model_validator(mode="after")
    def _make_sense(self) -> "SampleConfig":
        taken = [name for name in ("start", "invert", "interpolate") if getattr(self, name) is not None]
        if len(taken) > 1:
            raise ValueError(f"--{taken[0]} with --{taken[1]}; leave one of them out")
        if self.strength is not None and self.start is None:
            raise ValueError(
                f"--strength {self.strength:g} is of the noise on a picture; give it with --start"
            )
        if self.autoguidance_options is not None and self.autoguidance is None:
            raise ValueError(
                "--autoguidance-options without --autoguidance, whose file they are of; leave them out"
            )
        if self.invert is not None and self.n != 1:
            raise ValueError(f"{self.n} pictures of the one that is inverted; leave out --n")
        if self.interpolate is not None and self.n < 2:
            raise ValueError(f"{self.n} picture between two; expected 2 or more, give --n 8")
        if self.start is not None and self.preset is not None:
            raise ValueError("--start with --preset, whose levels begin in noise; leave one of them out")
        if isinstance(self.seed, tuple):
            first, last = self.seed
            if last - first + 1 != self.n:
                raise ValueError(f"{self.n} pictures with the seeds {first}-{last}; leave out n")
            if taken and taken[0] != "start":
                raise ValueError(
                    f"the seeds {first}-{last} with --{taken[0]}, which draws none; leave them out"
                )
        return self
