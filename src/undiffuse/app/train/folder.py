"""The folder of a run: what was asked, what happened, and what came out."""

import csv
import io
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from undiffuse.config import TrainConfig
from undiffuse.config.train import changed, read_yaml, write_yaml
from undiffuse.core.images import replace_file

CONFIG, RESUME, PRIOR = "config.yaml", "resume.safetensors", "prior.safetensors"
LOG, CHECKS, MEMORY, TEXT = "log.csv", "validation.csv", "memory.csv", "train.log"
MAY_CHANGE = ("train.steps", "train.log_every", "train.check_every", "train.keep_every", "train.save_minutes")
MAY_CHANGE += ("train.precision", "train.compile", "train.channels_last", "train.part")  # how, not what
MAY_CHANGE += ("train.pictures", "train.validate_images", "data.path", "data.workers", "data.licence")


class Table:
    """A CSV whose rows are appended as they come. `after` = images seen: rows beyond it are of a lost stretch."""

    def __init__(self, path: Path, columns: Sequence[str], after: int | None = None):
        self.path, self.columns = path, list(columns)
        rows = [] if after is None else [row for row in read_rows(path) if int(row["images"]) <= after]
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)
        replace_file(path, text.getvalue().encode())

    def add(self, row: Mapping[str, Any]) -> None:
        """Numbers to six digits; NaN as an empty field."""
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([_shown(row.get(name)) for name in self.columns])


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The complete rows of a table; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            row
            for row in csv.DictReader(file)
            if None not in row.values() and row.get("images", "").isdigit()
        ]


class TextLog:
    """train.log: a line an event, with the time."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")


def take(folder: Path, config: TrainConfig, resume: bool) -> int | None:
    """Make the folder, or check that it holds this very run, and hold it for this process: a handle to close.

    Nothing is deleted: a folder with a run in it needs --resume, and anything else in it stays.
    """
    stored = folder / CONFIG
    asked = config.model_dump(mode="json")
    if stored.exists():
        if not resume:
            raise ValueError(
                f"'{folder}' already holds a run; add --resume to go on, or choose another with --out"
            )
        free = tuple(f"{name}:" for name in MAY_CHANGE)
        differences = [line for line in changed(read_yaml(stored), asked) if not line.startswith(free)]
        if differences:
            raise ValueError(
                f"'{folder}' was begun with other settings ({'; '.join(differences[:5])}); expected the same: "
                "set them back, or choose another folder with --out"
            )
    elif folder.exists() and not folder.is_dir():
        raise ValueError(f"'{folder}' is not a folder; choose another with --out")
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot make the folder '{folder}': {error.strerror}; choose another with --out"
        ) from None
    handle = _alone(folder)
    replace_file(stored, write_yaml(asked).encode())
    return handle


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
