"""Pictures as they are read: depths, kinds, alpha, orientation, layouts."""

import struct
import zlib
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps

from undiffuse.core.images import Picture, from_unit, read, to_unit


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
