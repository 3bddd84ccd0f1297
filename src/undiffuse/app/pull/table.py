"""The table of published files, as a user meets it: by name, with what is known of each and where it lies."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undiffuse.app.pull.source import Source, at
from undiffuse.checkpoints.known import Known, known
from undiffuse.registry import PRIORS


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the list."""

    name: str
    kind: str
    data: str
    size: str
    classes: str
    licence: str
    file: str  # its size
    checksum: str
    here: str


def published(name: str) -> Known:
    """A file of the table by its name; ValueError with the nearest names."""
    if name in known():
        return known()[name]
    near = difflib.get_close_matches(name, known(), 3, 0.5)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"no published file is called '{name}'{meant}; see undiffuse priors list")


def source_of(file: Known) -> Source:
    """Where it comes from. A file whose name says little on its own (model-790000.ckpt) is called by its other name."""
    called = next(name for name in file.files if "/" not in name)
    urls = (*([file.url] if file.url else []), *file.mirrors)
    return Source(file.name, called, urls, file.bytes, file.sha256, file.md5, file.hashed_by, file.note or "")


def pulled(name: str) -> Path | None:
    """The pulled file of that name; None if it is not in the table. ValueError if it was not pulled yet."""
    if name not in known():
        return None
    path = at(source_of(known()[name]))
    if not path.is_file():
        raise ValueError(
            f"'{name}' is not on this machine: run undiffuse priors pull {name}, or give the file itself"
        )
    return path


@contextmanager
def named_file(text: str) -> Iterator[Path]:
    """The file of a prior's name, built in or pulled; any other text is a path, as it is. ValueError without a file."""
    if text in PRIORS:
        held: Any = PRIORS[text].facts.get("file")
        if held is None:
            raise ValueError(
                f"'{text}' is a closed form or a plugin's, without a file of weights; choose another"
            )
        with held() as path:
            yield path
    else:
        yield Path(text) if Path(text).exists() else pulled(text) or Path(text)


def rows() -> list[Row]:
    """All that can be asked for by name: what is built in, then what is published."""
    return [_built_in(name) for name in PRIORS] + [_published(file) for file in known().values()]


def _built_in(name: str) -> Row:
    held: Any = PRIORS[name].facts.get("file")
    if held is None:
        return Row(name, "closed form or plugin", "-", "any", "-", "-", "-", "-", "built in")
    with held() as path:
        size = path.stat().st_size
    return Row(name, "network", "photographs", "any", "-", "Apache-2.0", _bytes(size), "-", "built in")


def _published(file: Known) -> Row:
    source = source_of(file)
    path = at(source)
    classes = file.network.get("num_classes")
    kind = "classifier" if file.is_classifier else "upsampler" if file.low_res else "network"
    size = _bytes(file.bytes) if file.bytes else f"about {_bytes(4 * file.parameters)}"
    known_by = source.checksum
    checksum = "none" if known_by is None else f"{known_by} {getattr(source, known_by)[:12]}"
    return Row(
        file.name,
        kind,
        file.data,
        f"{file.size}x{file.size}",
        "-" if classes is None else str(classes),
        file.licence or "not stated",
        size,
        checksum + (" by users" if source.checksum and file.hashed_by == "users" else ""),
        str(path) if path.is_file() else "by hand" if not source.urls else "pull",
    )


def _bytes(count: int) -> str:
    return (
        f"{count / 1e9:.2f} GB"
        if count >= 1e9
        else f"{count / 1e6:.0f} MB"
        if count >= 1e6
        else f"{count:,} B"
    )
