"""What `undiffuse sample` is told."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from undiffuse.config.said import (
    PRIOR,
    AtOnce,
    Device,
    Level,
    OfNetwork,
    PriorOptions,
    Said,
    Scale,
    Share,
    read,
)
from undiffuse.options import Options

BETWEEN = 8  # pictures of an interpolation
Sigma = Annotated[float, pydantic.Field(ge=0)]  # in [-1, 1] units
LARGEST = 2**63
Seed = Annotated[int, pydantic.Field(ge=0, lt=LARGEST)]
START, GUIDANCE, STEPS, FILES = "Start", "Guidance", "Steps", "Files"  # groups of the help


def seed_or_seeds(text: str) -> int | tuple[int, int]:
    """A whole number, or the first and the last of a range."""
    first, dash, last = text.partition("-")
    if text.removeprefix("-").isdecimal():
        return int(text)
    if not (first.isdecimal() and dash and last.isdecimal()):
        raise ValueError("expected a whole number, or a range such as 0-63")
    if int(last) < int(first):
        raise ValueError("expected a range that rises, such as 0-63")
    if int(last) >= LARGEST:
        raise ValueError("expected seeds below 2^63 of a range")
    return int(first), int(last)


def two_sigmas(text: str) -> tuple[str, str]:
    """Two numbers with a comma between them."""
    low, comma, high = text.partition(",")
    if not comma or "," in high:
        raise ValueError("expected LOW,HIGH such as 0.3,5")
    return low, high


def two_ends(text: str) -> tuple[str, str]:
    """Two seeds, or the names of two files."""
    first, _, last = text.partition(",")
    if not first or not last or "," in last:
        raise ValueError("expected two seeds such as 3,8, or two pictures")
    return first, last


class SampleConfig(Options):
    """Everything that decides what `undiffuse sample` draws."""

    prior: Annotated[str, PRIOR]
    n: Annotated[
        int,
        pydantic.Field(ge=1, le=1_000_000),
        Said(
            "How many; those that are there already are kept. [16, or as many as seeds]",
            names=("--n", "-n"),  # torchrun takes --n for an option of its own, which it finds ambiguous
            always=True,
        ),
    ] = 16
    seed: Annotated[  # (first, last): picture i has first + i
        int | tuple[Seed, Seed],
        read(seed_or_seeds),
        Said("Same seed and number, same picture; 0-63: a seed for each picture.", between="-"),
    ] = 0
    size: Annotated[str | None, Said("HxW [what the prior was trained on].")] = None
    low_res: Annotated[Path | None, Said("Picture to enlarge, for super-resolution priors.")] = None
    noise: Annotated[Level, Said("Noise of that picture, white - black = 1.")] = 0.0
    start: Annotated[  # SDEdit
        Path | None,
        Said("Picture to begin at, with noise added.", group=START),
    ] = None
    strength: Annotated[
        Annotated[float, pydantic.Field(ge=0.01, le=1)] | None,
        Said("Of that noise: 1 leaves nothing of the picture. [0.5]", group=START),
    ] = None
    invert: Annotated[
        Path | None, Said("Picture to bring back to its noise, and to draw again.", group=START)
    ] = None
    interpolate: Annotated[
        tuple[str, str] | None,
        read(two_ends),
        Said("A,B: two seeds, or two pictures, and a row between them.", group=START),
    ] = None
    label: Annotated[
        str | None,
        Said("Class by name or number; several: 3,5; all in turn; none. [all]", group=GUIDANCE),
    ] = None
    guidance: Annotated[Scale, Said("Towards the class; 1 = the conditional prior.", group=GUIDANCE)] = 1.0
    classifier: Annotated[
        str | None,
        Said(
            "Classifier of noisy pictures that guides towards the class: file or published name.",
            group=GUIDANCE,
        ),
    ] = None
    classifier_scale: Annotated[
        float, pydantic.Field(ge=0, le=1000), Said("How strongly; 1 = Bayes' rule.", group=GUIDANCE)
    ] = 1.0
    guidance_interval: Annotated[
        tuple[Sigma, Sigma] | None,
        read(two_sigmas),
        Said("LOW,HIGH: guided for sigma in between only.", group=GUIDANCE),
    ] = None
    autoguidance: Annotated[
        str | None,
        Said("A weaker prior (file, run or name) to be guided away from.", group=GUIDANCE),
    ] = None
    autoguidance_options: Annotated[
        str | None, Said("Facts that its file does not tell: key=value,...", group=GUIDANCE)
    ] = None
    sampler: Annotated[  # None: dpmpp_2m, or the preset's
        str | None,
        Said(
            "Sampler, name:key=value,...; see `undiffuse samplers`. [dpmpp_2m; heun to invert]", group=STEPS
        ),
    ] = None
    steps: Annotated[  # None: 20, or the preset's
        Annotated[int, pydantic.Field(ge=1, le=100_000)] | None, Said("Noise levels. [20]", group=STEPS)
    ] = None
    eta: Annotated[Share | None, Said("The sampler's eta.", group=STEPS)] = None
    grid: Annotated[
        Literal["karras", "timesteps", "leading", "linspace"] | None,
        Said("All but karras are of the prior's schedule. [the sampler's own]", group=STEPS),
    ] = None
    preset: Annotated[
        Path | None, Said("File of presets, as `undiffuse compare --presets` writes.", group=STEPS)
    ] = None
    clip: Annotated[bool, Said("Hold every estimate within black and white.", group=STEPS)] = False
    out: Annotated[
        Path | None, Said("Folder for the pictures [RUN/samples or samples/NAME].", group=FILES)
    ] = None
    stretch: Annotated[bool, Said("Scale each picture's values to what can be seen.", group=FILES)] = False
    npz: Annotated[bool, Said("Also samples.npz: arr_0 of uint8, arr_1 the labels.", group=FILES)] = False
    path: Annotated[
        Literal["gif", "strip", "mp4"] | None,
        Said("Also the way from noise to the first pictures.", group=FILES),
    ] = None
    batch: Annotated[AtOnce, Said("Pictures at once, or auto: what half of the memory holds.")] = "auto"
    device: Device = "auto"
    compile: Annotated[bool, Said("Compile the network first; on a CPU no faster.")] = False
    prior_options: PriorOptions = None
    precision: OfNetwork = "fp32"

    @pydantic.model_validator(mode="before")
    @classmethod
    def _how_many(cls, given: Any) -> Any:
        """As many as seeds; one that is inverted; a row of those in between."""
        if not isinstance(given, dict) or "n" in given:
            return given
        seed = given.get("seed")
        if isinstance(seed, str):
            try:
                seed = seed_or_seeds(seed)
            except ValueError:  # of which the field tells
                return given
        match seed:
            case [int(first), int(last)]:
                return {**given, "n": last - first + 1}
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
