"""A prior or a classifier of any form as one file of ours, or as a folder of diffusers."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.outputs import check_writable, make_folder
from undiffuse.app.priors import PRECISIONS
from undiffuse.app.pull import named_file
from undiffuse.checkpoints import (
    Checkpoint,
    Given,
    NoisyClassifierConfig,
    PriorConfig,
    load,
    load_classifier,
    parse_given,
    save,
    save_classifier,
)
from undiffuse.checkpoints.classifier import KIND as CLASSIFIER
from undiffuse.checkpoints.diffusers import export
from undiffuse.checkpoints.formats import describe, is_ours, native_file, opened
from undiffuse.checkpoints.weights import open_header
from undiffuse.config.convert import ConvertConfig
from undiffuse.operators.build import build
from undiffuse.priors import NoisyClassifier, Prior


def convert(config: ConvertConfig) -> Iterator[Event]:
    """Progress, and the path. ValueError, in one line, before anything is written, for what cannot be done.

    Our file says all: description, source with its digest, and what was given. It is loaded without options.
    """
    with named_file(config.file) as path:
        file = native_file(path)
        _check(config)
        if config.to == "undiffuse" and config.out.suffix != ".safetensors":
            config = config.model_copy(update={"out": config.out / f"{path.stem}.safetensors"})
            _check(config)
        yield from _convert(config, file)


def _convert(config: ConvertConfig, path: Path) -> Iterator[Event]:
    given = parse_given(config.prior_options)
    ours = is_ours(path)
    if ours:
        classifying = open_header(path).get("kind") == CLASSIFIER
    else:
        classifying = describe(opened(path, given), given).classifies
    yield Progress(0, 2, f"reading {path.name}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    source = {} if ours else {"source": path.name, "source_sha256": digest}
    if classifying and config.to == "diffusers":
        raise ValueError("diffusers has no classifiers of noisy pictures; leave out --to diffusers")
    found = _loaded(path, given, classifying)
    yield from map(Note, found.told)
    if config.to == "diffusers" and isinstance(found.description, PriorConfig):
        yield from map(Note, _lost(found.description))
    if config.precision != "fp32":
        _check_finite(found.model.net, config.precision)
    yield Progress(1, 2, f"writing {config.out.name}")
    make_folder(config.out.parent)
    if config.precision != "fp32":
        found.model.net.to(PRECISIONS[config.precision])
    _write(config, found, {**found.facts, **source})
    yield Progress(2, 2, "done")
    yield Saved(config.out)
    yield Done(config.out)


def _lost(config: PriorConfig) -> list[str]:
    """What a folder of diffusers has no place for."""
    if config.made_for is None:
        return []
    levels = ", ".join(f"{level:.6g}" for level in config.made_for.sigmas or ())
    on = f" on sigma {levels}" if levels else ""
    return [f"made for {config.made_for}{on}; a folder of diffusers has no place for that: note it down"]


def _check(config: ConvertConfig) -> None:
    here = config.out.is_dir()
    free = config.out.suffix == "" if config.to == "undiffuse" else here and not any(config.out.iterdir())
    if config.out.exists() and not (here and free):
        raise ValueError(f"'{config.out}' exists already; choose another name, or remove it")
    if config.to == "undiffuse" and config.out.suffix not in ("", ".safetensors"):
        raise ValueError(f"'{config.out}'; expected a name that ends in .safetensors, or a folder")
    check_writable(config.out.parent)


def _check_finite(net: nn.Module, precision: str) -> None:
    """ValueError, with the first, for numbers that are beyond what this precision holds."""
    for name, value in net.state_dict().items():
        lost = value.isfinite() & ~value.to(PRECISIONS[precision]).isfinite()
        if lost.any():
            largest = value[lost].abs().max().item()
            remedy = "bf16" if precision == "fp16" else "fp32"
            raise ValueError(
                f"--precision {precision} cannot hold {largest:.6g}, which is in {name}; use {remedy}"
            )


def _check_low_res(config: PriorConfig) -> None:
    """ValueError for a degradation that cannot be: nobody could draw from a file that says so."""
    if config.low_res is not None and config.size is not None:
        build(config.low_res, (config.channels, *config.size))


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: Prior | NoisyClassifier
    description: PriorConfig | NoisyClassifierConfig
    facts: Mapping[str, Any]
    told: tuple[str, ...]


def _loaded(path: Path, given: Given, classifying: bool) -> _Loaded:
    if classifying:
        model, description, facts = load_classifier(path, given)
        return _Loaded(model, description, facts, () if is_ours(path) else tuple(facts["told"]))
    found = load(path, given)
    _check_low_res(found.config)
    return _Loaded(found.prior, found.config, found.facts, found.told)


def _write(config: ConvertConfig, found: _Loaded, facts: Mapping[str, Any]) -> None:
    if isinstance(found.model, NoisyClassifier):
        assert isinstance(found.description, NoisyClassifierConfig)
        save_classifier(config.out, found.model, found.description, facts)
        return
    assert isinstance(found.description, PriorConfig)
    if config.to == "diffusers":
        export(Checkpoint(found.model, found.description, facts), config.out)
    else:
        save(config.out, found.model, found.description, facts)
