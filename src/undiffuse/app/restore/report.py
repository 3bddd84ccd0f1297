"""The report: one HTML file that needs no network, for readers who know photographs and no diffusion."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from undiffuse.app.outputs import save_bytes
from undiffuse.app.restore import figures
from undiffuse.app.restore.embedded import Embedded, embedded
from undiffuse.app.restore.result import Restored, record
from undiffuse.app.restore.sheet import heat, panels, white
from undiffuse.app.restore.table import row
from undiffuse.config import RestoreConfig
from undiffuse.config.said import command_line

ROWS = 2000  # of a folder's table
LARGEST, HEAVIEST = 1400, 280_000  # pixels of the longer side and bytes, of the two pictures of the slider
BESIDE, LIGHT = 700, 110_000  # of the original and the deviation
QUANTILES, LIGHTEST = 480, 60_000  # of each quantile
METRICS = {
    "psnr": ("PSNR", "{:.2f} dB", "the mean squared error as a level: 6 dB more is half the error. Higher is closer"),
    "ssim": ("SSIM", "{:.4f}", "likeness of structure in small windows; 1 is equal"),
    "ms_ssim": ("MS-SSIM", "{:.4f}", "the same over several sizes; 1 is equal"),
    "lpips": ("LPIPS", "{:.4f}", "distance as a network trained on human judgements sees it; 0 is equal"),
    "spectrum": ("spectrum", "{:.2f} dB", "difference in the amount of detail, right or wrong; 0 is as much"),
}  # fmt: skip
OF_FOLDERS = ("fleet", "workers")  # settings that are refused for a single picture
PLAIN = {
    "consistent": "The restoration agrees with the measurement.",
    "close": "The restoration follows the measurement, and a little of its noise.",
    "inconsistent": "The restoration contradicts the measurement.",
}


def write_report(results: Sequence[Restored], path: Path) -> Path:
    """All results as one page: a table, then a section for each."""
    return _write([section(result) for result in results], None, "", path)


def write_folder_report(
    lines: Sequence[Mapping[str, Any]],
    sections: Sequence[Mapping[str, Any]],
    path: Path,
    config: RestoreConfig | None = None,
) -> Path:
    """A folder as one page: a table of the manifest's lines, what was passed over, and the sections of some pictures.

    `config`: what the folder was asked for, to show how it is repeated.
    """
    return _write(
        sections, lines, "" if config is None else command_line(config, "undiffuse", "restore"), path
    )


def _write(
    sections: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]] | None,
    repeat: str,
    path: Path,
) -> Path:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("undiffuse.app", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    found = [part["line"] for part in sections] if lines is None else lines
    count = sum(line["status"] == "done" for line in found)
    page = environment.get_template("restore/report.html.j2").render(
        results=sections,
        folder=lines is not None,
        lines=list(islice((line for line in found if line["status"] == "done"), ROWS)),
        count=count,
        failed=list(islice((line for line in found if line["status"] != "done"), ROWS)),
        shown={} if lines is None else {part["line"]["image"]: i for i, part in enumerate(sections, 1)},
        repeat=repeat,
    )
    return save_bytes(path, page.encode(errors="replace"))


def section(result: Restored, name: str | None = None) -> dict[str, Any]:
    """What the page shows of a result, with its pictures inside; `name`: of one among others, below their folder."""
    config = result.config if name is None else _alone(result.config, name)
    rows, said = figures.octaves(result)
    reached = result.metrics.get("psnr")
    return {
        "line": row(result, name) | {"status": "done", "calls": result.method.calls},
        "config": result.config,
        "asked": result.task.asked(),
        "certificate": result.certificate,
        "plain": PLAIN[result.certificate.verdict],
        "notes": result.measurement.notes,
        "slider": _slider(result),
        "original": _beside([("original", result.reference)] if result.reference is not None else []),
        "deviation": _deviation(result),
        "quantiles": _quantiles(result),
        "coverage": result.metrics.get("coverage90"),
        "widen": result.method.widen,
        "strip": figures.strip(result.trace),
        "progress": figures.progress(result.trace),
        "reached": reached,
        "spectra": figures.spectra(result),
        "octaves": rows,
        "measured": said,
        "metrics": _metrics(result.metrics),
        "command": command_line(config, "undiffuse", "restore"),
        "record": json.dumps(record(result), indent=2),
    }


def _alone(config: RestoreConfig, name: str) -> RestoreConfig:
    """What restores one picture of a folder, `name` below it, into a folder of its own."""
    out = config.out / Path(name).with_suffix("")
    return config.model_copy(update={"out": out, **dict.fromkeys(OF_FOLDERS)})


def _slider(result: Restored) -> list[Embedded]:
    """Before, after."""
    shown = dict(panels(result))
    caption, before = next(it for it in shown.items() if it[0].startswith(("measured", "pseudo-inverse")))
    return embedded([(caption, before), ("restored", result.restored)], LARGEST, HEAVIEST)


def _beside(pictures: list[tuple[str, Any]]) -> list[Embedded]:
    return embedded(pictures, BESIDE, LIGHT)


def _deviation(result: Restored) -> tuple[Embedded, float] | None:
    """The map, and what its white stands for, as a share of the way from black to white."""
    if result.posterior is None:
        return None
    deviation = result.posterior.deviation[0]
    return _beside([("deviation", heat(deviation))])[0], white(deviation) / 2


def _quantiles(result: Restored) -> list[Embedded]:
    if result.posterior is None:
        return []
    kinds = (("5 %", "low"), ("50 %", "median"), ("95 %", "high"))
    pictures = [(caption, getattr(result.posterior, kind)[0]) for caption, kind in kinds]
    return embedded(pictures, QUANTILES, LIGHTEST)


def _metrics(found: Mapping[str, float]) -> list[tuple[str, list[str], str]]:
    """(name, [before, restored, restored and rounded to 8 bits], what it says) of each that was measured."""
    rows: list[tuple[str, list[str], str]] = []
    for key, (name, form, words) in METRICS.items():
        if key in found:
            before = found.get("psnr_degraded", found.get("psnr_pinv")) if key == "psnr" else None
            values = (before, found[key], found.get(f"saved_{key}"))
            rows.append((name, [_shown(value, form) for value in values], words))
    return rows


def _shown(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    return form.format(value) if math.isfinite(value) else "exact"
