"""Our own format: weights as safetensors, and in the header what is needed to build the prior around them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from torch import nn

from undiffuse.checkpoints.described import WIDEST, Described, check_size, read, write
from undiffuse.config import Options
from undiffuse.priors import DiscreteSchedule, Prior, scalings, schedules

KIND = "undiffuse prior 1"
EDM_RANGE = (0.002, 80.0)  # of sigma (Karras et al. 2022, table 1)
ROUNDED = 1 + 1e-6  # of levels that were kept in float32
IN_A_RUN = "prior.safetensors"

Count = Annotated[int, pydantic.Field(ge=1, le=WIDEST)]
Beta = Annotated[float, pydantic.Field(gt=0, lt=1)]
Level = Annotated[float, pydantic.Field(gt=0)]
Schedule = Literal["linear", "cosine", "cos6", "quad", "sigmoid"]


class MadeFor(Options):
    """What a distilled prior was made for: used otherwise, its answers are not what they are taken for."""

    sampler: Literal["ddim", "consistency"] | None = None  # None: any
    sigmas: Annotated[tuple[Level, ...], pydantic.Field(min_length=1, max_length=WIDEST)] | None = (
        None  # levels, falling, without the 0; None: any
    )
    guidance: Annotated[float, pydantic.Field(ge=0, le=100)] = 1.0  # that is in its answers
    algorithm: Annotated[str, pydantic.Field(max_length=200)] | None = (
        None  # of restoration, with its options, that it practised; None: any
    )
    calls: Annotated[int, pydantic.Field(ge=1, le=WIDEST)] | None = None  # of that algorithm

    @pydantic.model_validator(mode="after")
    def _falls(self) -> "MadeFor":
        levels = self.sigmas or ()
        if any(a <= b for a, b in zip(levels, levels[1:], strict=False)):
            raise ValueError("made_for.sigmas do not fall")
        if (self.sampler is None) != (self.sigmas is None):
            raise ValueError("made_for has one of sampler and sigmas; expected both or neither")
        if (self.algorithm is None) != (self.calls is None):
            raise ValueError("made_for has one of algorithm and calls; expected both or neither")
        return self

    def __str__(self) -> str:
        told = [] if self.sampler is None else [f"{len(self.sigmas or ())} steps of {self.sampler}"]
        told += [] if self.algorithm is None else [f"{self.calls} calls of {self.algorithm}"]
        return ", ".join(told + ([] if self.guidance == 1 else [f"guidance {self.guidance:g} built in"]))


class PriorConfig(Described):
    """What turns weights into a prior."""

    prediction: Literal["eps", "v", "x0", "edm"]
    sigma_data: Annotated[float, pydantic.Field(gt=0)] = 0.5
    schedule: Schedule | None = None
    timesteps: Annotated[int, pydantic.Field(ge=2, le=WIDEST)] = 1000
    beta_start: Beta | None = (
        None  # ends of linear, quad and sigmoid as they are, for any number of timesteps;
    )
    beta_end: Beta | None = None  # None: 1e-4 and 0.02, of linear times 1000 / timesteps
    zero_terminal_snr: bool = False  # the schedule is rescaled so that its last level has no signal
    time_scale: Annotated[float, pydantic.Field(gt=0)] = 1.0  # the network is told time_scale * timestep
    channels: Count
    size: tuple[Count, Count] | None = None  # height, width of the images it was trained on
    num_classes: Count | None = None
    null_class: bool = False
    classes: tuple[str, ...] | None = None
    low_res: str | None = None  # the degradation of its conditioning picture
    low_res_as: Literal["pinv", "bilinear"] = "pinv"  # how that picture is enlarged for the network to see
    augmentation: Annotated[float, pydantic.Field(ge=0)] = 0.0  # largest noise on that picture in training
    made_for: MadeFor | None = None  # of a distilled one

    @property
    def conditions(self) -> int:
        """Channels of the conditioning picture: those of the image, and of ours the level of its noise."""
        return 0 if self.low_res is None else self.channels + (self.low_res_as == "pinv")

    def build(self) -> Prior:
        """The prior, its network freshly initialised. ValueError for sizes that no network has."""
        return self.around(self.build_network())

    def follows(self) -> dict[str, Any]:
        """Channels and classes of the network."""
        if self.classes is not None and len(self.classes) != self.num_classes:
            raise ValueError(f"{len(self.classes)} names for num_classes = {self.num_classes}")
        return {
            "in_channels": self.channels + self.conditions,
            "out_channels": self.channels,
            "num_classes": self.num_classes,
            "null_class": self.null_class,
        }

    def discrete(self) -> DiscreteSchedule:
        """The levels of a network that knows timesteps."""
        if self.schedule is None:
            raise ValueError(f"prediction {self.prediction} needs a schedule; choose linear or cosine")
        found = discrete(self.schedule, self.timesteps, self.beta_start, self.beta_end)
        return schedules.without_signal(found) if self.zero_terminal_snr else found

    def around(self, net: nn.Module) -> Prior:
        """The prior around a network of this configuration."""
        if self.prediction == "edm":
            scaling, sigma_range = scalings.edm(self.sigma_data), EDM_RANGE
        else:
            schedule = self.discrete()
            scaling = {"eps": scalings.eps, "v": scalings.v, "x0": scalings.x0}[self.prediction](schedule)
            scaling = scalings.told(scaling, self.time_scale)
            sigma_range = (float(schedule.sigmas[0]), float(schedule.sigmas[-1]))
        levels = (self.made_for.sigmas if self.made_for else None) or ()
        if levels and levels[0] > sigma_range[1] * ROUNDED:
            raise ValueError(f"made for sigma {levels[0]:.4g}; it knows noise up to {sigma_range[1]:.4g}")
        return Prior(
            net,
            scaling,
            channels=self.channels,
            size=self.size,
            num_classes=self.num_classes,
            null_class=self.null_class,
            conditions=self.conditions,
            sigma_range=sigma_range,
        )


def discrete(
    schedule: Schedule, timesteps: int, beta_start: float | None = None, beta_end: float | None = None
) -> DiscreteSchedule:
    """The levels of a schedule by its name. ValueError for ends that it does not have."""
    make = getattr(schedules, schedule)
    if beta_start is None and beta_end is None:
        return DiscreteSchedule.from_betas(make(timesteps))
    if beta_start is None or beta_end is None or schedule in ("cosine", "cos6"):
        ends = f"beta_start = {beta_start} and beta_end = {beta_end} for the schedule {schedule}"
        raise ValueError(f"{ends}; expected both, of linear, quad or sigmoid, or neither")
    plain = {"rescale": False} if schedule == "linear" else {}
    return DiscreteSchedule.from_betas(make(timesteps, beta_start, beta_end, **plain))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A prior from a file, in evaluation mode, with what its file says."""

    prior: Prior
    config: PriorConfig
    facts: Mapping[str, Any]  # data, licence, steps and whatever else was written
    told: tuple[str, ...] = ()  # of a file from outside: what it does not tell, and who does


def save(path: Path, prior: Prior, config: PriorConfig, facts: Mapping[str, Any]) -> None:
    """Weights and header in one file, which replaces `path` whole or not at all."""
    write(path, KIND, prior.net, config, facts)


def load(path: str | Path) -> Checkpoint:
    """The prior of a file, or of a run's folder, in float32. ValueError, in one line, for a file that holds none."""
    path = file_of(path)
    net, config, facts = read(path, KIND, PriorConfig, "prior")
    net.float()  # half precision is for storing; on most CPUs it is far slower to compute in
    try:
        check_size(net, config.size)
        prior = config.around(net)
    except ValueError as error:
        raise ValueError(f"'{path}' is no prior of undiffuse: {error}") from None
    return Checkpoint(prior.eval(), config, facts)


def file_of(path: str | Path) -> Path:
    """The file itself, or that of a run's folder. ValueError if there is none."""
    path = Path(path)
    file = path / IN_A_RUN if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"no prior at '{file}'; expected a .safetensors file of undiffuse or the folder of a run"
        )
    return file
