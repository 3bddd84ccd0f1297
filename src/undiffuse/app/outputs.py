"""Files of a restoration: the contact sheet, the table of metrics, atomic writes."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from undiffuse.core.images import replace_file, to_bytes

if TYPE_CHECKING:
    from undiffuse.app.restore import Restored

PANEL, MARGIN, CAPTION = 480, 12, 26  # pixels of the contact sheet
LONGEST = 255  # bytes of a file name, on the file systems of today


PICTURES = ("restored", "degraded", "original", "deviation", "q05", "q50", "q95", "y", "sheet")
TABLE, REPORT = "metrics.csv", "report.html"
SETTINGS = ["image", "degrade", "noise", "prior", "label", "guidance", "algorithm", "steps", "draws", "seed"]
QUALITY = ["psnr", "ssim", "ms_ssim", "lpips", "spectrum"]
COLUMNS = [*SETTINGS, *QUALITY, *(f"saved_{name}" for name in QUALITY)]
COLUMNS += ["psnr_pinv", "psnr_degraded", "coverage90", "residual", "verdict", "seconds"]


def check_writable(out: Path) -> None:
    """ValueError if `out` is no folder to write to. Makes nothing: the folder appears with the first result."""
    place = out
    while not place.exists() and place != place.parent:
        place = place.parent
    if out.is_symlink() and not out.exists():
        trouble = "it is a link to nowhere"
    elif not place.is_dir():
        trouble = f"'{place}' is not a folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        trouble = f"no right to write to '{place}'"
    else:
        return
    raise ValueError(f"cannot write to output folder '{out}': {trouble}; choose another with --out")


def check_folder(out: Path, name: str, inputs: Iterable[Path]) -> None:
    """ValueError if `out` cannot hold the results of a picture `name`, or if they would replace an input.

    Makes nothing, as `check_writable`.
    """
    check_writable(out)
    if len(os.fsencode(f"{name}_deviation.png")) > LONGEST:
        raise ValueError(f"the name of '{name}' is too long for names such as NAME_deviation.png; shorten it")
    names = {f"{name}_{kind}{suffix}" for kind in PICTURES for suffix in (".png", ".tif", ".npy")}
    names |= {f"{name}.json", TABLE, REPORT}
    for path in inputs:
        if path.name in names and path.parent.resolve() == out.resolve():
            raise ValueError(f"the results would replace '{path}'; choose another output folder with --out")
    _rows(out / TABLE)


def make_folder(out: Path) -> None:
    """The output folder, with those above it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot make output folder '{out}': {error.strerror}; choose another with --out"
        ) from None


def _rows(path: Path) -> list[dict[str, str]]:
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


@contextmanager
def alone(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """One process at a time, where the system has locks: two runs in one folder both keep their rows.

    Without `wait` a ValueError says that another one is at work there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ValueError(
                f"another run is writing to '{folder}'; wait for it, or choose another folder with --out"
            ) from None
        yield
    finally:
        os.close(handle)


def save_bytes(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all."""
    replace_file(path, data)
    return path


def row(result: "Restored", name: str | None = None) -> dict[str, Any]:
    """The result in one line of numbers and words; `name` in place of the picture's."""
    config = result.config
    return {
        "image": name or result.name,
        "degrade": config.degrade,
        "noise": result.sigma_y / 2,
        "prior": config.prior,
        "label": "" if result.label is None else result.label,
        "guidance": config.guidance,
        "algorithm": result.method.entry.name,
        "steps": len(result.method.sigmas) - 1,
        "draws": config.draws,
        "seed": config.seed,
        **result.metrics,
        "residual": result.certificate.ratio,
        "verdict": result.certificate.verdict,
        "seconds": result.seconds,
    }


FORMATS = {"noise": ".5g", "guidance": "g", "residual": ".5g", "seconds": ".2f"}


def as_text(row: Mapping[str, Any]) -> dict[str, str]:
    """A row as the table holds it: the columns it has, an empty text for those that it has not."""
    found: dict[str, str] = {}
    for name in COLUMNS:
        value = row.get(name)
        form = FORMATS.get(name, ".4f" if isinstance(value, float) else "")
        found[name] = "" if value is None else format(value, form)
    return found


def append_metrics(path: Path, result: "Restored") -> Path:
    """Add the result's row to the table; a row of the same picture and settings is replaced."""
    new = as_text(row(result))
    with alone(path.parent):
        rows = [old for old in _rows(path) if any(old[k] != new[k] for k in SETTINGS)]
        return write_table(path, [*rows, new])


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


def heat(deviation: Tensor) -> Tensor:
    """A deviation map (C, H, W) as a grey picture (1, H, W): black = 0, white = `white(deviation)`."""
    return 2 * (_over_channels(deviation) / white(deviation)).clamp(0, 1) - 1


def white(deviation: Tensor) -> float:
    """The deviation that is shown white: the 99.5 % quantile over pixels, root mean square over channels."""
    return max(float(np.quantile(_over_channels(deviation).numpy(), 0.995)), 1e-6)


def _over_channels(deviation: Tensor) -> Tensor:
    return deviation.square().mean(0, keepdim=True).sqrt()


def panels(result: "Restored") -> list[tuple[str, Tensor]]:
    """Captions and pictures of the result, in reading order, all of the restored picture's size."""
    size = result.restored.shape[1:]
    found: list[tuple[str, Tensor]] = []
    if result.reference is not None:
        found.append(("original", result.reference))
    kind = "measured" if result.y.shape == result.degraded.shape else "pseudo-inverse"
    found.append((f"{kind}: {result.config.degrade}, noise {result.sigma_y / 2:.3g}", result.degraded))
    quality = f", {result.metrics['psnr']:.2f} dB" if "psnr" in result.metrics else ""
    what = "restored" if result.posterior is None else f"mean of {result.config.draws} draws"
    found.append((f"{what}{quality}", result.restored))
    if result.posterior is not None:
        deviation = result.posterior.deviation[0]
        found.append((f"deviation, white = {white(deviation) / 2:.2g}", heat(deviation)))
    return [(caption, functional.interpolate(p[None], size)[0]) for caption, p in found]


def sheet(result: "Restored") -> bytes:
    """A PNG of all pictures side by side, and below each the same detail enlarged."""
    shown = panels(result)
    height, width = result.restored.shape[1:]
    scale = min(1.0, PANEL / max(height, width))
    whole = (max(1, round(width * scale)), max(1, round(height * scale)))
    before = functional.interpolate(result.degraded[None], (height, width))[0]
    picture = result.restored if result.reference is None else result.reference
    row, column, side = _detail(picture, result.restored - before)
    canvas = Image.new(
        "RGB",
        (MARGIN + len(shown) * (whole[0] + MARGIN), CAPTION + whole[1] + MARGIN + whole[0] + MARGIN),
        "white",
    )
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(14)
    for i, (caption, pixels) in enumerate(shown):
        left = MARGIN + i * (whole[0] + MARGIN)
        picture = as_image(pixels)
        draw.text((left, 6), _fitting(caption, font, whole[0]), fill="black", font=font)
        canvas.paste(picture.resize(whole, Image.Resampling.LANCZOS), (left, CAPTION))
        detail = picture.crop((column, row, column + side, row + side))
        below = CAPTION + whole[1] + MARGIN
        canvas.paste(detail.resize((whole[0], whole[0]), Image.Resampling.NEAREST), (left, below))
    data = io.BytesIO()
    canvas.save(data, "PNG")
    return data.getvalue()


def as_image(pixels: Tensor) -> Image.Image:
    """(C, H, W) in [-1, 1] as an RGB picture; of other channel counts the first is shown in grey."""
    if pixels.shape[0] != 3:
        pixels = pixels[:1].expand(3, -1, -1)
    return Image.fromarray(to_bytes(pixels))


def picture_bytes(pixels: Tensor) -> bytes:
    """(C, H, W) in [-1, 1] as a PNG."""
    data = io.BytesIO()
    as_image(pixels).save(data, "PNG")
    return data.getvalue()


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while len(text) > 4 and font.getlength(text) > width:
        text = text[:-4] + "..."
    return text


def _detail(picture: Tensor, change: Tensor) -> tuple[int, int, int]:
    """(row, column, side) of the square with most texture and change: a fifth of the shorter side, at least 16."""
    grey = picture.mean(0, keepdim=True)[None]
    side = min(*grey.shape[2:], max(16, min(grey.shape[2:]) // 5))
    fine = grey - functional.avg_pool2d(grey, 3, 1, 1, count_include_pad=False)
    stride = max(1, side // 4)
    texture = functional.avg_pool2d(fine**2, side, stride)
    changed = functional.avg_pool2d((change**2).mean(0, keepdim=True)[None], side, stride)
    at = int(torch.argmax(texture * changed).item())
    columns = texture.shape[3]
    return at // columns * stride, at % columns * stride, side
