"""Where pulled files lie, and what is remembered of each."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from undiffuse.app.events import Progress
from undiffuse.core.images import replace_file

CHUNK = 2**22


@dataclass(frozen=True, slots=True)
class Record:
    """What came, beside the file as NAME.json: a later pull compares."""

    name: str
    url: str  # where it was fetched; empty for a file that was put there by other means
    bytes: int
    sha256: str
    checked: str | None  # "sha256" or "md5", compared with a known one; None: none is known
    pulled: str  # date


def shelf() -> Path:
    """The folder of pulled files: UNDIFFUSE_CACHE, else the platform's folder for caches."""
    if given := os.environ.get("UNDIFFUSE_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "undiffuse"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "undiffuse"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "undiffuse"


def record_of(path: Path) -> Path:
    """Beside a pulled file."""
    return path.with_name(path.name + ".json")


def remembered(path: Path) -> Record | None:
    """The record of a file, whether or not the file is still there; None without one. ValueError for a damaged one."""
    try:
        found = json.loads(record_of(path).read_text(encoding="utf-8"))
        record = Record(**found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    if not re.fullmatch(r"[0-9a-f]{64}", str(record.sha256)) or not isinstance(record.bytes, int):
        raise _damaged(path, "it has no sha256 of 64 digits, or no bytes")
    return record


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(
        f"'{record_of(path)}', the record of what was pulled, is damaged ({why}); a file cannot be compared with it: "
        "remove it to take the next one as it comes"
    )


def remember(path: Path, record: Record) -> None:
    """Write the record, whole or not at all."""
    replace_file(record_of(path), (json.dumps(asdict(record), indent=1) + "\n").encode())


def digests(path: Path, names: tuple[str, ...]) -> Iterator[Progress | dict[str, str]]:
    """Progress, then the checksums of a file by name."""
    found = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    total, done = path.stat().st_size, 0
    with open(path, "rb") as file:
        while data := file.read(CHUNK):
            for digest in found.values():
                digest.update(data)
            done += len(data)
            yield Progress(done // 2**20, max(1, total // 2**20), f"checking {path.name}, MiB")
    yield {name: digest.hexdigest() for name, digest in found.items()}
