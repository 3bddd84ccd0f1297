"""A published file from the first of its addresses that gives it."""

import os
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.outputs import alone, check_writable, make_folder
from undiffuse.app.pull.shelf import Record, digests, remember, remembered, shelf
from undiffuse.app.pull.transfer import Patience, Refused, Wanted, forget, transfer

PICKLE, ZIP, LONGEST_HEADER = b"\x80", b"PK\x03\x04", 2**28


@dataclass(frozen=True, slots=True)
class Source:
    """A published file."""

    name: str
    file: str  # what it is called
    urls: tuple[str, ...]  # the publisher's first
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    hashed_by: Literal["publisher", "users"] = "publisher"  # who computed the checksum
    note: str = ""  # what is known about the addresses

    def __post_init__(self) -> None:
        if not all(re.fullmatch(r"\w[\w.-]*", part) for part in (self.name, self.file)):
            raise ValueError(
                f"'{self.name}', '{self.file}': expected names of letters, digits, dots and dashes"
            )

    @property
    def checksum(self) -> Literal["sha256", "md5"] | None:
        """The kind that is known, the stronger one if both are."""
        return "sha256" if self.sha256 else "md5" if self.md5 else None


@dataclass(frozen=True, slots=True)
class Pulled:
    """A file that is there."""

    path: Path
    record: Record
    fresh: bool  # downloaded now


def at(source: Source, folder: Path | None = None) -> Path:
    """Where it lies once it is pulled: in `folder`, else in a folder of its own on the shelf."""
    return (shelf() / source.name if folder is None else folder) / source.file


def pull(source: Source, folder: Path | None = None, patience: Patience | None = None) -> Iterator[Event]:
    """Download, compare and keep; the result is a `Pulled`.

    Half a file stays as FILE.part, and the next pull goes on there. A file that is there is checked again and never
    replaced. ValueError, which names every address and its answer, if none of them gives the file; and for a damaged
    record beside it.
    """
    path = at(source, folder)
    check_writable(path.parent)
    remembered(path)  # refuses a damaged record
    if path.exists():
        yield from _again(source, path)
        return
    if not source.urls:
        raise ValueError(f"'{source.name}' has no address{_told(source)}; give the file itself: --prior FILE")
    make_folder(path.parent)
    with alone(path.parent, wait=False):
        part = path.with_name(path.name + ".part")
        refusals: list[str] = []
        for url in source.urls:
            yield Note(f"downloading {url}")
            try:
                record = yield from _from(source, url, part, path, patience or Patience())
            except Refused as error:
                refusals.append(str(error))
                yield Note(str(error))
                continue
            os.replace(part, path)
            remember(path, record)
            forget(part)
            yield Saved(path)
            yield Note(_verdict(source, record))
            yield Done(Pulled(path, record, True))
            return
    said = "; ".join(refusals)
    raise ValueError(
        f"'{source.name}' could not be pulled: {said}{_told(source)}; if you have it: --prior FILE"
    )


def _from(
    source: Source, url: str, part: Path, path: Path, patience: Patience
) -> Generator[Event, None, Record]:
    """One address, begun anew if half a file was continued and does not match."""
    while True:
        continued = part.exists()
        yield from transfer(Wanted(url, source.bytes, source.checksum is not None), part, patience)
        found = yield from _digests(source, part)
        wrong = _mismatch(source, found) or _no_weights(source, part) or _not_as_before(path, found)
        if wrong is None:
            size = part.stat().st_size
            return Record(source.name, url, size, found["sha256"], source.checksum, date.today().isoformat())
        forget(part)
        if not continued:
            raise Refused(f"{url}: {wrong}")
        yield Note(f"{wrong}; it was continued from half a file, and is begun anew")


def _again(source: Source, path: Path) -> Iterator[Event]:
    """A file that is there, compared again; one without a record was put there by other means."""
    if not path.is_file():
        raise ValueError(f"'{path}' is no file; move it away, or choose another --out, and pull again")
    size, found = path.stat().st_size, dict[str, str]()
    wrong = None
    if source.bytes is not None and size != source.bytes:
        wrong = f"it has {size:,} bytes, expected {source.bytes:,}"
    else:
        found = yield from _digests(source, path)
        wrong = _mismatch(source, found) or _no_weights(source, path) or _not_as_before(path, found)
    if wrong is not None:
        raise ValueError(f"'{path}' is there, but {wrong}; remove it, and pull again")
    record = remembered(path)
    if record is None:
        today = date.today().isoformat()
        record = Record(source.name, "", size, found["sha256"], source.checksum, today)
        remember(path, record)
    yield Note(f"'{path}' is there already; {_verdict(source, record)}")
    yield Done(Pulled(path, record, False))


def _digests(source: Source, path: Path) -> Generator[Event, None, dict[str, str]]:
    names = ("sha256", "md5") if source.md5 else ("sha256",)
    found: dict[str, str] = {}
    for event in digests(path, names):
        if isinstance(event, Progress):
            yield event
        else:
            found = event
    return found


def _mismatch(source: Source, found: dict[str, str]) -> str | None:
    for kind in ("sha256", "md5"):
        wanted = getattr(source, kind)
        if wanted and found[kind] != wanted:
            return f"its {kind} is {found[kind]}, expected {wanted}{_by(source)}"
    return None


def _not_as_before(path: Path, found: dict[str, str]) -> str | None:
    before = remembered(path)
    if before is None or before.sha256 == found["sha256"]:
        return None
    return (
        f"its sha256 is {found['sha256']}, and {before.sha256} came on {before.pulled} ('{path}.json' says)"
    )


def _no_weights(source: Source, path: Path) -> str | None:
    """Where no checksum is known: pages of login and of errors come as files, too."""
    if source.checksum is not None:
        return None
    with open(path, "rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    safetensors = len(head) == 9 and head[8:] == b"{" and length <= min(LONGEST_HEADER, path.stat().st_size)
    if head.startswith((ZIP, PICKLE)) or safetensors:
        return None
    return f"it is no file of weights: it begins with {head!r}"


def _verdict(source: Source, record: Record) -> str:
    if source.checksum is None:
        return (
            f"nobody published its checksum; its sha256 is {record.sha256}, and later pulls compare with that"
        )
    return f"its {source.checksum} is the one that is known{_by(source)}"


def _by(source: Source) -> str:
    return ", as the publisher says" if source.hashed_by == "publisher" else ", as users of it noted"


def _told(source: Source) -> str:
    return f" ({source.note})" if source.note else ""
