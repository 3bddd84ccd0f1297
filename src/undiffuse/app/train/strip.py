"""The pictures of a run, for its report."""

import base64
import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

from undiffuse.app.series import evenly

PICTURES = 12  # in a report, at most
LONGEST = 1024  # pixels of the longer side: larger pictures are shown reduced
HEAVIEST = 1 << 20  # bytes that are embedded as they are
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def strip(folder: Path) -> list[tuple[str, str]]:
    """(step, data URL), newest first, evenly chosen; a file that is no picture is passed over."""
    paths = sorted(folder.glob("*.png"), reverse=True)
    found: list[tuple[str, str]] = []
    for i in evenly(len(paths), PICTURES) if paths else ():
        status = paths[i].stat()
        if url := _embedded(paths[i], status.st_mtime_ns, status.st_size):
            stem = paths[i].stem
            found.append((f"{int(stem):,}" if stem.isdecimal() else stem, url))
    return found


@lru_cache(2 * PICTURES)
def _embedded(path: Path, changed: int, size: int) -> str | None:
    """As it is, or reduced; kept, as a report is written many times."""
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if max(picture.size) <= LONGEST and size <= HEAVIEST:
                picture.verify()
            else:
                reduced = picture.convert("RGB")
                reduced.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
                kept = io.BytesIO()
                reduced.save(kept, "JPEG", quality=88)
                return "data:image/jpeg;base64," + base64.b64encode(kept.getvalue()).decode()
    except UNREADABLE:
        return None
    return "data:image/png;base64," + base64.b64encode(data).decode()
