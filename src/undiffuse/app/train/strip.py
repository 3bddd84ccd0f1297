"""The pictures of a run, for its report."""

import base64
import io
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from undiffuse.app.series import evenly

PICTURES = 12  # in a report, at most
LONGEST = 1024  # pixels of the longer side: larger pictures are shown reduced
SMALLEST = 400  # pixels of width on the page, from which a picture is not enlarged
HEAVIEST = 1 << 20  # bytes that are embedded as they are
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Shown:
    """A picture in the page."""

    url: str
    width: int  # pixels of the page
    zoom: int
    step: str = ""


def strip(folder: Path) -> list[Shown]:
    """Newest first, evenly chosen; a file that is no picture is passed over."""
    paths = sorted(folder.glob("*.png"), reverse=True)
    found: list[Shown] = []
    for i in evenly(len(paths), PICTURES):
        status = paths[i].stat()
        if shown := _embedded(paths[i], status.st_mtime_ns, status.st_size):
            stem = paths[i].stem
            found.append(replace(shown, step=f"{int(stem):,}" if stem.isdecimal() else stem))
    return found


@lru_cache(2 * PICTURES)
def _embedded(path: Path, changed: int, size: int) -> Shown | None:
    """As it is, or reduced; kept, as a report is written many times."""
    data, kind = path.read_bytes(), "png"
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            width = picture.width
            if max(picture.size) <= LONGEST and size <= HEAVIEST:
                picture.verify()
            else:
                data, width, kind = *_reduced(picture), "jpeg"
    except UNREADABLE:
        return None
    zoom = max(1, SMALLEST // width)
    url = Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")  # nothing in it to escape
    return Shown(url, zoom * width, zoom)


def _reduced(picture: Image.Image) -> tuple[bytes, int]:
    reduced = picture.convert("RGB")
    reduced.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    reduced.save(data, "JPEG", quality=88)
    return data.getvalue(), reduced.width
