"""What is found of a JPEG's rounding, against what it was."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from tests.pictures import photograph
from undiffuse.core.images import read, to_bytes, write
from undiffuse.core.jpeg import Tables, rounding


@pytest.mark.parametrize("quality", [95, 75, 50])
@pytest.mark.parametrize("colours, sampling", [("RGB", 0), ("RGB", 1), ("RGB", 2), ("L", 0)])
def test_the_noise_where_something_is_left(tmp_path, quality, sampling, colours):
    clean = Image.fromarray(to_bytes(photograph(203, 300))).convert(colours)  # not in whole blocks
    clean.save(tmp_path / "a.png")
    clean.save(tmp_path / "a.jpg", quality=quality, subsampling=sampling)
    found = read(tmp_path / "a.jpg", measured=True)
    assert found.jpeg is not None
    wrong = (found.pixels - read(tmp_path / "a.png").pixels).numpy()[:, :200, :296]
    blocks = dctn(wrong.reshape(-1, 25, 8, 37, 8), axes=(2, 4), norm="ortho")
    power = (blocks**2).mean((0, 1, 3))  # of each frequency
    true = float(((found.jpeg.left * power).sum() / found.jpeg.left.sum()) ** 0.5)
    # What became 0 where others are left is counted for as much as those, and colours, of which most became 0, by less.
    low = 1.4 if colours == "L" else 2.5
    assert true / low < found.jpeg.level < 1.2 * true


def test_the_coefficients_that_are_left():
    """Of one wave a block, found in its own place; with steps that nothing else survives."""
    down = 30 * np.cos(np.pi * (2 * np.arange(8) + 1) * 3 / 16)
    values = np.tile(np.rint(128 + down)[:, None], (4, 5 * 8))[..., None]
    found = rounding(values, Tables(((np.full((8, 8), 10), 1, 1),)))
    assert found is not None
    there = np.zeros((8, 8))
    there[3, 0] = 1
    np.testing.assert_array_equal(found.left, there)
    assert found.level == pytest.approx(10 / 12**0.5 * 2 / 255)
    assert rounding(values[:7], Tables(((np.full((8, 8), 10), 1, 1),))) is None


def test_a_turned_file_has_turned_frequencies(tmp_path):
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 3, (48, 1))  # changes along the columns only
    image, exif = Image.fromarray(ramp), Image.Exif()
    image.save(tmp_path / "a.jpg", quality=60)
    exif[274] = 6
    image.save(tmp_path / "turned.jpg", quality=60, exif=exif)
    plain, turned = (read(tmp_path / name, measured=True).jpeg for name in ("a.jpg", "turned.jpg"))
    assert plain is not None and turned is not None
    assert plain.left[0, 1] == 1 and plain.left[1, 0] == 0
    np.testing.assert_array_equal(turned.left, plain.left.T)


def test_steps_of_zero_tell_nothing(tmp_path):
    write(photograph(32, 32), tmp_path / "a.jpg")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    table = data.index(b"\xff\xdb") + 5
    data[table + 40 : table + 64] = bytes(24)
    (tmp_path / "a.jpg").write_bytes(data)
    assert read(tmp_path / "a.jpg", measured=True).jpeg is None


def test_only_jpegs_that_are_measured(tmp_path):
    write(photograph(32, 32), tmp_path / "a.png")
    write(photograph(32, 32), tmp_path / "a.jpg")
    assert read(tmp_path / "a.png", measured=True).jpeg is None
    assert read(tmp_path / "a.jpg").jpeg is None
    cmyk = Image.fromarray(to_bytes(photograph(32, 32))).convert("CMYK")
    with BytesIO() as data:
        cmyk.save(data, "JPEG")
        (tmp_path / "cmyk.jpg").write_bytes(data.getvalue())
    assert read(tmp_path / "cmyk.jpg", measured=True).jpeg is None  # its colours are mixed in another way
