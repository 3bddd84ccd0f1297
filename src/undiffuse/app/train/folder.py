"""The folder of a run: what was asked, what happened, and what came out."""

import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from undiffuse.app.series import complete_lines
from undiffuse.config import TrainConfig
from undiffuse.config.train import changed, checked_train, read_yaml, write_yaml
from undiffuse.core.images import replace_file

CONFIG, RESUME, PRIOR = "config.yaml", "resume.safetensors", "prior.safetensors"
LOG, CHECKS, MEMORY, TEXT = "log.csv", "validation.csv", "memory.csv", "train.log"
MAY_CHANGE = ("train.steps", "train.log_every", "train.check_every", "train.keep_every", "train.save_minutes")
MAY_CHANGE += ("train.precision", "train.compile", "train.channels_last", "train.part")  # how, not what
MAY_CHANGE += ("train.pictures", "train.validate_images", "data.path", "data.workers", "data.licence")
MAY_CHANGE += ("distil.teacher",)  # where it is: what it is, its sha256 says


class Table:
    """A CSV whose rows are appended as they come. `after` = images seen: rows beyond it are of a lost stretch."""

    def __init__(self, path: Path, columns: Sequence[str], after: int | None = None):
        self.path, self.columns = path, list(columns)
        rows = [] if after is None else [row for row in read_rows(path) if int(row["images"]) <= after]
        lines = [self.columns, *([row.get(name, "") for name in self.columns] for row in rows)]
        replace_file(path, "".join(",".join(line) + "\r\n" for line in lines).encode())

    def add(self, row: Mapping[str, Any]) -> None:
        """Numbers to six digits; NaN as an empty field."""
        _append(self.path, ",".join(_shown(row.get(name)) for name in self.columns) + "\r\n")


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of a table; none if there is no such file. ValueError for another table."""
    lines = complete_lines(path)
    names = next(lines, ["images"])
    if "images" not in names:
        raise ValueError(
            f"'{path}' has no column 'images'; expected a table of this run; mend it, or move it away"
        )
    rows = [dict(zip(names, line, strict=True)) for line in lines if len(line) == len(names)]
    return [row for row in rows if re.fullmatch("[0-9]{1,18}", row["images"])]


class TextLog:
    """train.log: a line an event, with the time."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, text: str) -> None:
        _append(self.path, f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")


def _append(path: Path, text: str) -> None:
    try:
        # Names of files can hold bytes that are no text, and are told here.
        with path.open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise ValueError(
            f"'{path}' cannot be written ({error.strerror}); free some space, and go on with --resume"
        ) from None


def check_new(folder: Path, resume: bool) -> None:
    """ValueError for a folder with a run in it, unless it is to go on."""
    if not resume and (folder / CONFIG).exists():
        raise ValueError(
            f"'{folder}' already holds a run; add --resume to go on, or choose another with --out"
        )


@contextmanager
def take(folder: Path, config: TrainConfig, resume: bool) -> Iterator[None]:
    """Make the folder, or check that it holds this very run, and hold it for this process.

    Nothing is deleted: a folder with a run in it needs --resume, and anything else in it stays.
    """
    stored = folder / CONFIG
    check_new(folder, resume)
    if stored.exists():
        # A student begins with the student before it, wherever their folder lies by now.
        may_change = MAY_CHANGE if config.distil is None else (*MAY_CHANGE, "train.start")
        free = tuple(f"{name}:" for name in may_change)
        found = changed(_stored(stored), config.model_dump(mode="json"))
        differences = [line for line in found if not line.startswith(free)]
        if differences:
            raise ValueError(
                f"'{folder}' was begun with other settings ({'; '.join(differences[:5])}); expected the same: "
                "set them back, or choose another folder with --out"
            )
    elif folder.exists() and not folder.is_dir():
        raise ValueError(f"'{folder}' is not a folder; choose another with --out")
    elif left := [name for name in (RESUME, PRIOR, LOG) if (folder / name).exists()]:
        raise ValueError(
            f"'{folder}' holds {left[0]} of an unknown run, without {CONFIG}; choose another with --out"
        )
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot make the folder '{folder}': {error.strerror}; choose another with --out"
        ) from None
    handle = _alone(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _stored(path: Path) -> dict[str, Any]:
    """What was asked, with today's defaults for options that are younger than the run."""
    tree = read_yaml(path)
    try:
        return checked_train(tree, (), f"'{path}'").model_dump(mode="json")
    except ValueError:  # holds what no run is asked for any more: told as a difference
        return tree


def keep_config(folder: Path, config: TrainConfig) -> None:
    """What was asked, for who goes on."""
    replace_file(folder / CONFIG, write_yaml(config.model_dump(mode="json")).encode())


def _alone(folder: Path) -> int | None:
    """A lock on the folder, where the system has locks; ValueError if another run has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise ValueError(
            f"another process is training in '{folder}'; stop it, or choose another with --out"
        ) from None
    return handle
