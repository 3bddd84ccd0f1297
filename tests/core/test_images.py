import math
import os
import struct
import zlib
from io import BytesIO, FileIO
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps

from undiffuse.core import images
from undiffuse.core.images import Picture, from_unit, read, to_bytes, to_unit, write


def levels_image(channels: int, levels: int, height: int = 7, width: int = 9, seed: int = 0) -> torch.Tensor:
    """Values on the grid of `levels`, both ends among them, in float64 so that the expectation is exact."""
    rng = np.random.default_rng(seed)
    stored = rng.integers(0, levels + 1, (channels, height, width))
    stored[0, 0, 0], stored[-1, -1, -1] = 0, levels
    return from_unit(torch.as_tensor(stored) / levels)


def stored(picture: Picture) -> np.ndarray:
    """(H, W, C) integers; fails if a value is off the grid by more than float32 rounding."""
    assert picture.levels is not None and picture.pixels.dtype == torch.float32
    exact = to_unit(picture.pixels.double()).permute(1, 2, 0).numpy() * picture.levels
    # float32 is exact to 2^-24 in [-1, 1], twice over (division, scale): in units of a level, levels * 2^-23
    assert np.abs(exact - exact.round()).max() <= picture.levels * 2**-23
    return exact.round().astype(np.int64)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + extra + data + chunk(b"IEND", b"")


def pillow(image: Image.Image, kind: str, **options) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def tiff(values: np.ndarray, **options) -> bytes:
    out = BytesIO()
    tifffile.imwrite(out, values, metadata=None, **options)
    return out.getvalue()


RGB = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.fixture
def put(tmp_path):
    def put(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return put


# --- round trips


@pytest.mark.parametrize("suffix, channels, levels", [
    *[(".png", c, n) for c in (1, 3) for n in (255, 65535)],
    *[(s, c, n) for s in (".tif", ".tiff") for c in (1, 2, 3, 4, 5) for n in (255, 65535)],
    (".webp", 3, 255), (".TIF", 3, 255),
])  # fmt: skip
def test_integers_come_back_exactly(tmp_path, suffix, channels, levels):
    x = levels_image(channels, levels)
    write(x, tmp_path / f"a{suffix}", levels=levels)
    picture = read(tmp_path / f"a{suffix}")
    assert picture.levels == levels and picture.notes == () and picture.quantum == 2 / levels
    assert picture.pixels.shape == x.shape
    assert (picture.pixels - x).abs().max() <= 2**-22  # float32 of the same grid
    assert np.array_equal(stored(picture), (to_unit(x) * levels).round().permute(1, 2, 0).numpy())


@pytest.mark.parametrize("suffix", [".tif", ".npy"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_floats_come_back_exactly_and_unclamped(tmp_path, suffix, channels):
    unit = torch.rand(channels, 5, 6, generator=torch.Generator().manual_seed(0)) * 1.5 - 0.25
    write(from_unit(unit.double()), tmp_path / f"a{suffix}", levels=None)
    picture = read(tmp_path / f"a{suffix}", measured=True)
    assert picture.levels is None and picture.quantum == 0.0
    assert torch.equal(
        picture.pixels, from_unit(unit)
    )  # what was stored is the float32 of [0, 1], bit for bit
    assert len(picture.notes) == 1 and "kept as measured" in picture.notes[0]
    with pytest.raises(ValueError, match="expected floats in \\[0, 1\\]"):
        read(tmp_path / f"a{suffix}")


def test_npy_holds_unit_hwc_float32(tmp_path):
    x = levels_image(3, 255)
    write(x, tmp_path / "a.npy")
    values = np.load(tmp_path / "a.npy")
    assert values.dtype == np.float32 and values.shape == (7, 9, 3)
    assert np.array_equal(values, to_unit(x).float().permute(1, 2, 0).numpy())


@pytest.mark.parametrize("suffix, channels", [(".jpg", 1), (".jpg", 3), (".jpeg", 3)])
def test_jpeg_comes_back_within_its_quantisation(tmp_path, suffix, channels):
    ramp = torch.linspace(-1, 1, 32)
    x = torch.stack([(ramp[:, None] + k * ramp) / (1 + k) for k in range(channels)])
    write(x, tmp_path / f"a{suffix}")
    error = (read(tmp_path / f"a{suffix}").pixels - x).abs() * 127.5
    # quality 95 has steps up to 10 levels, so an error up to 5 a coefficient; smooth blocks have few of them
    assert error.max() <= 6 and error.mean() <= 1.5
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.format == "JPEG"
        assert {layer[1:3] for layer in image.layer} == {(1, 1)}  # 4:4:4


def test_webp_has_no_grey(tmp_path):
    x = levels_image(1, 255)
    write(x, tmp_path / "a.webp")
    assert torch.allclose(read(tmp_path / "a.webp").pixels, x.float().expand(3, -1, -1), rtol=0, atol=2**-22)


def test_rounding_is_half_up_and_clamped():
    unit = torch.tensor([-7.0, 0.0, 0.49 / 255, 0.5 / 255, 1.5 / 255, 0.5, 254.49 / 255, 1.0, 9.0])
    x = from_unit(unit.double()).reshape(1, 1, -1)
    x[0, 0, 3:5] = torch.tensor([-1 + 2**-8, -1 + 3 * 2**-8])  # 0.498 and 1.494: below the half
    assert to_bytes(x).ravel().tolist() == [0, 0, 0, 0, 1, 128, 254, 255, 255]
    assert to_bytes(torch.zeros(3, 2, 4)).shape == (2, 4, 3)


def test_units_are_inverse():
    x = torch.linspace(-1, 1, 11, dtype=torch.float64)
    assert torch.allclose(from_unit(to_unit(x)), x, rtol=0, atol=1e-15)
    assert to_unit(x)[0] == 0 and to_unit(x)[-1] == 1


# --- what a file can hold


def test_16_bit_png_from_elsewhere(put):
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    picture = read(put("a.png", pillow(Image.fromarray(grey), "PNG")))
    assert picture.levels == 65535 and picture.pixels.shape == (1, 256, 256)
    assert np.array_equal(stored(picture)[..., 0], grey)


@pytest.mark.parametrize("depth, byte, expected", [
    (1, 0b10110000, [1, 0, 1, 1, 0, 0, 0, 0]),
    (2, 0b00011011, [0, 1, 2, 3]),
    (4, 0b10110000, [11, 0]),
])  # fmt: skip
def test_few_bits(put, depth, byte, expected):
    picture = read(put("a.png", png(8 // depth, 1, depth, 0, bytes([0, byte]))))
    assert picture.levels == 2**depth - 1
    assert stored(picture).ravel().tolist() == expected


@pytest.mark.parametrize("depth, transparent", [(1, 1), (2, 2), (4, 11)])
def test_transparent_grey_of_few_bits_is_white(put, depth, transparent):
    extra = chunk(b"tRNS", struct.pack(">H", transparent))
    picture = read(put("a.png", png(8 // depth, 1, depth, 0, bytes([0, 0b10110000]), extra)))
    assert picture.pixels[0, 0, 0] == 1 and picture.pixels[0, 0, -1] == -1
    assert picture.notes == ("alpha channel composited over white",)


@pytest.mark.parametrize("compression", [None, "raw", "tiff_lzw"])
def test_one_bit_tiff_of_both_polarities(put, compression):
    bits = np.random.default_rng(0).integers(0, 2, (5, 9)).astype(bool)
    for photometric in (0, 1):  # Pillow stores what shows the same picture
        data = pillow(Image.fromarray(bits), "TIFF", compression=compression, tiffinfo={262: photometric})
        picture = read(put("a.tif", data))
        assert picture.levels == 1 and np.array_equal(stored(picture)[..., 0], bits)
        assert picture.notes == (() if photometric else ("white-is-zero inverted",))


@pytest.mark.parametrize("kind", ["png", "tif", "tif-lzw", "png-transparent"])
def test_palette(put, kind):
    image = Image.fromarray(RGB).quantize(16)
    expected = np.asarray(image.convert("RGB")).astype(np.int64)
    if kind == "png-transparent":
        index = np.asarray(image)
        picture = read(put("a.png", pillow(image, "PNG", transparency=int(index[0, 0]))))
        expected[index == index[0, 0]] = 255
    else:
        options = {"compression": "tiff_lzw"} if kind == "tif-lzw" else {}
        picture = read(put("a", pillow(image, "PNG" if kind == "png" else "TIFF", **options)))
    assert "palette expanded to RGB" in picture.notes and picture.levels == 255
    assert np.array_equal(stored(picture), expected)


RGBA = np.dstack([RGB, np.linspace(0, 255, 48).astype(np.uint8).reshape(6, 8)])


def over_white(colour: np.ndarray, alpha: np.ndarray, top: float) -> np.ndarray:
    a = alpha[..., None].astype(float) / top
    return np.moveaxis(2 * (a * colour / top + 1 - a) - 1, 2, 0)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TIFF-LZW", "LA", "16"])
def test_alpha_goes_over_white(put, kind):
    source, top = RGBA, 255
    if kind == "LA":
        source = RGBA[..., [0, 3]]
        data = pillow(Image.fromarray(source, "LA"), "PNG")
    elif kind == "TIFF-LZW":
        data = tiff(source, photometric="rgb", compression="lzw", extrasamples=["unassalpha"])
    elif kind == "16":
        source, top = RGBA.astype(np.uint16) * 250, 65535
        data = imagecodecs.png_encode(source)
    else:
        data = pillow(
            Image.fromarray(source), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {})
        )
    picture = read(put("a", data))
    expected = over_white(source[..., :-1], source[..., -1], top)
    assert picture.notes == ("alpha channel composited over white",) and picture.levels == top
    # float32: a handful of roundings of numbers up to 1, doubled
    assert np.abs(picture.pixels.numpy() - expected).max() <= 1e-6


def test_premultiplied_alpha(put):
    alpha = RGBA[..., 3:].astype(np.uint16)
    colour = (RGB.astype(np.uint16) * alpha // 255).astype(np.uint8)
    values = np.dstack([colour, alpha.astype(np.uint8)])
    picture = read(put("a.tif", tiff(values, photometric="rgb", extrasamples=["assocalpha"])))
    expected = np.moveaxis(2 * (colour / 255 + 1 - alpha / 255) - 1, 2, 0)
    assert np.abs(picture.pixels.numpy() - expected).max() <= 1e-6


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_opaque_alpha_is_dropped(put, kind):
    image = Image.fromarray(np.dstack([RGB, np.full((6, 8), 255, np.uint8)]))
    picture = read(put("a", pillow(image, kind)))
    assert picture.notes == ("fully opaque alpha channel dropped",)
    assert np.array_equal(stored(picture), RGB)


def test_cmyk(put):
    flat = np.zeros((16, 16, 4), np.uint8)
    flat[:] = (0, 128, 255, 51)  # no cyan, half magenta, all yellow, a fifth of black
    expected = np.array([255, 127, 0]) * (1 - 51 / 255)
    for name, data, tolerance in (
        (
            "a.jpg",
            pillow(Image.fromarray(flat, "CMYK"), "JPEG", quality=100),
            2,
        ),  # a flat block: DC rounding only
        ("a.tif", tiff(flat, photometric="separated"), 0.01),
        ("b.tif", tiff(flat, photometric="separated", compression="deflate"), 0.01),
    ):
        picture = read(put(name, data))
        assert picture.notes == ("CMYK converted to RGB, without its colour profile",)
        colour = to_unit(picture.pixels).permute(1, 2, 0).numpy() * 255
        assert colour.shape == (16, 16, 3) and np.abs(colour - expected).max() <= tolerance


def seen(values: np.ndarray, orientation: int) -> np.ndarray:
    """By the words of the tag: 6 is 'turn a quarter clockwise to see it', and so on."""
    return {
        1: values,
        2: np.fliplr(values),
        3: np.rot90(values, 2),
        4: np.flipud(values),
        5: np.fliplr(np.rot90(values, -1)),
        6: np.rot90(values, -1),
        7: np.fliplr(np.rot90(values, 1)),
        8: np.rot90(values, 1),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "PNG16"])
def test_exif_orientation(put, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    blocks = np.kron(RGB[:2, :3], np.ones((8, 8, 1), np.uint8))  # JPEG keeps flat blocks
    if kind == "TIFF":
        data = tiff(blocks, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    elif kind == "PNG16":
        rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in blocks)
        data = png(24, 16, 16, 2, rows, chunk(b"eXIf", exif.tobytes()[6:]))
    else:
        options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
        data = pillow(Image.fromarray(blocks), kind, exif=exif, **options)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))))
        assert (
            np.abs(upright.astype(int) - seen(blocks, orientation)).max() <= 3
        )  # Pillow reads the tag likewise
    picture = read(put("a", data))
    assert picture.notes == (() if orientation == 1 else ("turned by its EXIF orientation",))
    error = np.abs(to_unit(picture.pixels).permute(1, 2, 0).numpy() * 255 - seen(blocks, orientation))
    assert error.max() <= (3 if kind == "JPEG" else 0.001)  # JPEG: rounding of YCbCr and of the DC term


@pytest.mark.parametrize("shape, expected", [
    ((5, 6), (1, 5, 6)), ((5, 6, 1), (1, 5, 6)), ((5, 6, 3), (3, 5, 6)), ((5, 6, 31), (31, 5, 6)),
    ((3, 5, 6), (3, 5, 6)), ((4, 9, 5), (4, 9, 5)), ((2, 9, 4), (4, 2, 9)), ((5, 9, 64), (64, 5, 9)),
])  # fmt: skip
def test_npy_layout(put, shape, expected):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for order in "CF":
        out = BytesIO()
        np.save(out, np.asarray(values, order=order))
        picture = read(put("a.npy", out.getvalue()))
        assert picture.pixels.shape == expected
        first = shape == expected and len(shape) == 3
        assert (len(picture.notes) == 1 and "channels, height, width" in picture.notes[0]) == first
        chw = values if first else np.moveaxis(values.reshape(*shape[:2], -1), 2, 0)
        assert np.array_equal(stored(picture), np.moveaxis(chw, 0, 2))


@pytest.mark.parametrize("dtype, levels", [
    ("?", 1), ("u1", 255), ("<u2", 65535), (">u2", 65535), ("<f2", None), (">f4", None), ("f8", None),
])  # fmt: skip
def test_npy_types(put, dtype, levels):
    values = np.array([[0, 1], [1, 0]]).astype(dtype) * np.asarray(levels or 1).astype(dtype)
    out = BytesIO()
    np.save(out, values)
    picture = read(put("a.npy", out.getvalue()))
    assert picture.levels == levels
    assert picture.pixels.tolist() == [[[-1, 1], [1, -1]]]


@pytest.mark.parametrize("options", [
    {"compression": "lzw"}, {"compression": "lzw", "predictor": True}, {"compression": "packbits"},
    {"compression": "deflate", "predictor": True}, {"compression": "zstd"}, {"tile": (16, 16)},
    {"bigtiff": True}, {"bigtiff": True, "compression": "lzw"}, {"rowsperstrip": 2},
    {"byteorder": ">"}, {"byteorder": ">", "compression": "lzw"}, {"planarconfig": "separate"},
    {"planarconfig": "separate", "tile": (16, 16), "compression": "lzw"},
])  # fmt: skip
@pytest.mark.parametrize("dtype", ["u1", "u2", "f2", "f4", "f8"])
def test_tiff_layouts(put, options, dtype):
    values = RGB.astype(dtype) * {"u1": 1, "u2": 257}[dtype] if dtype[0] == "u" else (RGB / 255).astype(dtype)
    arranged = np.moveaxis(values, 2, 0) if "planarconfig" in options else values
    picture = read(put("a.tif", tiff(arranged, photometric="rgb", **options)))
    expected = values.astype("f8") / {"u1": 255, "u2": 65535}.get(dtype, 1)
    assert np.abs(to_unit(picture.pixels).permute(1, 2, 0).numpy() - expected).max() <= 1e-6  # float32


def test_only_the_first_of_several(put):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB), Image.fromarray(RGB // 2)]
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        data = pillow(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        picture = read(put("a", data))
        assert np.array_equal(stored(picture), RGB)
        assert len(picture.notes) == 1 and picture.notes[0].startswith("first of ")


def test_the_name_does_not_decide(put):
    assert np.array_equal(stored(read(put("a.jpg", pillow(Image.fromarray(RGB), "PNG")))), RGB)


def test_damaged_exif_is_said(put):
    extra = chunk(b"eXIf", b"nonsense, not a TIFF header")
    picture = read(put("a.png", png(1, 1, 8, 0, b"\0\x10", extra)))
    assert picture.notes == ("EXIF data unreadable: not turned",) and stored(picture).item() == 16


def test_measured_floats_within_the_range_leave_no_note(put):
    assert read(put("a.tif", tiff(np.zeros((4, 4), "f4"))), measured=True).notes == ()


# --- refusals

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


# --- writing


@pytest.mark.parametrize("name, x, levels, match", [
    ("a.gif", torch.zeros(3, 4, 4), 255, "choose from .png"),
    ("a", torch.zeros(3, 4, 4), 255, "choose from .png"),
    ("a.png", torch.zeros(4, 4, 4), 255, "use .tif or .npy"),
    ("a.jpg", torch.zeros(2, 4, 4), 255, "use .tif or .npy"),
    ("a.webp", torch.zeros(5, 4, 4), 255, "use .tif or .npy"),
    ("a.jpg", torch.zeros(3, 4, 4), 65535, "levels=65535"),
    ("a.webp", torch.zeros(3, 4, 4), 65535, "levels=65535"),
    ("a.png", torch.zeros(3, 4, 4), None, "levels=None"),
    ("a.tif", torch.zeros(3, 4, 4), 1023, "levels=1023"),
    ("a.png", torch.zeros(1, 3, 4, 4), 255, "one image of a batch"),
    ("a.png", torch.zeros(3, 0, 4), 255, "shape"),
    ("a.png", torch.zeros(3, 4, 4, dtype=torch.uint8), 255, "floats"),
    ("a.png", torch.full((1, 4, 4), math.nan), 255, "NaN"),
    ("a.npy", torch.full((1, 4, 4), math.inf), 255, "infinity"),
    ("a.webp", torch.zeros(1, 1, 16384), 255, "cannot write"),
    ("a.jpg", torch.zeros(1, 1, 65536), 255, "cannot write"),
])  # fmt: skip
def test_write_refuses(tmp_path, name, x, levels, match):
    with pytest.raises(ValueError, match=match) as caught:
        write(x, tmp_path / name, levels=levels)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_write_replaces(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    write(levels_image(3, 255), path)
    assert np.array_equal(stored(read(path)), to_bytes(levels_image(3, 255)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".npy"])
def test_a_failing_encoder_leaves_the_old_file(tmp_path, monkeypatch, suffix):
    def fail(*args):
        raise RuntimeError("no\nroom")

    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    monkeypatch.setitem(images._ENCODERS, suffix, fail)
    with pytest.raises(ValueError, match="no room"):
        write(torch.zeros(3, 4, 4), path)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["replace", "write"])
@pytest.mark.parametrize(
    "error, raised", [(OSError("disk full"), ValueError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_a_failing_disk_leaves_the_old_file(tmp_path, monkeypatch, where, error, raised):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    seen = []

    def fail(*args, **kwargs):
        seen.extend(p for p in tmp_path.iterdir() if p != path)
        raise error

    class Half(FileIO):
        """A file on a disk that is full after half of what it is given."""

        def writelines(self, parts):
            data = b"".join(parts)
            self.write(data[: len(data) // 2])
            fail()

    with monkeypatch.context() as patch:
        if where == "replace":
            patch.setattr(images.os, "replace", fail)
        else:
            patch.setattr(Path, "open", lambda self, mode: Half(self, mode))
        with pytest.raises(raised) as caught:
            write(torch.zeros(3, 4, 4), path)
    assert len(seen) == 1 and seen[0].parent == tmp_path  # it was there, beside the target
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    assert raised is not ValueError or (
        str(tmp_path) in str(caught.value) and "disk full" in str(caught.value)
    )


def test_folders_that_cannot_be_written(tmp_path):
    for path in (tmp_path / "missing" / "a.png", Path("/proc/a.png")):
        with pytest.raises(ValueError, match="cannot be written") as caught:
            write(torch.zeros(3, 4, 4), path)
        assert str(path.parent) in str(caught.value)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match="cannot be written"):
        write(torch.zeros(3, 4, 4), tmp_path / "folder.png")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


def test_write_takes_any_float_and_leaves_it(tmp_path):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.tensor([[[-1.0, 0.0, 1.0]]], dtype=dtype, requires_grad=True)
        write(x, tmp_path / "a.png")
        assert stored(read(tmp_path / "a.png")).ravel().tolist() == [0, 128, 255]
        assert x.tolist() == [[[-1.0, 0.0, 1.0]]]
