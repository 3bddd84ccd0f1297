"""The colour profile of a picture: carried from file to file, never used, never on what it is not for."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.pictures import photograph
from undiffuse.core.images import read, write

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]


def of(path):
    return Image.open(path).info.get("icc_profile")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_what_is_read_is_written(tmp_path, suffix):
    write(photograph(24, 32), tmp_path / f"a{suffix}", profile=SRGB)
    found = read(tmp_path / f"a{suffix}")
    assert found.profile == of(tmp_path / f"a{suffix}") == SRGB
    write(photograph(24, 32), tmp_path / f"plain{suffix}")
    plain = read(tmp_path / f"plain{suffix}")
    assert plain.profile is None
    assert (plain.pixels == found.pixels).all()  # the numbers are what they were


def test_sixteen_bits(tmp_path):
    for name in ("a.png", "a.tif"):
        write(photograph(24, 32), tmp_path / name, levels=65535, profile=SRGB)
        found = read(tmp_path / name)
        assert found.levels == 65535 and found.profile == SRGB
    assert of(tmp_path / "a.png") == SRGB  # to another reader, too


def test_other_channels_have_no_use_for_it(tmp_path):
    write(photograph(24, 32)[:1], tmp_path / "grey.png", profile=SRGB)
    write(photograph(24, 32), tmp_path / "colour.png", profile=GREY)
    write(photograph(24, 32)[:1], tmp_path / "both.png", profile=GREY)
    assert of(tmp_path / "grey.png") is None and of(tmp_path / "colour.png") is None
    assert read(tmp_path / "both.png").profile == GREY
    with io.BytesIO() as file:
        Image.fromarray(np.full((8, 8, 4), 99, np.uint8), "CMYK").save(
            file, "JPEG", icc_profile=SRGB[:16] + b"CMYK"
        )
        (tmp_path / "cmyk.jpg").write_bytes(file.getvalue())
    assert read(tmp_path / "cmyk.jpg").profile is None
    write(photograph(24, 32), tmp_path / "long.png", profile=SRGB + bytes(2**20))
    assert of(tmp_path / "long.png") is None
    assert read(tmp_path / "long.png").pixels.shape == (3, 24, 32)
