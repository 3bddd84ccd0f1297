"""All samplers in one picture: a row each, a column for each starting noise."""

import io
from collections.abc import Sequence
from math import ceil

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from undiffuse.app.outputs import as_image

MARGIN, LINE, SMALLEST, LARGEST = 8, 16, 96, 256  # pixels; of a panel's shorter and longer side
COLUMNS = 8


def composite(rows: Sequence[tuple[Sequence[str], Tensor | None]]) -> bytes:
    """A PNG. rows: lines of text, and pictures (n, C, H, W) in [-1, 1], None where there are none to show."""
    font = ImageFont.load_default(13)
    shown = next(x for _, x in rows if x is not None)
    height, width = shown.shape[2:]
    larger = max(1, ceil(SMALLEST / min(height, width)))  # whole pixels: nothing is smoothed
    smaller = min(1.0, LARGEST / (larger * max(height, width)))
    panel = (max(1, round(width * larger * smaller)), max(1, round(height * larger * smaller)))
    columns = min(COLUMNS, len(shown))
    left = MARGIN + round(max(font.getlength(text) for lines, _ in rows for text in lines)) + MARGIN
    tall = max(panel[1], LINE * max(len(lines) for lines, _ in rows)) + MARGIN
    canvas = Image.new("RGB", (left + columns * (panel[0] + MARGIN), MARGIN + tall * len(rows)), "white")
    pen = ImageDraw.Draw(canvas)
    for number, (lines, pictures) in enumerate(rows):
        top = MARGIN + number * tall
        for k, text in enumerate(lines):
            pen.text((MARGIN, top + k * LINE), text, fill="black", font=font)
        for k in range(columns if pictures is not None else 0):
            assert pictures is not None
            way = Image.Resampling.NEAREST if smaller == 1 else Image.Resampling.LANCZOS
            canvas.paste(as_image(pictures[k]).resize(panel, way), (left + k * (panel[0] + MARGIN), top))
    data = io.BytesIO()
    canvas.save(data, "PNG")
    return data.getvalue()
