"""Pictures that are damaged, hostile or too large: refused in one line, at once and with little memory."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.core.test_images import RGB, RGBA, chunk, npy, pillow, png, tiff
from undiffuse.core.images import read

WHOLE = {
    "png": pillow(Image.fromarray(RGB), "PNG"),
    "png16": bytes(imagecodecs.png_encode(RGB.astype(np.uint16) * 257)),
    "palette": pillow(Image.fromarray(RGB).quantize(7), "PNG"),
    "jpg": pillow(
        Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    ),
    "cmyk": pillow(Image.fromarray(RGBA, "CMYK"), "JPEG"),
    "webp": pillow(Image.fromarray(RGBA), "WEBP", lossless=True),
    "webp-lossy": pillow(Image.fromarray(RGB), "WEBP"),
    "tif": tiff(RGB, photometric="rgb"),
    "tif-lzw": tiff(RGB.astype("u2"), photometric="rgb", compression="lzw", predictor=True, rowsperstrip=2),
    "tif-packbits": tiff(RGB[..., 0], compression="packbits"),
    "tif-zstd": tiff((RGB / 255).astype("f4"), photometric="rgb", compression="zstd", predictor=True),
    "tif-tiled": tiff(RGBA, photometric="rgb", compression="deflate", tile=(16, 16)),
    "tif-pages": tiff(np.zeros((3, 6, 8), "f4"), photometric="minisblack"),
    "npy": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (6, 8, 3), }", RGB.tobytes()),
}


HUGE = 2**20  # squared: 10^12 pixels


def webp_huge(kind: bytes, header: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(header)) + header
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_huge() -> bytes:
    data = bytearray(WHOLE["jpg"])
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    return bytes(data)


def tiff_with(tag: int, value: int, data: bytes = WHOLE["tif"]) -> bytes:
    with tifffile.TiffFile(BytesIO(data)) as file:
        at = file.pages[0].tags[tag].offset
    return data[: at + 2] + struct.pack("<HII", 4, 1, value) + data[at + 12 :]


def array(values: object, **options) -> bytes:
    out = BytesIO()
    np.save(out, values, **options)
    return out.getvalue()


SIMPLE = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}"


REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"hello, I am a text", "begins with"),
    "gif": (pillow(Image.fromarray(RGB), "GIF"), "begins with"),
    "npz": (b"PK\3\4" + bytes(40), "begins with"),
    "pickle": (b"\x80\x04\x95" + bytes(40), "begins with"),
    "png-bomb": (png(HUGE, HUGE, 8, 2, b""), "at most"),
    "png-bomb-16": (png(HUGE, HUGE, 16, 2, b""), "at most"),
    "png-bomb-behind": (
        png(1, 1, 8, 0, b"\0\0", chunk(b"IHDR", struct.pack(">IIBBBBB", HUGE, HUGE, 8, 2, 0, 0, 0))),
        "one header",
    ),
    "png-zero": (png(0, 5, 8, 2, b""), "at least one"),
    "png-no-end": (WHOLE["png"][:-12], "stops before its end"),
    "jpg-bomb": (jpeg_huge(), "at most"),
    "webp-bomb-x": (webp_huge(b"VP8X", b"\0\0\0\0" + b"\xff" * 6), "at most"),
    "webp-bomb-l": (webp_huge(b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(8)), "at most"),
    "webp-bomb": (webp_huge(b"VP8 ", b"\x10\0\0\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(8)), "at most"),
    "tif-bomb": (tiff_with(256, HUGE, tiff_with(257, HUGE)), "at most"),
    "tif-bomb-tile": (tiff_with(322, HUGE, tiff_with(323, HUGE, WHOLE["tif-tiled"])), "at most"),
    "tif-channels": (
        tiff(np.zeros((4, 4, 65), "u1"), photometric="minisblack", planarconfig="contig"),
        "at most 64",
    ),
    "tif-jpeg": (tiff(np.zeros((16, 16, 3), "u1"), photometric="rgb", compression="jpeg"), "compression 7"),
    "tif-int": (tiff(np.zeros((4, 4), "i2")), "unsigned"),
    "tif-u4": (tiff(np.zeros((4, 4), "u4")), "unsigned"),
    "tif-complex": (tiff(np.zeros((4, 4), "c8")), "unsigned"),
    "tif-lab": (tiff(np.zeros((4, 4, 3), "u1"), photometric="cielab"), "colours"),
    "tif-volume": (
        tiff(np.zeros((3, 16, 16), "u1"), photometric="minisblack", volumetric=True, tile=(16, 16, 16)),
        "volume",
    ),
    "tif-cmyk-lzw": (tiff(RGBA, photometric="separated", compression="lzw"), "expected deflate"),
    "tif-nan": (tiff(np.full((4, 4), np.nan, "f4")), "NaN"),
    "tif-range": (tiff(np.full((4, 4), 1.5, "f4")), "rescale"),
    "npy-bomb": (npy(SIMPLE.format("|u1", (HUGE, HUGE))), "at most"),
    "npy-overflow": (npy(SIMPLE.format("|u1", (2**40, 2**40))), "at most"),
    "npy-short": (npy(SIMPLE.format("|u1", (4, 4)), b"123"), "whole file"),
    "npy-long": (npy(SIMPLE.format("|u1", (1, 1)), b"123"), "whole file"),
    "npy-negative": (npy(SIMPLE.format("|u1", (-4, 4))), "shape"),
    "npy-empty": (array(np.zeros((0, 4))), "at least one"),
    "npy-object": (array(np.array([[{}]]), allow_pickle=True), "object"),
    "npy-int64": (array(np.zeros((4, 4), np.int64)), "int64"),
    "npy-complex": (array(np.zeros((4, 4), complex)), "complex"),
    "npy-longdouble": (array(np.zeros((4, 4), np.longdouble)), "longdouble|float128|float64"),
    "npy-1d": (array(np.zeros(4)), "shape"),
    "npy-4d": (array(np.zeros((1, 3, 8, 8))), "shape"),
    "npy-channels": (array(np.zeros((8, 8, 65), np.uint8)), "at most 64"),
    "npy-code": (npy("__import__('os').abort()"), "decoded"),
    "npy-version": (npy(SIMPLE.format("|u1", (1, 1)), b"1", b"\x07\x00"), "version|decoded"),
    "npy-inf": (array(np.full((4, 4), np.inf)), "infinite"),
    "npy-above-float32": (array(np.full((4, 4), 1e300)), "infinite"),
}


if np.dtype(np.longdouble).itemsize == 8:  # platforms where it is float64
    del REFUSED["npy-longdouble"]


def assert_refused(path: Path, match: str, **options) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        read(path, **options)
    message = str(caught.value)
    assert caught.type is ValueError
    assert str(path) in message and "\n" not in message
    assert "expected" in message and ";" in message  # what was hoped for, what to do


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("suffix", [".png", ".npy"])
def test_refused(put, name, suffix):
    data, match = REFUSED[name]
    assert_refused(put(name + suffix, data), match, max_pixels=2**24)


def test_the_default_limit(put):
    assert_refused(put("a", png(30_000, 10_001, 8, 0, b"")), "at most 300000000 pixels")
    assert_refused(
        put("a", png(30_000, 10_000, 8, 0, b"")), "cannot be decoded"
    )  # within it; the pixels are missing


def test_measured_is_no_excuse_for_nan(put):
    for name in ("tif-nan", "npy-inf"):
        assert_refused(put(name, REFUSED[name][0]), "NaN", measured=True)
    # finite as stored, infinite as 2 x - 1
    assert_refused(put("a.tif", tiff(np.full((4, 4), 3e38, "f4"))), "huge", measured=True)


def test_refused_paths(tmp_path):
    assert_refused(tmp_path, "folder")
    assert_refused(tmp_path / "missing.png", "cannot be opened")
    with pytest.raises(ValueError, match="opened"):
        read(f"{tmp_path}/a\0b.png")
    os.mkfifo(tmp_path / "pipe")
    assert_refused(tmp_path / "pipe", "regular")
    assert_refused(tmp_path / "missing" / "a.png", "cannot be opened")
    with pytest.raises(ValueError) as caught:
        read(tmp_path / "two\nlines.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", WHOLE)
def test_the_limit_is_the_callers(put, name):
    path = put("a", WHOLE[name])
    read(path, max_pixels=48)
    assert_refused(path, "at most 47 pixels", max_pixels=47)


@pytest.mark.parametrize("name", sorted(WHOLE.keys() - {"tif-pages"}))  # there the first page stays whole
def test_truncated(put, name):
    data = WHOLE[name]
    for cut in range(1, len(data), max(1, len(data) // 60)):
        assert_refused(put("a", data[:-cut]), "expected", max_pixels=10_000)


def repaired(data: bytes) -> bytes:
    """A PNG with right checksums, so that damage reaches what lies behind them."""
    at, out = 8, data[:8]
    while at + 12 <= len(data):
        length = min(struct.unpack_from(">I", data, at)[0], len(data) - at - 12)
        out += chunk(data[at + 4 : at + 8], data[at + 8 : at + 8 + length])
        at += 12 + length
    return out


@pytest.mark.filterwarnings("ignore")  # decoders and casts warn about what they meet
@pytest.mark.parametrize("name", WHOLE)
def test_random_damage_is_refused_or_read(put, name):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    outcomes = set()
    for _ in range(150):
        data = bytearray(WHOLE[name])
        for at in rng.integers(0, len(data), rng.integers(1, 5)):
            data[at] = rng.integers(0, 256)
        if rng.random() < 0.2:
            data = data[: rng.integers(0, len(data))]
        if name.startswith(("png", "palette")) and rng.random() < 0.8:
            data = repaired(bytes(data))
        path = put("a", bytes(data))
        try:
            picture = read(path, max_pixels=10_000, measured=True)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            outcomes.add("refused")
        else:
            assert picture.pixels.isfinite().all() and picture.pixels.ndim == 3
            outcomes.add("read")
    assert outcomes >= {"refused"}  # a fuzz that damages nothing would test nothing


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["tif", "tif-lzw", "tif-packbits", "tif-zstd", "tif-tiled"])
def test_damaged_tags_are_refused_or_read(put, name):
    with tifffile.TiffFile(BytesIO(WHOLE[name])) as file:
        tags = [tag.code for tag in file.pages[0].tags]
    for tag in tags:
        for value in (0, 1, 2, 3, 7, 255, 65535, 2**31, 2**32 - 1):
            path = put("a", tiff_with(tag, value, WHOLE[name]))
            try:
                read(path, max_pixels=10_000)
            except ValueError as error:
                assert str(path) in str(error)


def test_pages_in_a_circle(put):
    data = bytearray(WHOLE["tif"])
    with tifffile.TiffFile(BytesIO(data)) as file:
        first = file.pages[0].offset
    at = first + 2 + 12 * struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, at, first)
    assert read(put("a", bytes(data))).notes == ("first of several pages",)
