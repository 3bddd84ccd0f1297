"""What `undiffuse distil` is told."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.config.said import Numbers, Said, Scale, Share, Terms
from undiffuse.config.train import Positive
from undiffuse.options import Options

Steps = Annotated[int, pydantic.Field(ge=1, le=10_000)]  # of sampling: twice as many fit in a configuration
PRACTICE = ("dpir_wiener", 0.1)  # algorithm and noise, unless said
FIRST = 64  # steps that halving begins at, unless said, or more
COST = {
    "match": 1.0,
    "progressive": 0.25,
    "consistency": 0.5,
    "restore": 0.5,
}  # training steps, as a share of the teacher's own


class DistilConfig(Options):
    """Everything that decides which students are made, and how."""

    teacher: Annotated[str, Said("A run's folder, or a name or file of weights.", argument=True)]
    sizes: Annotated[
        tuple[float, ...],
        Numbers,
        Said(
            "Shares of the teacher's parameters, such as 0.1,0.3: a student each.",
            names=("--sizes", "--size"),
        ),
    ] = ()
    method: Annotated[
        Literal["match", "progressive", "consistency", "restore"],
        Said("match: the same at every noise level."),
    ] = "match"
    to_steps: Annotated[
        Steps | None, Said("Steps of sampling that the last one needs; of restore: calls.")
    ] = None
    from_steps: Annotated[
        Steps | None, Said("Of progressive: the teacher's, halved again and again [64 or more].")
    ] = None
    grid: Annotated[
        Literal["karras", "timesteps"] | None, Said("Of progressive: levels [the teacher's own].")
    ] = None
    steps: Annotated[Positive | None, Said("Training steps of each student.")] = None
    guidance: Annotated[Scale, Said("Guidance of the teacher's answers, which students have built in.")] = 1.0
    truth: Annotated[
        Share,
        Said("Of sizes: share of the clean picture in the loss, beside the teacher."),
    ] = 0.0
    features: Annotated[
        float,
        pydantic.Field(ge=0, le=1000),
        Said("Of sizes: weight of looking where the teacher's layers look, such as 1."),
    ] = 0.0
    tuning: Annotated[bool, Said("Of consistency: from the data alone, not the teacher's path.")] = False
    tasks: Annotated[
        tuple[str, ...], Terms, Said("Of restore: degradations to practise, such as sr4,deblur_gauss,inp.")
    ] = ()
    algorithm: Annotated[str, Said("Of restore: what to practise with.")] = PRACTICE[0]
    noise: Annotated[Share, Said("Of restore: noise of the data up to this, white - black = 1.")] = PRACTICE[
        1
    ]
    config: Annotated[
        Path | None, Said("Training configuration, where the teacher is not a run's folder.")
    ] = None
    settings: Annotated[
        tuple[str, ...],
        Said("section.key=value of the training; several times for more.", names=("--set",), many=True),
    ] = ()
    out: Annotated[Path | None, Said("Folder of the students [runs/students/NAME].")] = None
    device: Annotated[str, Said("auto, cpu or mps.")] = "auto"

    @pydantic.model_validator(mode="after")
    def _complete(self) -> "DistilConfig":
        if wrong := [size for size in self.sizes if not 0 < size <= 1]:
            raise ValueError(
                f"--sizes {wrong[0]:g}; expected shares of the teacher's parameters, above 0 and up to 1, such as 0.3"
            )
        stepping = self.method != "match"
        if stepping and self.to_steps is None:
            raise ValueError(f"--method {self.method} needs --to-steps, such as --to-steps 4")
        if not stepping and self.to_steps is not None:
            raise ValueError(
                f"--to-steps {self.to_steps} without --method; choose progressive, consistency or restore"
            )
        if not stepping and not self.sizes:
            raise ValueError("nothing asked for; give --sizes 0.1,0.3, or --method progressive --to-steps 4")
        if len({f"{size:g}" for size in self.sizes}) < len(self.sizes):
            told = ", ".join(map(str, self.sizes))
            raise ValueError(f"--sizes {told}; two of them are the same to six digits: leave one out")
        if len(self.sizes) > 1 and stepping:
            raise ValueError(f"{len(self.sizes)} sizes with --method {self.method}; give one with --size")
        if self.from_steps is not None and self.method != "progressive":
            raise ValueError(f"--from-steps {self.from_steps} is of --method progressive; leave it out")
        if self.grid is not None and self.method != "progressive":
            raise ValueError(f"--grid {self.grid} is of --method progressive; leave it out")
        if self.truth and not self.sizes:
            raise ValueError(f"--truth {self.truth:g} is of students of a size; give it with --sizes")
        if self.features and (not self.sizes or (self.method == "match" and self.guidance != 1)):
            raise ValueError(
                f"--features {self.features:g} is of students of a size that learn without --guidance; leave it out"
            )
        if (self.method == "restore") != bool(self.tasks):
            raise ValueError(
                f"--method {self.method} with --tasks {','.join(self.tasks) or 'not given'}; --method restore needs "
                "some, such as --tasks sr4,deblur_gauss,inp, and no other method does"
            )
        if self.method != "restore" and (self.algorithm, self.noise) != PRACTICE:
            raise ValueError(
                f"--algorithm {self.algorithm} and --noise {self.noise:g} are of --method restore; leave them out"
            )
        if self.tuning and (self.method != "consistency" or self.guidance != 1):
            raise ValueError("--tuning is of --method consistency, without --guidance; leave it out")
        return self
