"""Pictures as they are written: round trips, rounding, what is refused, and whole files or none."""

import math
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.core.test_images import levels_image, stored
from undiffuse.core import images
from undiffuse.core.images import from_unit, read, to_bytes, to_unit, write


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
