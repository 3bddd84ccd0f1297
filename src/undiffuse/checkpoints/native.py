"""Our own format: weights as safetensors, and in the header what is needed to build the prior around them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from undiffuse import networks  # noqa: F401 (fills the registry)
from undiffuse.config import Options, explain, validated
from undiffuse.core.tensors import write_tensors
from undiffuse.priors import DiscreteSchedule, Prior, scalings, schedules
from undiffuse.registry import NETWORKS, Entry

KIND = "undiffuse prior 1"
WIDEST = 100_000  # any size in a header: wider layers are nobody's
MOST = 10_000  # tensors; the largest published U-Nets have a thousand
LONGEST = 2**20  # characters of configuration, and of facts
FLOATS = ("F16", "BF16", "F32", "F64")
EDM_RANGE = (0.002, 80.0)  # of sigma (Karras et al. 2022, table 1)
IN_A_RUN = "prior.safetensors"

Count = Annotated[int, pydantic.Field(ge=1, le=WIDEST)]


class PriorConfig(Options):
    """What turns weights into a prior."""

    network: dict[str, Any]  # name and sizes, channels included
    prediction: Literal["eps", "v", "x0", "edm"]
    sigma_data: Annotated[float, pydantic.Field(gt=0)] = 0.5
    schedule: Literal["linear", "cosine", "cos6", "quad", "sigmoid"] | None = None
    timesteps: Annotated[int, pydantic.Field(ge=2, le=WIDEST)] = 1000
    channels: Count
    size: tuple[Count, Count] | None = None  # height, width of the images it was trained on
    num_classes: Count | None = None
    null_class: bool = False
    classes: tuple[str, ...] | None = None
    low_res: str | None = None  # the degradation of its conditioning picture
    augmentation: Annotated[float, pydantic.Field(ge=0)] = 0.0  # largest noise on that picture in training

    @property
    def conditions(self) -> int:
        """Channels of the conditioning picture: those of the image, and the level of its noise."""
        return 0 if self.low_res is None else self.channels + 1

    def build(self) -> Prior:
        """The prior, its network freshly initialised. ValueError for sizes that no network has."""
        return self.around(self.build_network())

    def build_network(self) -> nn.Module:
        """The network alone. ValueError unless it fits channels and classes."""
        entry, sizes = self._sizes()
        return entry(**sizes).build()

    def _sizes(self) -> tuple[Entry, dict[str, Any]]:
        entry = NETWORKS[str(self.network.get("name"))[:100]]
        sizes = validated(entry, {key: value for key, value in self.network.items() if key != "name"})
        wanted = {
            "in_channels": self.channels + self.conditions,
            "out_channels": self.channels,
            "num_classes": self.num_classes,
            "null_class": self.null_class,
        }
        if not wanted.keys() <= sizes.keys():
            raise ValueError(f"the network '{entry.name}' does not denoise; it makes no prior")
        for key, value in wanted.items():
            if sizes[key] != value:
                raise ValueError(f"network.{key} = {sizes[key]}; expected {value}, as of the prior")
        if self.classes is not None and len(self.classes) != self.num_classes:
            raise ValueError(f"{len(self.classes)} names for num_classes = {self.num_classes}")
        return entry, sizes

    def bounded(self, tensors: int) -> None:
        """ValueError for sizes that `tensors` tensors cannot have: building would take all time or memory."""
        _, sizes = self._sizes()
        levels = 1
        for key, value in sizes.items():
            numbers = value if isinstance(value, tuple | list) else (value,)
            for number in numbers:
                if isinstance(number, int | float) and not 0 <= number <= WIDEST:
                    raise ValueError(f"network.{key} = {str(number)[:20]}; expected 0 to {WIDEST}")
            levels = max(levels, len(numbers))
        if levels * sizes.get("blocks", 1) > tensors:
            raise ValueError(f"more blocks than the file has tensors, {tensors}")

    def discrete(self) -> DiscreteSchedule:
        """The levels of a network that knows timesteps."""
        if self.schedule is None:
            raise ValueError(f"prediction {self.prediction} needs a schedule; choose linear or cosine")
        return DiscreteSchedule.from_betas(getattr(schedules, self.schedule)(self.timesteps))

    def around(self, net: nn.Module) -> Prior:
        """The prior around a network of this configuration."""
        if self.prediction == "edm":
            scaling, sigma_range = scalings.edm(self.sigma_data), EDM_RANGE
        else:
            schedule = self.discrete()
            scaling = {"eps": scalings.eps, "v": scalings.v, "x0": scalings.x0}[self.prediction](schedule)
            sigma_range = (float(schedule.sigmas[0]), float(schedule.sigmas[-1]))
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


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A prior from a file, in evaluation mode, with what its file says."""

    prior: Prior
    config: PriorConfig
    facts: Mapping[str, Any]  # data, licence, steps and whatever else was written


def save(path: Path, prior: Prior, config: PriorConfig, facts: Mapping[str, Any]) -> None:
    """Weights and header in one file, which replaces `path` whole or not at all."""
    meta = {"kind": KIND, "config": config.model_dump_json(), "facts": json.dumps(facts)}
    write_tensors(path, prior.net.state_dict(), meta)


def load(path: str | Path) -> Checkpoint:
    """The prior of a file, or of a run's folder. ValueError, in one line, for a file that does not hold one.

    Nothing in the file is executed, and its header is believed only as far as the tensors bear it out: sizes
    are bounded before a layer is made, layers are made without memory, and memory is that of the file's own
    tensors.
    """
    path = file_of(path)
    try:
        with safe_open(path, framework="pt") as file:
            config, facts = _header(file.metadata() or {})
            prior = _empty(config, file)
            prior.net.load_state_dict({name: file.get_tensor(name) for name in file.keys()}, assign=True)  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"'{path}' cannot be read as safetensors: {error}") from None
    except ValueError as error:
        raise ValueError(f"'{path}' is no prior of undiffuse: {error}") from None
    return Checkpoint(prior.eval().requires_grad_(False), config, facts)


def file_of(path: str | Path) -> Path:
    """The file itself, or that of a run's folder. ValueError if there is none."""
    path = Path(path)
    file = path / IN_A_RUN if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"no prior at '{file}'; expected a .safetensors file of undiffuse or the folder of a run"
        )
    return file


def load_into(source: str | Path, prior: Prior) -> None:
    """The weights of a file or run into a prior of the same shapes: a start for training."""
    found = load(source)
    try:
        prior.net.load_state_dict(found.prior.net.state_dict())
    except RuntimeError as error:
        raise ValueError(f"'{source}' is of another network: {' '.join(str(error).split())[:300]}") from None


def _header(meta: Mapping[str, str]) -> tuple[PriorConfig, dict[str, Any]]:
    if meta.get("kind") != KIND:
        raise ValueError(f"kind {meta.get('kind', '')[:40]!r}, expected {KIND!r}")
    config, facts = (meta.get(key, "") for key in ("config", "facts"))
    if max(len(config), len(facts)) > LONGEST:
        raise ValueError(f"a header of more than {LONGEST} characters")
    try:
        read = json.loads(facts)
        if not isinstance(read, dict):
            raise ValueError("no object")
        return PriorConfig.model_validate_json(config), read
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, "it", PriorConfig)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"facts that cannot be read ({error})") from None


def _empty(config: PriorConfig, file: Any) -> Prior:
    """The prior of a header, without memory, once its tensors are known to be those of the file."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    if len(slices) > MOST:
        raise ValueError(f"{len(slices)} tensors; expected at most {MOST}")
    if len(kinds := {value.get_dtype() for value in slices.values()}) > 1 or not kinds <= {*FLOATS}:
        raise ValueError(f"tensors of type {', '.join(sorted(kinds))}; expected one of {', '.join(FLOATS)}")
    config.bounded(len(slices))
    try:
        with torch.device("meta"):
            net = config.build_network()
        prior = config.around(net)
    except (RuntimeError, OverflowError) as error:  # a product of sizes beyond 63 bits
        raise ValueError(f"sizes that no tensor has ({' '.join(str(error).split())[:200]})") from None
    wanted = {name: tuple(value.shape) for name, value in prior.net.state_dict().items()}
    shapes = {name: tuple(value.get_shape()) for name, value in slices.items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        if wanted.get(name) != shapes.get(name):
            found, expected = shapes.get(name, "missing"), wanted.get(name, "no such tensor")
            raise ValueError(
                f"{name[:100]} is {found}, expected {expected}; take the file from its source again"
            )
    return prior
