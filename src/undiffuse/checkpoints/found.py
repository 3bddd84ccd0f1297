"""What a format makes of a file's tensors: the description of a prior or a classifier, and what is still unknown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from undiffuse.checkpoints.classifier import NoisyClassifierConfig
from undiffuse.checkpoints.facts import Facts, Given
from undiffuse.checkpoints.known import Known, known
from undiffuse.checkpoints.native import PriorConfig
from undiffuse.checkpoints.weights import Weights
from undiffuse.config import validated
from undiffuse.registry import NETWORKS


@dataclass(frozen=True, slots=True)
class Found:
    """A file from outside, read as one form. `config` is None while something is missing."""

    form: str  # in words
    config: PriorConfig | NoisyClassifierConfig | None
    tensors: Mapping[str, Tensor]  # under the names of our network, views of the file where that is possible
    told: tuple[str, ...]  # "heads: 4 (given)"
    missing: tuple[str, ...] = ()  # options of --prior-options, with an example
    facts: Mapping[str, Any] = field(default_factory=dict)  # known file, data, licence

    @property
    def classifies(self) -> bool:
        """A classifier for guidance, and no prior."""
        return self.form.endswith("classifier")


class Format(Protocol):
    """A form of published files."""

    def matches(self, weights: Weights) -> bool:
        """Whether the names of the tensors, or what came with them, are of this form."""
        ...

    def describe(self, weights: Weights, given: Given) -> Found:
        """ValueError for what our networks cannot be, in one line without the file's name."""
        ...


def alike(form: str, sizes: Mapping[str, Any], path: Path) -> list[Known]:
    """The known files with a network of these sizes (`name` among them); of these the one named so, if there is one."""
    same = [file for file in known().values() if file.format == form and _same(file, sizes)]
    return [file for file in same if file.is_named(path)] or same


def _same(file: Known, sizes: Mapping[str, Any]) -> bool:
    whole = network_of(file)
    return all(whole.get(key) == value for key, value in sizes.items())


def network_of(file: Known) -> dict[str, Any]:
    """The sizes of a known file's network, all of them, and its `name`."""
    sizes = {key: value for key, value in file.network.items() if key != "name"}
    name = file.network.get("name", {"adm": "adm", "ho_ddpm": "ddpm"}[file.format])
    entry = NETWORKS[name]
    return {"name": name, **asdict(entry(**validated(entry, sizes)))}


def written(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes of a network as a header holds them: lists, not tuples."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in sizes.items()}


def of_known(files: Sequence[Known], path: Path) -> dict[str, Any]:
    """What the table says of a file that is named as in it; of another, only which have the same shapes."""
    if not files or not files[0].is_named(path):
        return {"shapes_of": [file.name for file in files]} if files else {}
    told = {"known": files[0].name, "data": files[0].data, "licence": files[0].licence}
    return {name: value for name, value in told.items() if value is not None}


def timesteps(facts: Facts, prediction: bool = True) -> dict[str, Any]:
    """The fields of a description that say what a network is told, and what it answers."""
    taken = {
        "schedule": facts.take("schedule", lambda file: file.schedule),
        "timesteps": facts.take("timesteps", lambda file: file.timesteps, 1000),
        "beta_start": facts.take("beta_start", default=None),
        "beta_end": facts.take("beta_end", default=None),
        "time_scale": facts.take("time_scale", lambda file: file.time_scale, 1.0),
    }
    if prediction:
        taken["prediction"] = facts.take("prediction", lambda file: file.prediction, "eps")
    return taken


def square(facts: Facts, required: bool = False) -> tuple[int, int] | None:
    """The size of the pictures it was trained on."""
    default: Any = {} if required else {"default": None}
    size = facts.take("size", lambda file: (file.size, file.size), **default)
    return None if size is None else (int(size[0]), int(size[1]))
