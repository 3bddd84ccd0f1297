"""The table of a restoration's numbers."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from undiffuse.app.outputs import alone
from undiffuse.app.restore.result import Restored
from undiffuse.core.images import replace_file

TABLE = "metrics.csv"
SETTINGS = ["image", "degrade", "noise", "prior", "label", "guidance", "algorithm", "steps", "draws", "seed"]
OPTIONS = "options"  # of the algorithm; a table of an earlier version has none
QUALITY = ["psnr", "ssim", "ms_ssim", "lpips", "spectrum"]
MEASURED = [*QUALITY, *(f"saved_{name}" for name in QUALITY)]
MEASURED += ["psnr_pinv", "psnr_degraded", "coverage90", "residual"]
COLUMNS = [*SETTINGS, OPTIONS, *MEASURED, "verdict", "seconds"]
FORMATS = {"noise": ".5g", "guidance": "g", "residual": ".5g", "seconds": ".2f"}


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table of ours; ValueError if there is another file of that name, which is not lost then."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"'{path}' cannot be read: {error}; choose another folder with --out") from None
    names = set(reader.fieldnames or ())
    if names and not set(SETTINGS) <= names <= set(COLUMNS):  # an earlier version's may have fewer
        raise ValueError(f"'{path}' is not a table of undiffuse; choose another folder with --out")
    return rows


def row(result: Restored, name: str | None = None) -> dict[str, Any]:
    """The result in one line of numbers and words; `name` in place of the picture's file name."""
    config = result.config
    return {
        "image": name or config.image.name,
        "degrade": config.degrade,
        "noise": result.sigma_y / 2,
        "prior": config.prior,
        "label": "" if result.label is None else result.label,
        "guidance": config.guidance,
        "algorithm": result.method.entry.name,
        "steps": len(result.method.sigmas) - 1,
        "draws": config.draws,
        "seed": config.seed,
        OPTIONS: result.method.options,
        **result.metrics,
        "residual": result.certificate.ratio,
        "verdict": result.certificate.verdict,
        "seconds": result.seconds,
    }


def as_text(row: Mapping[str, Any]) -> dict[str, str]:
    """A row as the table holds it: the columns it has, an empty text for those that it has not."""
    found: dict[str, str] = {}
    for name in COLUMNS:
        value = row.get(name)
        if isinstance(value, Mapping):
            value = ", ".join(f"{key}={value[key]}" for key in value)
        form = FORMATS.get(name, ".4f" if isinstance(value, float) else "")
        found[name] = "" if value is None else format(value, form)
    return found


def append_metrics(path: Path, result: Restored) -> Path:
    """Add the result's row to the table; a row of the same picture and settings is replaced."""
    new = as_text(row(result))
    with alone(path.parent):
        return write_table(path, [*(old for old in read_table(path) if not _same(old, new)), new])


def _same(old: Mapping[str, str], new: Mapping[str, str]) -> bool:
    if old["image"] not in (new["image"], Path(new["image"]).stem):  # an earlier version wrote no ending
        return False
    return all(old[k] == new[k] for k in SETTINGS[1:]) and old.get(OPTIONS) in (None, "", new[OPTIONS])


def write_table(path: Path, rows: Iterable[Mapping[str, str]]) -> Path:
    """Rows of `as_text` as CSV."""
    replace_file(path, _coded(rows))
    return path


def _coded(rows: Iterable[Mapping[str, str]]) -> Iterator[bytes]:
    """A line at a time."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for row in rows:
        writer.writerow(row)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()
