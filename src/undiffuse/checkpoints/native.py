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
from undiffuse.registry import NETWORKS

KIND = "undiffuse prior 1"
LARGEST = 100_000  # of any size in a header: wider layers are nobody's
EDM_RANGE = (0.002, 80.0)  # of sigma (Karras et al. 2022, table 1)
IN_A_RUN = "prior.safetensors"

Count = Annotated[int, pydantic.Field(ge=1, le=LARGEST)]


class PriorConfig(Options):
    """What turns weights into a prior."""

    network: dict[str, Any]  # name and sizes, channels included
    prediction: Literal["eps", "v", "x0", "edm"]
    sigma_data: Annotated[float, pydantic.Field(gt=0)] = 0.5
    schedule: Literal["linear", "cosine", "cos6", "quad", "sigmoid"] | None = None
    timesteps: Annotated[int, pydantic.Field(ge=2, le=LARGEST)] = 1000
    channels: Count
    size: tuple[Count, Count] | None = None  # height, width of the images it was trained on
    num_classes: Count | None = None
    null_class: bool = False
    classes: tuple[str, ...] | None = None
    low_res: str | None = None  # the degradation of its conditioning picture
    augmentation: float = 0.0  # largest noise on that picture in training

    def build(self) -> Prior:
        """The prior, its network freshly initialised. ValueError for sizes that no network has."""
        return self.around(self.build_network())

    def build_network(self) -> nn.Module:
        """The network alone."""
        options = {key: value for key, value in self.network.items() if key != "name"}
        entry = NETWORKS[str(self.network.get("name"))]
        return entry(**validated(entry, options)).build()

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

    Nothing in the file is executed, and its header is believed only as far as the tensors bear it out.
    """
    path = Path(path)
    path = path / IN_A_RUN if path.is_dir() else path
    if not path.is_file():
        raise ValueError(
            f"no prior at '{path}'; expected a .safetensors file of undiffuse or the folder of a run"
        )
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            if meta.get("kind") != KIND:
                raise ValueError(
                    f"'{path}' is no prior of undiffuse (kind {meta.get('kind')!r}, expected {KIND!r})"
                )
            config, facts = _header(path, meta)
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            net = _checked(path, config, shapes)
            net.load_state_dict({name: file.get_tensor(name) for name in shapes}, assign=True)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"'{path}' cannot be read as safetensors: {error}") from None
    prior = config.around(net)
    return Checkpoint(prior.eval().requires_grad_(False), config, facts)


def load_into(source: str | Path, prior: Prior) -> None:
    """The weights of a file or run into a prior of the same shapes: a start for training."""
    found = load(source)
    try:
        prior.net.load_state_dict(found.prior.net.state_dict())
    except RuntimeError as error:
        raise ValueError(f"'{source}' is of another network: {' '.join(str(error).split())[:300]}") from None


def _header(path: Path, meta: Mapping[str, str]) -> tuple[PriorConfig, dict[str, Any]]:
    try:
        return PriorConfig.model_validate_json(meta["config"]), dict(json.loads(meta["facts"]))
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, f"the header of '{path}'", PriorConfig)) from None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"the header of '{path}' is damaged: {error}; take the file from its source again"
        ) from None


def _checked(path: Path, config: PriorConfig, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """The network of a header, without memory, once its tensors are those of the file."""
    _plausible(path, config.network, len(shapes))
    with torch.device("meta"):
        net = config.build_network()
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        if wanted.get(name) != shapes.get(name):
            raise ValueError(
                f"'{path}' does not fit its own header: {name} is {shapes.get(name, 'missing')}, expected "
                f"{wanted.get(name, 'no such tensor')}; take the file from its source again"
            )
    return net


def _plausible(path: Path, network: Mapping[str, Any], tensors: int) -> None:
    """Before anything is built: no layer of absurd width, no more blocks than there are tensors."""
    for key, value in network.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int | float) and not 0 <= number <= LARGEST:
                raise ValueError(f"the header of '{path}' has {key} = {value}; expected 0 to {LARGEST}")
    deep = max([network.get("blocks", 1), *(len(v) for v in network.values() if isinstance(v, list | tuple))])
    if not isinstance(deep, int) or deep > tensors:
        raise ValueError(f"the header of '{path}' has more blocks than the file has tensors")
