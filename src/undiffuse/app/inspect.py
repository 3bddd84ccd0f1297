"""What a file of weights is, in lines: for ours what it says, for others what can be told and what cannot."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undiffuse.app.events import Done, Event, Progress
from undiffuse.app.pull import named_file
from undiffuse.app.pull.shelf import digests
from undiffuse.checkpoints import Given, NoisyClassifierConfig, PriorConfig, classifier, native
from undiffuse.checkpoints.facts import HINTS, parse_given
from undiffuse.checkpoints.formats import describe, fitted, is_ours, native_file, opened
from undiffuse.checkpoints.known import Known, known
from undiffuse.checkpoints.weights import Weights, open_header, open_weights

STAND_INS = {"heads": 1, "schedule": "linear", "size": (256, 256), "low_res": "sr4"}


@dataclass(frozen=True, slots=True)
class Inspected:
    """A file, as far as it can be told."""

    path: Path
    lines: tuple[str, ...]
    missing: tuple[str, ...]  # options that `--prior-options` has to give before it can be used


def inspect(text: str, options: str | None = None) -> Iterator[Event]:
    """Progress of reading, and an `Inspected`. ValueError, in one line, for a file that is of no known form.

    text: a path, or the name of a prior that is built in or pulled.
    """
    with named_file(text) as path:
        yield from _inspect(native_file(path), options)


def _inspect(file: Path, options: str | None) -> Iterator[Event]:
    given = parse_given(options)
    ours = is_ours(file)
    if ours and options:
        raise ValueError(f"--prior-options {options}: '{file}' is of undiffuse and tells all itself")
    weights = open_weights(file) if ours else opened(file, given)
    lines, missing = _ours(file) if ours else _foreign(weights, given)
    sums = dict[str, str]()
    for event in digests(file, ("sha256", "md5")):
        if isinstance(event, Progress):
            yield event
        else:
            sums = event
    told = (*_tensors(weights), *_sums(file, sums), *lines)
    yield Done(Inspected(file, told, missing))


def _tensors(weights: Weights) -> Iterator[str]:
    tensors = weights.tensors.values()
    count = sum(value.numel() for value in tensors)
    size = weights.path.stat().st_size
    yield f"{len(tensors)} tensors, {count:,} parameters, {', '.join(weights.dtypes)}; {size:,} bytes"
    yield from weights.wrapped


def _sums(path: Path, sums: Mapping[str, str]) -> Iterator[str]:
    """The digest, and whether it is a published one."""
    same = [file for file in known().values() if sums["sha256"] == file.sha256 or sums["md5"] == file.md5]
    told = f": as published of {same[0].name}" if same else _otherwise(path, known())
    yield f"sha256 {sums['sha256']}{told}"


def _otherwise(path: Path, files: Mapping[str, Known]) -> str:
    named = next((file for file in files.values() if file.is_named(path)), None)
    if named is None or not (named.sha256 or named.md5):
        return ""
    return f": not what is published of {named.name}; expected {named.sha256 or 'md5 ' + str(named.md5)}"


def _ours(path: Path) -> tuple[list[str], tuple[str, ...]]:
    kind = open_header(path).get("kind", "")
    config: PriorConfig | NoisyClassifierConfig
    if kind == classifier.KIND:
        _, config, facts = classifier.load_classifier(path)
    else:
        found = native.load(path)
        config, facts = found.config, found.facts
    lines = [f"form: {kind}"]
    lines += [f"{key}: {_text(value)}" for key, value in config.model_dump(exclude_none=True).items()]
    lines += [f"{key}: {_text(value)}" for key, value in facts.items()]
    return lines, ()


def _foreign(weights: Weights, given: Given) -> tuple[list[str], tuple[str, ...]]:
    found = describe(weights, given)
    lines = [f"form: {found.form}", *found.told]
    lines += [f"{key}: {_text(value)}" for key, value in found.facts.items()]
    if not any("EMA" in line for line in weights.wrapped):
        by_name = (
            "averaged (EMA), by the file's name" if "ema" in weights.path.as_posix().lower() else "not told"
        )
        lines.append(f"raw or averaged weights: one set, {by_name}")
    if found.config is None:
        _check_fit(weights, given, found.missing)
    else:
        found.config.around(fitted(weights.path, found.config, found.tensors))  # refuses what does not fit
    return lines, found.missing


def _check_fit(weights: Weights, given: Given, missing: tuple[str, ...]) -> None:
    """ValueError for tensors that do not fit, whatever options are still missing: no shape depends on them."""
    stand_ins = {name: value for name, value in STAND_INS.items() if HINTS[name] in missing}
    found = describe(weights, given.model_copy(update=stand_ins))
    if found.config is not None:
        fitted(weights.path, found.config, found.tensors)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ("; " if any(" " in str(part) for part in value) else " ").join(map(str, value))
    return str(value)
