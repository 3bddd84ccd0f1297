"""bench.csv: one row for each measurement and method, on disk as soon as it is known."""

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from undiffuse.app.outputs import append_lines, make_folder
from undiffuse.core.images import replace_file

TABLE = "bench.csv"
OK, DIVERGED = "ok", "diverged"


@dataclass(frozen=True, slots=True)
class Row:
    """What one method made of one measurement. Noise in [0, 1] units; memory in MB above the start."""

    measurement: str  # key of the index of measurements
    picture: str
    task: str
    noise: float
    method: str
    settings: str
    prior: str  # sha256 of its file (16 digits), or its name where there is none; empty: not used
    status: str  # ok, or why there is no answer
    psnr: float | None = None
    ssim: float | None = None
    ms_ssim: float | None = None
    lpips: float | None = None
    spectrum: float | None = None
    psnr_of_draw: float | None = None
    coverage90: float | None = None
    residual: float | None = None  # |A x - y|^2 / (m sigma_y^2); without noise the root mean square
    seconds: float | None = None
    calls: int | None = None  # as counted
    memory: float | None = None
    device: str = ""
    lpips_by: str = ""  # hash of the weights (16 digits); a table of an earlier version does not tell

    @property
    def key(self) -> tuple[str, ...]:
        """What decides the answer: a second run skips rows that are there."""
        return (self.measurement, self.method, self.settings, self.prior)


LATEST = "lpips_by"
FIELDS = {field.name: str(field.type) for field in fields(Row)}
METRICS = ("psnr", "ssim", "ms_ssim", "lpips", "spectrum", "psnr_of_draw", "coverage90", "residual")


class Table:
    """The rows on disk. A last line that was cut off by a kill is dropped; its row is measured again."""

    def __init__(self, out: Path):
        self.path = out / TABLE
        self._rows = {row.key: row for row in _read(self.path)}

    @property
    def rows(self) -> list[Row]:
        """The last one of each key, in the order in which keys came."""
        return list(self._rows.values())

    def done(self, key: tuple[str, ...], lpips_by: str = "") -> bool:
        """Whether it need not be tried again: a method that was not possible may be by now.

        lpips_by: the weights that its LPIPS has to be measured with, if any.
        """
        row = self._rows.get(key)
        if row is None or row.status != OK:
            return row is not None and row.status == DIVERGED
        return lpips_by in ("", row.lpips_by)

    def append(self, row: Row) -> None:
        """Add a row; when this returns it is on the disk. A row that is there as it is stays the only one."""
        if self._rows.get(row.key) == row:
            return
        make_folder(self.path.parent)
        data = self.path.read_bytes() if self.path.exists() else b""
        if not data.startswith(_coded()):  # new, or an earlier version's
            replace_file(self.path, _coded(*(self._rows | {row.key: row}).values()))
        else:
            append_lines(self.path, _coded(row, header=False))
        self._rows[row.key] = row


def _coded(*rows: Row, header: bool = True) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(FIELDS), lineterminator="\n")
    if header:
        writer.writeheader()
    for row in rows:
        writer.writerow({name: _text(value) for name, value in asdict(row).items()})
    return text.getvalue().encode()


def _complete(data: bytes) -> int:
    """The length of the lines that have their end. No field holds a line break: `_text` sees to it."""
    return data.rfind(b"\n") + 1


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    try:
        data = path.read_bytes()
        lines = data[: _complete(data)].decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' cannot be read ({error}); choose another --out") from None
    if not lines:
        return []
    reader = csv.DictReader(lines)
    if reader.fieldnames not in (list(FIELDS), [name for name in FIELDS if name != LATEST]):
        raise ValueError(f"'{path}' is no table of this benchmark; choose another --out")
    try:
        return [_row(line) for line in reader]
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"'{path}' has a broken row ({error}); choose another --out") from None


def _text(value: object) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else " ".join(str(value).split())


def _row(line: dict[str, str]) -> Row:
    values: dict[str, Any] = {name: _value(name, line[name]) for name in FIELDS if name in line}
    return Row(**values)


def _value(name: str, text: str) -> str | float | int | None:
    kind = FIELDS[name]
    if "None" in kind and not text:
        return None
    return int(text) if "int" in kind else float(text) if "float" in kind else text
