"""Files to arrays, one function a format.

What comes from outside is hostile: sizes are checked before pixels are decoded.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from undiffuse.core.jpeg import BLOCK, Tables

MAX_CHANNELS = 64
KINDS = "PNG, JPEG, WebP, TIFF or .npy"

# Compressions whose output is bounded by the size that the page declares. JPEG and its like inside a TIFF
# carry a size of their own, which nobody has checked.
TIFF_COMPRESSIONS = {
    1: "none",
    5: "LZW",
    8: "deflate",
    32946: "deflate",
    32773: "PackBits",
    50000: "Zstandard",
}
_BY_LIBTIFF = (5, 32773)

Alpha = Literal["straight", "premultiplied"]
Array = NDArray[Any]


class Refused(ValueError):
    """A file that is not read: what was found and what to do, without the path, which the caller knows."""


@dataclass(frozen=True, slots=True)
class Raster:
    """What a file holds, before it becomes a picture."""

    values: Array  # (H, W, C), as stored; an alpha channel comes last
    levels: int | None  # the largest integer value; None for floats in [0, 1]
    alpha: Alpha | None = None
    cmyk: bool = False
    orientation: int = 1  # EXIF, 1 to 8
    notes: tuple[str, ...] = ()
    jpeg: Tables | None = None  # how its coefficients were rounded
    profile: bytes | None = None  # ICC, as it lies in the file


@dataclass(frozen=True, slots=True)
class Limits:
    """How large an image may claim to be. Channels count too: four values a pixel of the limit, in all."""

    max_pixels: int

    def check(self, width: int, height: int, channels: int = 1) -> None:
        """Refuse a size that is empty or too large."""
        size = f"{width} x {height} pixels with {channels} channels"
        if width < 1 or height < 1 or channels < 1:
            raise Refused(f"claims {size}; expected at least one of each; export the picture again")
        if channels > MAX_CHANNELS:
            raise Refused(f"claims {size}; expected at most {MAX_CHANNELS} channels; keep those you need")
        if width * height > self.max_pixels or width * height * channels > 4 * self.max_pixels:
            most = f"at most {self.max_pixels} pixels of 4 channels"
            raise Refused(
                f"claims {size}; expected {most}; crop or shrink it (in Python, max_pixels can be raised)"
            )


def decode(file: BinaryIO, limits: Limits) -> Raster:
    """The first image of an open file. The kind is read from its first bytes; its name is not asked.

    `Refused` where we say why; on damaged bytes whatever the libraries raise, which can be any Exception.
    """
    head = file.read(16)
    file.seek(0)
    for matches, read in _READERS:
        if matches(head):
            return read(file, limits)
    if not head:
        raise Refused(f"the file is empty; expected {KINDS}; copy or export it again")
    raise Refused(
        f"begins with {head[:8]!r}, no picture known here; expected {KINDS}; export it as one of them"
    )


def _contents(file: BinaryIO, limits: Limits) -> bytes:
    # 8 bytes a pixel is 16-bit RGBA, stored plainly; 64 MiB is for profiles and other baggage
    longest = 8 * limits.max_pixels + 2**26
    data = file.read(longest + 1)
    if len(data) > longest:
        raise Refused(
            f"longer than {longest} bytes; expected less for {limits.max_pixels} pixels; export it again"
        )
    return data


def _png(file: BinaryIO, limits: Limits) -> Raster:
    data = _contents(file, limits)
    width, height, depth, colour = _png_header(data)
    limits.check(width, height, 4)  # decoders make room for four, whatever it has
    image = PngImageFile(BytesIO(data))
    image.load()
    if depth == 8 or colour == 3 or depth == 1:
        return _from_pillow(image)
    # Pillow keeps 16 bits of greyscale only, and mistakes the transparent value of 2 and 4 bits
    from imagecodecs import png_decode

    values = png_decode(data).reshape(height, width, -1)
    levels = 2**depth - 1
    if depth < 8:
        values = values // (255 // levels)  # it was spread over 0..255
    orientation, notes = _orientation(image)
    alpha = "straight" if values.shape[2] in (2, 4) else None
    frames = _frames(image)
    return Raster(values, levels, alpha, False, orientation, frames + notes, profile=_profile(image))


def _png_header(data: bytes) -> tuple[int, int, int, int]:
    """Width, height, bit depth, colour type.

    Walks the chunks, because Pillow believes the last of several headers and forgives a missing end.
    """
    at, kinds = 8, list[bytes]()
    while at + 12 <= len(data) and b"IEND" not in kinds[-1:]:
        length, kind = struct.unpack_from(">I4s", data, at)
        kinds.append(kind)
        at += 12 + length
    if kinds[-1:] != [b"IEND"] or at > len(data):
        raise Refused("a PNG that stops before its end; expected a whole file; copy or export it again")
    if kinds[0] != b"IHDR" or kinds.count(b"IHDR") != 1:
        raise Refused("a PNG without one header at its start; expected a valid file; export it again")
    return struct.unpack_from(">IIBB", data, 16)


def _jpeg(file: BinaryIO, limits: Limits) -> Raster:
    data = _contents(file, limits)
    image = JpegImageFile(BytesIO(data))
    limits.check(*image.size, len(image.getbands()))
    tables = _jpeg_tables(image)
    if tables is not None and any(n % BLOCK for n in image.size):
        tables = replace(tables, whole=partial(_whole_blocks, data))  # for those who ask: a second decoding
    return replace(_from_pillow(image), jpeg=tables)


def _jpeg_tables(image: JpegImageFile) -> Tables | None:
    """None for what is not grey or Y Cb Cr, or samples its colours in a way that is no whole number of pixels."""
    if image.mode not in ("L", "RGB") or image.info.get("adobe_transform") == 0:
        return None
    most = [max(part[axis] for part in image.layer) for axis in (2, 1)]  # (name, columns, rows, table)
    components: list[tuple[Array, int, int]] = []
    for _, columns, rows, number in image.layer:
        steps = np.array(image.quantization.get(number, ()))
        if steps.size != BLOCK**2 or (steps < 1).any() or most[0] % rows or most[1] % columns:
            return None
        components.append((steps.reshape(BLOCK, BLOCK), most[0] // rows, most[1] // columns))
    return Tables(tuple(components))


def _whole_blocks(data: bytes) -> Array | None:
    """What a decoder shows that is told of a picture of whole blocks. None where it is, or its size is not found.

    To whole blocks of a component that is not subsampled: to more, and a progressive file, whose scans of one
    component count the blocks of the picture alone (T.81, A.2.2), would be another.
    """
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0xC0, 0xC1, 0xC2):
        filler = data[at + 1] == 0xFF
        at += 1 if filler else 2 + struct.unpack_from(">H", data, at + 2)[0]
    if at + 9 > len(data) or data[at] != 0xFF:
        return None
    size = struct.unpack_from(">HH", data, at + 5)
    told = [-(-n // BLOCK) * BLOCK for n in size]
    if told == [*size] or max(told) > 0xFFFF:
        return None
    try:
        return np.array(JpegImageFile(BytesIO(data[: at + 5] + struct.pack(">HH", *told) + data[at + 9 :])))
    except (OSError, SyntaxError):  # as Pillow says that a file is damaged
        return None


def _webp(file: BinaryIO, limits: Limits) -> Raster:
    data = _contents(file, limits)
    width, height = _webp_size(data)
    limits.check(width, height, 4)
    return _from_pillow(WebPImageFile(BytesIO(data)))


def _webp_size(data: bytes) -> tuple[int, int]:
    """The canvas, read by hand: the decoder makes room for it as soon as it is opened."""

    def number(start: int, stop: int) -> int:
        return int.from_bytes(data[start:stop], "little")

    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + number(24, 27), 1 + number(27, 30)
    if kind == b"VP8L":
        return 1 + (number(21, 25) & 0x3FFF), 1 + (number(21, 25) >> 14 & 0x3FFF)
    return number(26, 28) & 0x3FFF, number(28, 30) & 0x3FFF


def _from_pillow(image: Image.Image) -> Raster:
    """Eight bits or fewer a channel."""
    image.load()
    notes = _frames(image)
    orientation, more = _orientation(image)
    plain: Image.Image = image
    if image.mode == "P":
        notes += ("palette expanded to RGB",)
        plain = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.has_transparency_data and image.mode in ("1", "L", "RGB"):
        plain = image.convert("RGBA" if image.mode == "RGB" else "LA")
    if plain.mode not in ("1", "L", "LA", "RGB", "RGBA", "CMYK"):
        raise Refused(
            f"has the pixel mode {plain.mode}; expected grey, RGB, RGBA or CMYK; export it as one of them"
        )
    values = np.asarray(plain)
    values = values.reshape(*values.shape[:2], -1)
    alpha = "straight" if plain.mode in ("LA", "RGBA") else None
    levels, notes = 1 if plain.mode == "1" else 255, notes + more
    return Raster(values, levels, alpha, plain.mode == "CMYK", orientation, notes, profile=_profile(image))


def _profile(image: Image.Image) -> bytes | None:
    found = image.info.get("icc_profile")
    return found if isinstance(found, bytes) else None


def _frames(image: Image.Image) -> tuple[str, ...]:
    frames = getattr(image, "n_frames", 1)
    return (f"first of {frames} frames",) if frames > 1 else ()


def _orientation(image: Image.Image) -> tuple[int, tuple[str, ...]]:
    try:
        return int(image.getexif().get(0x0112, 1)), ()
    except Exception:  # a damaged tag beside sound pixels: said, not refused
        return 1, ("EXIF data unreadable: not turned",)


def _tiff(file: BinaryIO, limits: Limits) -> Raster:
    from tifffile import TiffFile, TiffPage

    size = file.seek(0, 2)
    file.seek(0)
    with TiffFile(file) as tiff:
        page = tiff.pages[0]
        assert isinstance(page, TiffPage)
        levels = _check_tiff(page, size, limits)
        notes: tuple[str, ...] = ()
        try:
            tiff.pages[1]  # not len(pages): it would follow a chain of pages that may be endless
            notes = ("first of several pages",)
        except IndexError:
            pass
        stored = _tiff_values(page, file, limits)
    values = stored.transpose(1, 2, 0, 3).reshape(*stored.shape[1:3], -1)  # (H, W, C)
    photometric = int(page.photometric)
    if photometric == 3:
        notes += ("palette expanded to RGB",)
        colours = np.asarray(page.colormap).T  # (entries, 3), 16 bits
        high, low = colours >> 8, colours & 255
        if (low == high).all() or (low == 0).all():  # the two ways in which 8 bits are stored as 16
            colours, levels = high, 255
        else:
            levels = 65535
        values = colours[values[..., 0]]
    elif photometric == 0:
        notes += ("white-is-zero inverted",)
        values = (1 if levels is None else levels) - values.astype(np.float64 if levels is None else np.int64)
    extra = page.extrasamples[-1] if page.extrasamples else 0
    alpha: Alpha | None = {1: "premultiplied", 2: "straight"}.get(int(extra))  # type: ignore[assignment]
    orientation = int(page.tags.valueof(274, 1))
    profile = page.tags.valueof(34675)
    profile = profile if isinstance(profile, bytes) else None
    return Raster(values, levels, alpha, photometric == 5, orientation, notes, profile=profile)


def _tiff_values(page: Any, file: BinaryIO, limits: Limits) -> Array:
    """(planes, H, W, samples)."""
    if page.compression not in _BY_LIBTIFF:
        return page.asarray(squeeze=False, maxworkers=1)[:, 0]
    # by libtiff: on damaged data tifffile's LZW follows a table that it has not filled, and crashes
    from imagecodecs import tiff_decode

    file.seek(0)
    shape = (page.imagelength, page.imagewidth) if page.samplesperpixel == 1 else page.shape
    values = np.empty(shape, page.dtype)  # given, so that another size in libtiff's eyes is an error
    tiff_decode(_contents(file, limits), index=0, out=values)
    planes, _, height, width, samples = page.shaped
    return values.reshape(planes, height, width, samples)


def _check_tiff(page: Any, size: int, limits: Limits) -> int | None:
    """Refuse a page whose pixels we could not trust; its levels."""
    limits.check(page.imagewidth, page.imagelength, page.samplesperpixel)
    if page.is_tiled:
        # decoded whole, and larger than the image if that is small
        Limits(max(limits.max_pixels, 2**22)).check(page.tilewidth, page.tilelength, page.samplesperpixel)
    if page.imagedepth != 1 or (page.is_tiled and page.tiledepth != 1):
        raise Refused("a TIFF volume; expected a flat image; export one slice")
    if page.compression not in TIFF_COMPRESSIONS:
        names = ", ".join(dict.fromkeys(TIFF_COMPRESSIONS.values()))
        raise Refused(
            f"TIFF compression {int(page.compression)}; expected one of {names}; export it so, or as PNG"
        )
    if page.photometric not in (0, 1, 2, 3, 5):
        raise Refused(
            f"TIFF colours {page.photometric!r}; expected grey, RGB, palette or CMYK; export it as RGB"
        )
    if page.photometric == 5 and page.samplesperpixel != 4 + len(page.extrasamples):
        raise Refused(f"a TIFF of {page.samplesperpixel} inks; expected CMYK; export it as RGB")
    if (
        page.photometric == 5 and page.compression in _BY_LIBTIFF
    ):  # the decoder would turn it to RGB in its own way
        raise Refused(
            "a CMYK TIFF with LZW or PackBits; expected deflate or no compression; export it so, or as RGB"
        )
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if len(segments) != math.prod(page.chunked) or any(
        n < 1 or at < 8 or at + n > size for at, n in segments
    ):
        raise Refused("a TIFF whose data lie beyond its end; expected a whole file; copy or export it again")
    kind = "?" if page.dtype is None else page.dtype.kind
    bits = page.bitspersample
    if kind == "f":
        return None
    if kind not in "ub" or not isinstance(bits, int) or bits > 16:
        raise Refused(
            f"TIFF samples {page.dtype}, {bits} bits; expected unsigned, at most 16, or float; convert it"
        )
    return 2**bits - 1


def _npy(file: BinaryIO, limits: Limits) -> Raster:
    size = file.seek(0, 2)
    file.seek(0)
    version = np.lib.format.read_magic(file)
    headers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in headers:
        raise Refused(f".npy of version {version}; expected 1.0 or 2.0; save it again with numpy.save")
    shape, fortran, dtype = headers[version](file)
    levels = _npy_levels(dtype)
    shape, first = _npy_layout(shape)
    height, width, channels = shape[1:] + shape[:1] if first else shape
    limits.check(width, height, channels)
    count = math.prod(shape)
    held, claimed = size - file.tell(), count * dtype.itemsize
    if held != claimed:
        raise Refused(f"{held} bytes of data, {claimed} by its header; expected a whole file; save it again")
    values = np.frombuffer(file.read(claimed), dtype).reshape(shape, order="F" if fortran else "C")
    if not first:
        return Raster(values, levels)
    note = "read as (channels, height, width): the first axis is at most 4 and the last is longer"
    return Raster(np.moveaxis(values, 0, 2), levels, notes=(note,))


def _npy_levels(dtype: np.dtype[Any]) -> int | None:
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return None
    levels = {"b1": 1, "u1": 255, "u2": 65535}.get(f"{dtype.kind}{dtype.itemsize}")
    if levels is None:
        raise Refused(f"an array of {dtype}; expected bool, uint8, uint16 or float in [0, 1]; convert it")
    return levels


def _npy_layout(shape: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    """Three axes, and whether channels come first: at most 4 of them, and a last axis longer than 4."""
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3 or any(n < 0 for n in shape):
        raise Refused(
            f"an array of shape {shape}; expected (H, W), (H, W, C) or (C, H, W); save one image a file"
        )
    return shape, shape[0] <= 4 < shape[2]


_READERS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, Limits], Raster]], ...] = (
    (lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    (lambda head: head.startswith(b"\xff\xd8\xff"), _jpeg),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", _webp),
    (lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    (lambda head: head.startswith(b"\x93NUMPY"), _npy),
)
