"""A prior or a classifier of any form as one file of ours, or as a folder of diffusers."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.outputs import check_writable, make_folder
from undiffuse.app.priors import PRECISIONS
from undiffuse.checkpoints import load, load_classifier, native, parse_given, save, save_classifier
from undiffuse.checkpoints.classifier import KIND as CLASSIFIER
from undiffuse.checkpoints.diffusers import export
from undiffuse.checkpoints.formats import describe, is_ours, native_file, opened
from undiffuse.checkpoints.weights import open_header
from undiffuse.config import Options

FORMS = ("undiffuse", "diffusers")


class ConvertConfig(Options):
    """What `undiffuse priors convert` is told."""

    file: Path  # of any form, or a folder
    out: Path  # a file, or a folder for it
    to: str = "undiffuse"
    prior_options: str | None = None
    precision: str = "fp32"  # that the weights are stored in


def convert(config: ConvertConfig) -> Iterator[Event]:
    """Progress, and the path. ValueError, in one line, before anything is written, for what cannot be done.

    Our file says all: description, source with its digest, and what was given. It is loaded without options.
    """
    path, given = native_file(config.file), parse_given(config.prior_options)
    _check(config)
    if config.to == "undiffuse" and config.out.suffix != ".safetensors":
        config = config.model_copy(update={"out": config.out / f"{config.file.stem}.safetensors"})
        _check(config)
    ours = is_ours(path)
    if ours:
        classifying = open_header(path).get("kind") == CLASSIFIER
    else:
        classifying = describe(opened(path, given), given).classifies
    yield Progress(0, 2, f"reading {path.name}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    source = {} if ours else {"source": path.name, "source_sha256": digest}
    if classifying:
        if config.to == "diffusers":
            raise ValueError("diffusers has no classifiers of noisy pictures; leave out --to diffusers")
        model, description, facts = load_classifier(path, given)
        yield from map(Note, () if ours else facts["told"])
        yield Progress(1, 2, f"writing {config.out.name}")
        make_folder(config.out.parent)
        _stored(model.net, config.precision)
        save_classifier(config.out, model, description, {**facts, **source})
    else:
        found = load(path, given)
        yield from map(Note, found.told)
        yield Progress(1, 2, f"writing {config.out.name}")
        make_folder(config.out.parent)
        _stored(found.prior.net, config.precision)
        if config.to == "diffusers":
            export(native.Checkpoint(found.prior, found.config, {**found.facts, **source}), config.out)
        else:
            save(config.out, found.prior, found.config, {**found.facts, **source})
    yield Progress(2, 2, "done")
    yield Saved(config.out)
    yield Done(config.out)


def _check(config: ConvertConfig) -> None:
    if config.to not in FORMS:
        raise ValueError(f"--to {config.to}; expected {' or '.join(FORMS)}")
    if config.precision not in ("fp32", *PRECISIONS):
        raise ValueError(f"--precision {config.precision}; expected fp32, bf16 or fp16")
    folder = config.to == "undiffuse" and config.out.suffix == ""
    if config.out.exists() and not (folder and config.out.is_dir()):
        raise ValueError(f"'{config.out}' exists already; choose another name, or remove it")
    if config.to == "undiffuse" and config.out.suffix not in ("", ".safetensors"):
        raise ValueError(f"'{config.out}'; expected a name that ends in .safetensors, or a folder")
    check_writable(config.out.parent)


def _stored(net: nn.Module, precision: str) -> None:
    if precision != "fp32":
        net.to(PRECISIONS[precision])
