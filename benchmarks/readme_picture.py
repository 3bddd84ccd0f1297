"""The picture at the top of the README: what was measured and what was restored, for the demo's degradations.

Usage: python benchmarks/readme_picture.py docs/images/restored.jpg
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from undiffuse.app.demo import demo
from undiffuse.app.events import Done
from undiffuse.app.outputs import as_image
from undiffuse.app.restore import Restored
from undiffuse.app.restore.sheet import panels

SIDE, GAP, CAPTION = 420, 10, 30
CROP = (80, 130, 330, 380)  # left, top, right, bottom: the dog's face


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        *_, done = demo(Path(folder))
    assert isinstance(done, Done)
    results: list[Restored] = done.result
    font = ImageFont.load_default(17)
    canvas = Image.new("RGB", (3 * SIDE + 2 * GAP, 2 * (SIDE + CAPTION) + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for column, result in enumerate(results):
        measured, restored = panels(result)[1:3]
        for row, (caption, pixels) in enumerate((measured, restored)):
            left, top = column * (SIDE + GAP), row * (SIDE + CAPTION + GAP)
            picture = as_image(pixels).crop(CROP).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            draw.text((left, top + 5), caption, fill="black", font=font)
            canvas.paste(picture, (left, top + CAPTION))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path, quality=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
