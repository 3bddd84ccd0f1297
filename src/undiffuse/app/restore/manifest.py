"""The manifest of a folder, one JSON object a line; in memory is only where each picture's line begins."""

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, overload

from undiffuse.app.outputs import append_lines
from undiffuse.app.restore.folder import MANIFEST, stamp, unchanged
from undiffuse.app.restore.table import MEASURED
from undiffuse.core.images import replace_file

Line = dict[str, Any]
WORDS, NUMBERS = ("degrade", "algorithm", "verdict"), ("noise", "calls", "draws", "seconds")


class Manifest:
    """OUT/manifest.jsonl. The last line of a picture counts; a line that was cut off by a kill does not.

    ValueError if there is another file of that name.
    """

    def __init__(self, out: Path):
        self.path, self._out = out / MANIFEST, out
        self._at: dict[str, int] = {line["image"]: at for at, line in _lines(self.path)}

    def __contains__(self, name: str) -> bool:
        return name in self._at

    def line(self, name: str) -> Line:
        """Of a picture that is in the manifest."""
        return self.of([name])[0]

    def of(self, names: Iterable[str]) -> "Lines":
        """The lines of those of `names` that have one, until the next `tidy`."""
        return Lines(self.path, array("q", (self._at[name] for name in names if name in self._at)))

    def done(self, root: Path, name: str, settings: str, reference: Path | None = None) -> bool:
        """Whether the picture was restored with these settings, and it, its files and its reference are as then."""
        if name not in self:
            return False
        line = self.line(name)
        if line.get("status") != "done" or line.get("settings") != settings:
            return False
        try:
            if [stamp(self._out / file) for file in line["files"]] != line["stamps"]:
                return False
            same = unchanged(root / name, line["input"])
            return same and (reference is None or unchanged(reference, line["reference"]))
        except (OSError, KeyError, TypeError):  # a line of an earlier version, or of another hand
            return False

    def add(self, line: Line) -> None:
        """Append a line, and see it onto the disk."""
        self._at[line["image"]] = append_lines(self.path, _coded(line))

    def tidy(self) -> Path:
        """Written anew with one line a picture, in the order of their names."""
        names, at, after = sorted(self._at), array("q"), 0

        def coded() -> Iterator[bytes]:
            nonlocal after
            for line in self.of(names):
                at.append(after)
                data = _coded(line)
                after += len(data)
                yield data

        replace_file(self.path, coded())
        self._at = dict(zip(names, at, strict=True))
        return self.path


class Lines(Sequence[Line]):
    """Lines of a file from these places on, read when they are asked for."""

    def __init__(self, path: Path, at: "array[int]"):
        self._path, self._at = path, at

    def __len__(self) -> int:
        return len(self._at)

    @overload
    def __getitem__(self, i: int) -> Line: ...

    @overload
    def __getitem__(self, i: slice) -> "Lines": ...

    def __getitem__(self, i: int | slice) -> "Line | Lines":
        if isinstance(i, slice):
            return Lines(self._path, self._at[i])
        return next(self._read([self._at[i]]))

    def __iter__(self) -> Iterator[Line]:
        return self._read(self._at)

    def _read(self, at: Iterable[int]) -> Iterator[Line]:
        file: BinaryIO | None = None
        try:
            for place in at:
                file = file or self._path.open("rb")
                file.seek(place)
                yield json.loads(file.readline())
        finally:
            if file is not None:
                file.close()


def _coded(line: Line) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _lines(path: Path) -> Iterator[tuple[int, Line]]:
    """Every whole line with its place."""
    if not path.exists():
        return
    at = 0
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                begun, at = at, at + len(text)
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError):
                    continue  # cut off by a kill
                if not (isinstance(line, dict) and isinstance(line.get("image"), str)):
                    raise ValueError(
                        f"'{path}' is no manifest of undiffuse (line {number} has no image); choose another --out"
                    )
                _check_types(line, f"'{path}', line {number}")
                yield begun, line
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error}); choose another --out") from None


def _check_types(line: Line, where: str) -> None:
    """ValueError for what a table cannot show: a line of another hand."""
    for names, kinds, expected in (
        (WORDS, str, "a text"),
        (NUMBERS, (int, float), "a number"),
        (MEASURED, (int, float, type(None)), "a number or null"),
    ):
        for name in names:
            if name in line and not isinstance(line[name], kinds):
                raise ValueError(
                    f"{where}: {name} is {str(line[name])[:40]!r}; expected {expected}; remove the line, and the "
                    "picture is restored again"
                )
