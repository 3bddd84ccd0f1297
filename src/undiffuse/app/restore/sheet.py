"""The contact sheet: a restoration's pictures side by side, and a detail of each."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, argmax
from torch.nn import functional

from undiffuse.app.outputs import as_image
from undiffuse.app.restore.result import Restored

PANEL, MARGIN, CAPTION = 480, 12, 26  # pixels


def heat(deviation: Tensor) -> Tensor:
    """A deviation map (C, H, W) as a grey picture (1, H, W): black = 0, white = `white(deviation)`."""
    return 2 * (_over_channels(deviation) / white(deviation)).clamp(0, 1) - 1


def white(deviation: Tensor) -> float:
    """The deviation that is shown white: the 99.5 % quantile over pixels, root mean square over channels."""
    return max(float(np.quantile(_over_channels(deviation).numpy(), 0.995)), 1e-6)


def _over_channels(deviation: Tensor) -> Tensor:
    return deviation.square().mean(0, keepdim=True).sqrt()


def panels(result: Restored) -> list[tuple[str, Tensor]]:
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


def sheet(result: Restored) -> bytes:
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
    at = int(argmax(texture * changed).item())
    columns = texture.shape[3]
    return at // columns * stride, at % columns * stride, side
