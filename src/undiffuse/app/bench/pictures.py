"""The clean pictures of a benchmark: centre crops, known by their pixels."""

import glob
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from undiffuse.core.images import read

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".npy")


@dataclass(frozen=True, slots=True)
class Picture:
    """A clean picture. pixels: (1, C, H, W) in [-1, 1]; sha256: of its shape and float32 values."""

    name: str
    sha256: str
    pixels: Tensor


def open_pictures(
    data: tuple[str, ...], count: int, size: int, channels: int | None
) -> tuple[list[Picture], list[str]]:
    """The first `count` of each entry of `data`, by name, and notes on what was left out.

    Pictures with a side under `size`, or with other than `channels` channels, are passed over, and so are those of a
    folder or pattern that cannot be read. ValueError if an entry gives none.
    """
    found: dict[str, Picture] = {}
    notes: list[str] = []
    for entry in data:
        taken, passed = 0, 0
        for path in _paths(entry):
            try:
                pixels = read(path).pixels
            except ValueError as error:
                if Path(entry) == path:
                    raise
                notes.append(f"left out: {error}")
                continue
            fits = min(pixels.shape[1:]) >= size and channels in (None, pixels.shape[0])
            if not fits:
                passed += 1
                continue
            picture = _cropped(path.stem, pixels, size)
            found.setdefault(picture.sha256, picture)  # the same picture twice is one
            taken += 1
            if taken == count:
                break
        wanted = f"{size} x {size} pixels" + ("" if channels is None else f" in {channels} channels")
        if not taken:
            raise ValueError(f"'{entry}' holds no picture of at least {wanted}; use a smaller --size")
        if passed:
            notes.append(f"{passed} pictures of '{entry}' left out: not {wanted}")
    return list(found.values()), notes


def _paths(entry: str) -> Iterator[Path]:
    """A picture, those of a folder, or those of a pattern, in the order of their names."""
    path = Path(entry)
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = [p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()]
    else:
        found = [Path(p) for p in glob.glob(entry) if os.path.isfile(p)]
    if not found:
        raise ValueError(f"--data {entry}: no pictures there; expected a folder, a picture or a pattern")
    yield from sorted(found)


def _cropped(name: str, pixels: Tensor, size: int) -> Picture:
    top, left = ((n - size) // 2 for n in pixels.shape[1:])
    x = pixels[None, :, top : top + size, left : left + size].contiguous()
    digest = hashlib.sha256(f"{tuple(x.shape)}".encode() + x.float().numpy().tobytes()).hexdigest()
    return Picture(name, digest, x)
