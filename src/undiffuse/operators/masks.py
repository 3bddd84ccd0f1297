"""What is measured and what is not: masks drawn from a seed or read from a file, and random coefficients."""

import math
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.operators.base import Shape
from undiffuse.operators.files import read_array, read_grey

SHAPES = ("random", "box", "half", "brush")
WHITE = (
    0.95  # of the whitest: a pixel that is less of the picture and more of a scratch is no measurement of it
)


def described(
    shape: Shape, *, mask: str | None, missing: float, seed: int, channels: list[int] | None
) -> Tensor:
    """The mask that the options of `inp` describe, (H, W) or (C, H, W), True = kept."""
    count, height, width = shape
    name = ("random" if channels is None else "") if mask is None else mask
    if name in SHAPES:
        kept = drawn(name, (height, width), missing, seed)
    else:
        kept = from_file(Path(name), shape) if name else torch.ones(height, width, dtype=torch.bool)
    if not channels:
        return kept
    wrong = [channel for channel in channels if not 0 <= channel < count]
    if wrong:
        raise ValueError(f"channels {wrong} of images with channels 0 to {count - 1}")
    present = torch.ones(count, 1, 1, dtype=torch.bool)
    present[channels] = False
    return kept & present


def coefficients(pixels: int, length: int, ratio: float, seed: int) -> Tensor:
    """Which of `length` transform coefficients `cs` keeps: 0 and a random choice, in ascending order."""
    generator = torch.Generator().manual_seed(seed)
    others = torch.randperm(length - 1, generator=generator)[: max(1, round(pixels / ratio)) - 1] + 1
    return torch.cat([torch.zeros(1, dtype=torch.long), others.sort().values])


def drawn(name: str, size: tuple[int, int], missing: float, seed: int) -> Tensor:
    """A (H, W) mask, True = kept, with a share `missing` of the pixels gone.

    random: single pixels, exactly that share, rounded down (as DDRM draws them). box: a centred box. half:
    the right-hand columns. brush: strokes of a thick brush, stopped at the first that reaches the share.
    """
    height, width = size
    generator = torch.Generator().manual_seed(seed)
    kept = torch.ones(size, dtype=torch.bool)
    if name == "random":
        order = torch.randperm(height * width, generator=generator)
        kept.view(-1)[order[: int(height * width * missing)]] = False
    elif name == "box":
        rows, columns = round(height * math.sqrt(missing)), round(width * math.sqrt(missing))
        top, left = (height - rows) // 2, (width - columns) // 2
        kept[top : top + rows, left : left + columns] = False
    elif name == "half":
        kept[:, width - round(width * missing) :] = False
    else:
        _brush(kept, missing, generator)
    return kept


def from_file(path: Path, shape: Shape) -> Tensor:
    """The mask of a .png or .npy file, kept where it is white: 255, or the largest of an array; sizes must agree.

    Grey is missing: the soft edge of a stroke covers a part of what is under it. A layer with strokes on a
    transparent ground is kept where it is transparent; ValueError if white is painted on it, or nothing is.
    """
    if path.suffix.lower() not in {".png", ".npy"}:
        raise ValueError(f"no mask '{path}'; choose from {', '.join(SHAPES)}, or give a .png or .npy file")
    if path.suffix.lower() == ".png":
        kept = _painted(path)
    else:
        values = read_array(path, what="mask", entries=2**28)
        kept = values > WHITE * values.max().clamp(min=0)
    if kept.shape not in {shape[1:], (1, *shape[1:]), shape}:
        raise ValueError(
            f"mask '{path}' has size {tuple(kept.shape)}, the images {tuple(shape)}; resize one of them"
        )
    return kept


def _painted(path: Path) -> Tensor:
    """Where an image, on a white ground, is white."""
    on_white, on_black = (
        read_grey(path, what="mask", entries=2**28, behind=colour) for colour in ("white", "black")
    )
    kept = on_white > WHITE * 255
    white = kept & (on_black > 127)  # paint, not ground: it could be a stroke as well as what is kept
    if not torch.equal(on_white, on_black) and (white.any() or kept.all()):
        what = "white painted" if white.any() else "nothing painted"
        raise ValueError(
            f"mask '{path}' has {what} on a transparent ground, so that nobody can tell what is missing; paint what "
            "is missing black, or save without transparency: white is kept, grey and black are restored"
        )
    return kept


def _brush(kept: Tensor, missing: float, generator: torch.Generator) -> None:
    """Erase straight strokes, each going on where the last ended, until enough is gone."""
    height, width = kept.shape
    radius = max(0.5, min(height, width) / 24)
    size = torch.tensor([height, width], dtype=torch.float64)
    start = torch.rand(2, generator=generator, dtype=torch.float64) * size
    while (~kept).sum() < missing * kept.numel():
        end = torch.rand(2, generator=generator, dtype=torch.float64) * size
        low = (torch.minimum(start, end) - radius).floor().clamp(min=0).long()
        high = torch.minimum((torch.maximum(start, end) + radius).ceil() + 1, size).long()
        window = kept[low[0] : high[0], low[1] : high[1]]
        rows = torch.arange(int(low[0]), int(high[0])).double().unsqueeze(1) - start[0]
        columns = torch.arange(int(low[1]), int(high[1])).double() - start[1]
        way = end - start
        share = ((rows * way[0] + columns * way[1]) / (way @ way)).clamp(0, 1)
        distance2 = (rows - share * way[0]) ** 2 + (columns - share * way[1]) ** 2
        window &= distance2 > radius**2
        start = end
