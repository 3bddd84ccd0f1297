"""What `undiffuse sample` is told."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from undiffuse.config.options import Options, Precision

Grid = Literal["karras", "timesteps", "leading", "linspace"]  # all but karras: of the prior's own schedule
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
    sampler: str | None = None  # None: dpmpp_2m, or the preset's
    steps: Annotated[int, pydantic.Field(ge=1, le=100_000)] | None = None  # None: 20, or the preset's
    eta: Annotated[float, pydantic.Field(ge=0, le=1)] | None = None
    grid: Grid | None = None  # None: the sampler's own, karras for most
    preset: Path | None = None  # sampler and levels that `undiffuse compare --presets` chose
    clip: bool = False  # each estimate of x0 within [-1, 1]
    size: str | None = None  # HxW; None: what the prior was trained on
    low_res: Path | None = None  # the picture that a super-resolution prior enlarges
    noise: Annotated[float, pydantic.Field(ge=0, le=10)] = 0.0  # of that picture, in [0, 1] units
    seed: int | tuple[Seed, Seed] = 0  # of all pictures; (first, last): picture i has first + i
    stretch: bool = False
    npz: bool = False
    batch: Annotated[int, pydantic.Field(ge=1, le=100_000)] | Literal["auto"] = "auto"
    device: str = "auto"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _as_many_as_seeds(cls, given: Any) -> Any:
        seed = given.get("seed") if isinstance(given, dict) else None
        if isinstance(seed, tuple | list) and len(seed) == 2 and "n" not in given:
            return {**given, "n": seed[1] - seed[0] + 1}
        return given

    @pydantic.model_validator(mode="after")
    def _a_seed_for_each(self) -> "SampleConfig":
        if isinstance(self.seed, tuple):
            first, last = self.seed
            if last - first + 1 != self.n:
                raise ValueError(f"{self.n} pictures with the seeds {first}-{last}; leave out n")
        return self
