"""Pictures inside a page, so that it is one file and stays light."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from PIL import Image
from torch import Tensor

from undiffuse.app.outputs import as_image

QUALITY = 90  # of JPEG
SMALLER = 0.95  # the sides at least, until the bytes suffice
PACKED = 8  # bytes of a picture that a PNG may make one of, at best: more is not tried
LEAST = 64  # pixels of the longer side: smaller is no picture any more


@dataclass(frozen=True, slots=True)
class Embedded:
    """A picture of a page."""

    caption: str
    url: Markup  # nothing in it to escape
    width: int
    height: int

    @property
    def coarse(self) -> bool:
        """Whether the page enlarges it so much that its pixels are to be seen as squares."""
        return max(self.width, self.height) < 300


def embedded(pictures: Sequence[tuple[str, Tensor]], side: int, heaviest: int) -> list[Embedded]:
    """Captions and pictures (C, H, W) in [-1, 1], all reduced alike: only so can they be compared.

    No longer than `side` pixels. Each as it is (PNG) if that takes `heaviest` bytes or less, else as JPEG; if
    together they take more than `heaviest` for each, all are made smaller.
    """
    whole = [as_image(pixels) for _, pixels in pictures]
    side = min(side, max((max(picture.size) for picture in whole), default=side))
    coded = [_coded(picture, side, heaviest) for picture in whole]
    while (total := sum(len(data) for data, _, _ in coded)) > heaviest * len(coded) and side > LEAST:
        side = max(LEAST, int(side * min(SMALLER, (heaviest * len(coded) / total) ** 0.5)))
        coded = [_coded(picture, side, heaviest) for picture in whole]
    return [
        Embedded(caption, _url(data, kind), *size)
        for (caption, _), (data, kind, size) in zip(pictures, coded, strict=True)
    ]


def _coded(picture: Image.Image, side: int, heaviest: int) -> tuple[bytes, str, tuple[int, int]]:
    reduced = picture.copy()
    reduced.thumbnail((side, side), Image.Resampling.LANCZOS)
    exact = 3 * reduced.width * reduced.height <= PACKED * heaviest
    for kind in ("png", "jpeg") if exact else ("jpeg",):
        data = io.BytesIO()
        reduced.save(data, kind, quality=QUALITY)
        if len(data.getvalue()) <= heaviest:
            break
    return data.getvalue(), kind, reduced.size


def _url(data: bytes, kind: str) -> Markup:
    return Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
