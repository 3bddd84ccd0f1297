"""The report: one HTML file that needs no network."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from undiffuse.app.outputs import as_image, heat, panels, save_bytes, white

if TYPE_CHECKING:
    from undiffuse.app.restore import Restored

ROWS = 2000  # of a folder's table
LARGEST = 1400  # pixels of the longer side: larger pictures are shown reduced


def write_report(results: "Sequence[Restored]", path: Path) -> Path:
    """All results as one page: a table, then each with a before/after slider, its certificate and its settings."""
    return _write([section(result) for result in results], (), path)


def write_folder_report(
    lines: Sequence[Mapping[str, Any]], sections: Sequence[Mapping[str, Any]], path: Path
) -> Path:
    """A folder as one page: a table of the manifest's lines, and some pictures."""
    return _write(sections, lines[:ROWS], path)


def _write(sections: Sequence[Mapping[str, Any]], lines: Sequence[Mapping[str, Any]], path: Path) -> Path:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("undiffuse.app", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html.j2").render(results=sections, lines=lines)
    return save_bytes(path, page.encode())


def section(result: "Restored") -> dict[str, Any]:
    """What the page shows of a result, with its pictures embedded."""
    from undiffuse.app.restore.result import record

    pictures = dict(panels(result))
    kinds = ("measured", "pseudo-inverse")
    shown, before = next(item for item in pictures.items() if item[0].startswith(kinds))
    extra: list[tuple[str, str]] = []
    if result.reference is not None:
        extra.append(("original", _embedded(result.reference)))
    if result.posterior is not None:
        deviation = result.posterior.deviation[0]
        caption = f"deviation of the draws: black is certain, white is {white(deviation) / 2:.2g} (white - black = 1)"
        extra.append((caption, _embedded(heat(deviation))))
    return {
        **{
            name: getattr(result, name)
            for name in ("name", "config", "method", "metrics", "certificate", "seconds")
        },
        "prior": result.prior.asked(result.label, result.config.guidance),
        "sigma_y": result.sigma_y,
        "notes": result.measurement.notes,
        "before": result.metrics.get("psnr_degraded", result.metrics.get("psnr_pinv")),
        "before_caption": shown,
        "before_png": _embedded(before),
        "after_png": _embedded(result.restored),
        "extra": extra,
        "record": json.dumps(record(result), indent=2),
    }


def _embedded(pixels: Tensor) -> str:
    picture = as_image(pixels)
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    picture.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
