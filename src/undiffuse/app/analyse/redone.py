"""A restoration read back from its folder, to be done again: the same measurement, algorithm, levels and noise."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydantic
import torch
from torch import Tensor

from undiffuse.app.measurement import Measurement, open_measurement
from undiffuse.app.methods import plan_method
from undiffuse.app.restore.task import Task, check_prior, open_asked
from undiffuse.config import RestoreConfig, explain, from_term
from undiffuse.core.images import read
from undiffuse.operators.build import build
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem

LARGEST = 2**24  # bytes of a record: a hundred thousand levels
SAME = 1e-5  # of values in [-1, 1]: ten roundings of a measurement that went through a file
KEPT: dict[str, Any] = {
    "config": dict,
    "algorithm": str,
    "options": dict,
    "sigmas": list,
    "noise": (int, float),
}


@dataclass(frozen=True, slots=True)
class Redone:
    """A task, and what is known of how it ended."""

    task: Task
    restored: Tensor | None  # (C, H, W) as it was saved, rounded to its file's depth
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What undiffuse restore left of a picture."""

    path: Path
    told: dict[str, Any]
    config: RestoreConfig

    @property
    def stem(self) -> Path:
        """What the names of its files begin with."""
        return self.path.with_suffix("")

    def __getitem__(self, name: str) -> Any:
        """A part of it; ValueError if it is of another kind than restore writes."""
        return _told(self.path, self.told, name, KEPT[name])


def read_record(result: Path, prior: str | None = None, draws: int | None = None) -> Record:
    """RESULT.json, with another prior's place or number of draws. ValueError for what is no record of restore.

    A record runs no code: plugins that it names are not loaded.
    """
    path = _record_path(result)
    told = _read(path)
    return Record(path, told, _config(path, told, prior, draws))


def reopened(record: Record) -> Redone:
    """The restoration of a record. ValueError, in one line, for what is missing or does not fit.

    The picture is measured again, and held against the stored measurement, which counts where they differ or where the
    picture is gone.
    """
    config, notes = record.config, list[str]()
    measurement = _measurement(record, notes)
    opened = open_asked(config, config.prior)
    label = check_prior(config, opened)
    entry = RESTORERS[record["algorithm"]]
    options = from_term(entry, None, {str(name): str(value) for name, value in record["options"].items()})
    sigmas = _levels(record)
    guided = config.guidance != 1
    method = plan_method(entry, options, opened, measurement.problem, len(sigmas), sigmas, guided=guided)
    if config.draws > 1 and entry.facts.get("deterministic"):
        raise ValueError(
            f"--draws {config.draws} with {entry.name}, whose draws are all the same; leave it out"
        )
    task = Task(config, opened, label, measurement, method)
    return Redone(task, _picture(record.stem, "restored"), tuple(notes))


def _record_path(result: Path) -> Path:
    if result.suffix == ".json" and result.is_file():
        return result
    if (path := result.with_name(result.name + ".json")).is_file():
        return path
    held = sorted(p for p in result.glob("*.json") if p.is_file()) if result.is_dir() else []
    if len(held) == 1:
        return held[0]
    several = f"choose one: {', '.join(str(p.with_suffix('')) for p in held[:5])}" if held else ""
    raise ValueError(
        f"no record '{path}'; "
        + (several or "give OUT/NAME of undiffuse restore (of a folder: --save record,y)")
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict) or any(name not in record for name in KEPT):
            raise ValueError(f"it has not all of {', '.join(KEPT)}")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is no record of undiffuse restore: {error}") from None
    return record


def _config(path: Path, record: dict[str, Any], prior: str | None, draws: int | None) -> RestoreConfig:
    given = _told(path, record, "config", dict) | {
        "plugins": (),
        "fleet": None,
        "workers": None,
        "save": None,
    }
    given |= {} if prior is None else {"prior": prior}
    given |= {} if draws is None else {"draws": draws}
    try:
        return RestoreConfig(**given)
    except (pydantic.ValidationError, TypeError) as error:
        why = (
            explain(error, "restore", RestoreConfig) if isinstance(error, pydantic.ValidationError) else error
        )
        raise ValueError(f"'{path}' holds settings that are none: {why}") from None


def _told(path: Path, record: dict[str, Any], name: str, kind: Any) -> Any:
    value = record[name]
    if not isinstance(value, kind):
        expected = "a number" if isinstance(kind, tuple) else f"a {kind.__name__}"
        raise ValueError(f"'{path}' holds {name} = {str(value)[:40]!r}; expected {expected}")
    return value


def _levels(record: Record) -> list[float]:
    """Those above 0."""
    levels = record["sigmas"]
    if len(levels) < 2 or not all(isinstance(v, int | float) for v in levels) or levels[-1] != 0:
        raise ValueError(f"'{record.path}' holds sigmas that are no falling levels with 0 at the end")
    return [float(level) for level in levels[:-1]]


def _measurement(record: Record, notes: list[str]) -> Measurement:
    stem, config = record.stem, record.config
    stored = _stored(stem)
    if not config.image.is_file():
        if stored is None:
            raise ValueError(
                f"neither the picture '{config.image}' nor a stored measurement '{stem}_y.npy' is there; "
                "run it from the folder that undiffuse restore ran in, or restore again with --save y,record"
            )
        notes.append(f"the picture '{config.image}' is not there: the measurement is the stored one")
        return _from_stored(record, stored)
    found = open_measurement(config)
    if stored is None:
        notes.append("the measurement was not stored, and is made again from the picture")
        return found
    problem = found.problem
    stored = stored.reshape(problem.y.shape) if stored.numel() == problem.y.numel() else stored
    if stored.shape == problem.y.shape and (stored - problem.y).abs().max() <= SAME:
        return found
    notes.append(f"'{config.image}' gives another measurement than the stored one, which is used")
    return replace(found, problem=Problem(problem.A, stored, problem.sigma_y))


def _from_stored(record: Record, y: Tensor) -> Measurement:
    stem, config = record.stem, record.config
    restored = _picture(stem, "restored")
    if restored is None:
        raise ValueError(f"the picture's size is not known without '{stem}_restored.png'; restore it again")
    A = build(config.degrade, tuple(restored.shape)).to(y.dtype)
    if y.numel() != torch.Size(A.out_shape).numel():
        raise ValueError(
            f"'{stem}_y.npy' holds {y.numel()} values; expected {torch.Size(A.out_shape).numel()}"
        )
    given = config.reference if config.reference is not None and config.reference.is_file() else None
    clean = read(given).pixels if given is not None else _picture(stem, "original")
    if clean is not None and clean.shape != restored.shape:
        raise ValueError(
            f"the reference is {tuple(clean.shape)} and the restored picture {tuple(restored.shape)}"
        )
    problem = Problem(A, y.reshape(1, *A.out_shape), 2 * float(record["noise"]))
    return Measurement(problem, None if clean is None else clean[None], 0.0, None, (), config)


def _stored(stem: Path) -> Tensor | None:
    """(1, ...) in [-1, 1] units."""
    path = stem.with_name(f"{stem.name}_y.npy")
    return read(path, measured=True).pixels[None] if path.is_file() else None


def _picture(stem: Path, kind: str) -> Tensor | None:
    for suffix in (".png", ".tif"):
        if (path := stem.with_name(f"{stem.name}_{kind}{suffix}")).is_file():
            return read(path).pixels
    return None
