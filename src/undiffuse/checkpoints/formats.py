"""Checkpoints of every form that is known: ours first, then those of others, told by the names of their tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.checkpoints import classifier, native
from undiffuse.checkpoints.adm import ADMFormat
from undiffuse.checkpoints.classifier import NoisyClassifierConfig
from undiffuse.checkpoints.described import check_size
from undiffuse.checkpoints.diffusers import DiffusersFormat, weights_of, with_settings
from undiffuse.checkpoints.edm import EDMFormat, is_snapshot, open_snapshot
from undiffuse.checkpoints.facts import Given
from undiffuse.checkpoints.found import Format, Found, network_of
from undiffuse.checkpoints.ho_ddpm import HoFormat
from undiffuse.checkpoints.known import Known, known
from undiffuse.checkpoints.native import IN_A_RUN, Checkpoint, PriorConfig
from undiffuse.checkpoints.weights import Shapes, Weights, open_header, open_weights, shown
from undiffuse.config import validated
from undiffuse.priors import NoisyClassifier
from undiffuse.registry import NETWORKS

FORMATS: tuple[Format, ...] = (DiffusersFormat(), EDMFormat(), ADMFormat(), HoFormat())
HALF = {"adm": "input_blocks.", "ho_ddpm": "down."}  # how names begin
SHOWN = 4  # differences in a message
NO_PRIOR = "'{}' is a classifier, no prior; give it with --classifier"
NO_CLASSIFIER = "'{}' is a prior, no classifier; give it with --prior"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network with what its file says of it, or what was found out about it."""

    net: nn.Module  # float32, in evaluation mode
    config: PriorConfig | NoisyClassifierConfig
    facts: Mapping[str, Any]  # data, licence, steps and whatever else is known
    told: tuple[str, ...]  # of a file from outside: each fact and where it was taken from


def load(path: str | Path, given: Given | None = None) -> Checkpoint:
    """The prior of a file of any form, or of a run's folder, in float32.

    ValueError, in one line, for a file that holds none; for a fact that neither the file, the table of known files nor
    `given` tells; and for a fact given of a file that tells it.
    """
    path = native_file(path)
    given = given or Given()
    if is_ours(path):
        _refuse(path, given)
        if open_header(path).get("kind") == classifier.KIND:
            raise ValueError(NO_PRIOR.format(path))
        return native.load(path)
    found = foreign(path, given)
    if not isinstance(found.config, PriorConfig):
        raise ValueError(NO_PRIOR.format(path))
    return Checkpoint(found.config.around(found.net).eval(), found.config, found.facts, found.told)


def load_classifier(
    path: str | Path, given: Given | None = None
) -> tuple[NoisyClassifier, NoisyClassifierConfig, Mapping[str, Any]]:
    """The classifier of a file of any form, or of a run's folder; ValueError as of `load`."""
    path = native_file(path)
    given = given or Given()
    if is_ours(path):
        _refuse(path, given)
        if open_header(path).get("kind") == native.KIND:
            raise ValueError(NO_CLASSIFIER.format(path))
        return classifier.load_classifier(path)
    found = foreign(path, given)
    if not isinstance(found.config, NoisyClassifierConfig):
        raise ValueError(NO_CLASSIFIER.format(path))
    return found.config.around(found.net), found.config, found.facts


def native_file(path: str | Path) -> Path:
    """The file of a run's folder, or of one of diffusers, else the path as it is. ValueError if there is nothing."""
    path = Path(path)
    if (path / IN_A_RUN).is_file():
        return path / IN_A_RUN
    if (weights := weights_of(path)) is not None:
        return weights
    if not path.is_file():
        raise ValueError(
            f"no prior at '{path}'; expected a file of weights, or the folder of a run or of diffusers"
        )
    return path


def is_ours(path: Path) -> bool:
    """Whether a file says that it is of undiffuse: such a file is never read as another form."""
    return str(open_header(path).get("kind", "")).startswith("undiffuse ")


def _refuse(path: Path, given: Given) -> None:
    asked = [name for name in Given.model_fields if getattr(given, name) is not None]
    if asked:
        raise ValueError(f"--prior-options {', '.join(asked)}: '{path}' is of undiffuse and tells all itself")


def foreign(path: Path, given: Given) -> Loaded:
    """The network of a file from outside, around the file's own memory."""
    weights = opened(path, given)
    found = describe(weights, given)
    if found.config is None:
        how = "give it with --prior-options"
        if found.classifies:
            how = f"give it once, with undiffuse priors convert {path} FILE.safetensors --prior-options ..."
        raise ValueError(f"'{path}' ({found.form}) does not tell {', '.join(found.missing)}: {how}")
    net = fitted(path, found.config, found.tensors)
    told = (*weights.wrapped, *found.told)
    return Loaded(net, found.config, {"form": found.form, **found.facts, "told": list(told)}, told)


def opened(path: Path, given: Given) -> Weights:
    """The tensors of a file from outside, with what stands beside them. ValueError, in one line, if it holds none."""
    if is_snapshot(path):
        return open_snapshot(path)
    return with_settings(open_weights(path, raw=given.weights == "raw"))


def describe(weights: Weights, given: Given) -> Found:
    """What a file is. ValueError if it is of no known form, with the nearest known file."""
    for form in FORMATS:
        if form.matches(weights):
            try:
                return form.describe(weights, given)
            except ValueError as error:
                raise ValueError(f"'{weights.path}': {error}") from None
    raise ValueError(f"'{weights.path}' is of no known form: {nearest(weights.shapes)}")


def fitted(
    path: Path, config: PriorConfig | NoisyClassifierConfig, tensors: Mapping[str, Tensor]
) -> nn.Module:
    """The network of a description around these tensors, which are not copied. ValueError if they do not fit."""
    try:
        config.bounded(len(tensors))
        with torch.device("meta"):
            net = config.build_network()
        check_size(net, config.size)
    except (RuntimeError, OverflowError) as error:
        raise ValueError(f"'{path}': sizes that no tensor has ({str(error)[:200]})") from None
    except ValueError as error:
        raise ValueError(f"'{path}': {error}") from None
    wanted = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    if wanted != shapes:
        raise ValueError(f"'{path}' does not fit: {_differences(shapes, wanted)}; {nearest(shapes)}")
    net.load_state_dict(dict(tensors), assign=True)
    net.float()  # half precision is for storing; `lowered` makes it one for computing
    return net.eval().requires_grad_(False)


def nearest(shapes: Shapes) -> str:
    """The known file that has most tensors in common with these shapes, and how it differs, in words."""
    best, most, how = None, 0, ""
    for file in _different(known(), shapes):
        wanted = _known_shapes(file)
        common = sum(shapes.get(name) == shape for name, shape in wanted.items())
        if common > most:
            best, most = file, common
            how = f"{common} of {len(wanted)} tensors agree, but {_differences(shapes, wanted)}"
    if best is None:
        some = ", ".join(map(shown, list(shapes)[:SHOWN]))
        return f"no known file has a tensor of these names and shapes ({some[:200]}, ...)"
    return f"the nearest known file is {best.name}: {how}"


def _different(files: Mapping[str, Known], shapes: Shapes) -> list[Known]:
    """Known files with names like these; of those with one network the first."""
    found: dict[str, Known] = {}
    for file in files.values():
        if any(name.startswith(HALF[file.format]) for name in shapes):
            found.setdefault(str(sorted(file.network.items())), file)
    return list(found.values())


def _known_shapes(file: Known) -> Shapes:
    sizes = network_of(file)
    entry = NETWORKS[sizes.pop("name")]
    with torch.device("meta"):
        net: nn.Module = entry(**validated(entry, sizes)).build()
    return {name: tuple(value.shape) for name, value in net.state_dict().items()}


def _differences(shapes: Shapes, wanted: Shapes) -> str:
    """The first few tensors that are not as expected."""
    lines: list[str] = []
    for name in [*wanted, *(name for name in shapes if name not in wanted)]:
        if shapes.get(name) != wanted.get(name):
            expected = wanted.get(name, "no such tensor")
            lines.append(f"{shown(name)} is {shapes.get(name, 'missing')}, expected {expected}")
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "; ".join(lines[:SHOWN]) + more if lines else "nothing differs"
