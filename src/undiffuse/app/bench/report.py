"""The report of a benchmark: one HTML file that needs no network."""

import base64
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from undiffuse.app.bench.measurements import Cell, picture_path
from undiffuse.app.bench.summary import Line, Summary
from undiffuse.app.priors import Opened
from undiffuse.config.bench import BenchConfig
from undiffuse.core.images import replace_file

REPORT = "report.html"
SIDE = 128  # pixels of what is shown of a picture: its middle, one to one
COLUMNS = {
    "psnr": "PSNR", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "lpips": "LPIPS", "spectrum": "spectrum, dB",
    "psnr_of_draw": "PSNR of a draw", "coverage90": "coverage", "residual": "residual",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Benched:
    """What came out."""

    config: BenchConfig
    prior: Opened
    table: Path
    summary: Summary
    measured: int  # rows of this run
    impossible: int  # rows of this run without an answer: the next one tries them again
    kept: int  # rows that were there already
    memory: str  # how memory was found
    shown: tuple[Cell, ...]  # those whose pictures are kept, one for each task and noise
    asked: frozenset[str]  # methods that were named


def write_report(result: Benched) -> Path:
    """report.html beside the table: what was compared on what, a sortable table for each task, and pictures."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("undiffuse.app", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    lines = result.summary.lines
    known = {key: name for key, name in COLUMNS.items() if any(key in line.means for line in lines)}
    page = environment.get_template("bench/report.html.j2").render(
        written=time.strftime("%Y-%m-%d %H:%M"),
        config=result.config,
        prior=str(result.prior),
        memory=result.memory,
        reference=result.summary.reference,
        columns=known,
        tasks=[_task(result, cell) for cell in result.shown],
        missing=result.summary.missing(result.asked),
    )
    path = result.config.out / REPORT
    replace_file(path, page.encode(errors="replace"))
    return path


def _task(result: Benched, cell: Cell) -> dict[str, Any]:
    """One task and noise: its lines, and the pictures of its first measurement."""
    lines = [line for line in result.summary.lines if (line.task, line.noise) == (cell.degrade, cell.noise)]
    names = ["clean", "measured", *(line.method for line in lines)]
    shown = [(name, _embedded(picture_path(result.config.out, cell, name))) for name in names]
    return {
        "title": f"{cell.degrade}, noise {cell.noise:g}",
        "picture": cell.picture.name,
        "lines": lines,
        "best": _best(lines),
        "shown": [(name, data) for name, data in shown if data],
    }


def _best(lines: list[Line]) -> float:
    return max((line.means.get("psnr", 0.0) for line in lines), default=0.0)


def _embedded(path: Path) -> str | None:
    """The middle of a picture; None if it is not there: its row is of another run."""
    if not path.is_file():
        return None
    with Image.open(path) as picture:
        left, top = (max(0, (n - SIDE) // 2) for n in picture.size)
        middle = picture.crop((left, top, min(left + SIDE, picture.width), min(top + SIDE, picture.height)))
    data = io.BytesIO()
    middle.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
