"""Pictures as cameras and telephones store them: JPEGs, turned, with a colour profile."""

import json

import pytest
import torch
from PIL import Image, ImageCms

from tests.pictures import photograph
from undiffuse.app.outputs import as_image
from undiffuse.core.images import read, write
from undiffuse.operators import build


def test_a_jpeg_of_a_blurred_picture(undiffuse, tmp_path):
    """Its own rounding leaves no noise to see, and a deblurring that trusted it would be worse than the blur."""
    clean = photograph(160, 200)
    write(clean, tmp_path / "clean.png")
    A = build("blur:gaussian,std=1.5", tuple(clean.shape)).float()
    pixels = as_image(A(clean[None])[0])
    pixels.save(tmp_path / "old.jpg", quality=80)
    given = ["restore", tmp_path / "old.jpg", "--measured", "--degrade", "blur:gaussian,std=1.5"]
    given += ["--reference", tmp_path / "clean.png", "--prior", "photo-gaussian"]
    done = undiffuse(*given, "--out", tmp_path / "auto")
    assert done.code == 0 and "JPEG's rounding counted as noise of 0.00" in done.err
    metrics = json.loads((tmp_path / "auto/old.json").read_text())["metrics"]
    assert metrics["psnr"] > metrics["psnr_degraded"]
    told = undiffuse(*given, "--noise", 0.001, "--out", tmp_path / "told")
    assert told.code == 0 and "more than the level of 0.001" in told.err
    worse = json.loads((tmp_path / "told/old.json").read_text())["metrics"]
    assert worse["psnr"] < metrics["psnr_degraded"] - 5  # what the level that is seen in it would do


def test_a_jpeg_is_undone_without_counting_its_loss_twice(undiffuse, tmp_path):
    clean = photograph(96, 128)
    write(clean, tmp_path / "clean.png")
    as_image(clean).save(tmp_path / "old.jpg", quality=20, subsampling=0)
    done = undiffuse(
        "restore", tmp_path / "old.jpg", "--measured", "--degrade", "jpeg:quality=20", "--out", tmp_path / "o",
        "--reference", tmp_path / "clean.png", "--prior", "photo", "--steps", 8,
    )  # fmt: skip
    assert done.code == 0 and "JPEG's rounding counted" not in done.err and "dpir" in done.err
    metrics = json.loads((tmp_path / "o/old.json").read_text())["metrics"]
    assert metrics["psnr"] > metrics["psnr_degraded"] + 0.5


def test_results_have_the_colour_profile_of_the_picture(undiffuse, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write(photograph(32, 32), tmp_path / "a.png", profile=profile)
    given = ["restore", tmp_path / "a.png", "--degrade", "sr2", "--prior", "photo-gaussian"]
    assert undiffuse(*given, "--out", tmp_path / "o").code == 0
    for kind in ("restored", "degraded", "original"):
        assert Image.open(tmp_path / f"o/a_{kind}.png").info["icc_profile"] == profile


def test_a_jpeg_tells_how_it_was_compressed(undiffuse, tmp_path):
    """As a telephone stores it: colours halved, lying on its side; what is stored again is the file."""
    clean = photograph(96, 128)
    write(clean, tmp_path / "clean.png")
    lying, exif = as_image(clean).rotate(90, expand=True), Image.Exif()
    exif[274] = 6
    lying.save(tmp_path / "old.jpg", quality=60, subsampling=2, exif=exif)
    given = ["--measured", "--degrade", "jpeg", "--reference", tmp_path / "clean.png"]
    done = undiffuse("restore", tmp_path / "old.jpg", *given, "--out", tmp_path / "o")
    assert done.code == 0 and "compressed as by jpeg:like=" in done.err and "4 calls" in done.err
    record = json.loads((tmp_path / "o/old.json").read_text())
    assert record["metrics"]["psnr"] > record["metrics"]["psnr_degraded"] + 0.5
    assert record["certificate"]["verdict"] in ("consistent", "close")
    comma = tmp_path / "old, lying.jpg"
    comma.write_bytes((tmp_path / "old.jpg").read_bytes())
    refused = undiffuse("restore", comma, "--measured", "--degrade", "jpeg")
    assert refused.code == 2 and "rename it without commas" in refused.err
    as_image(clean).save(tmp_path / "plain.jpg", quality=60, subsampling=2)
    dry = undiffuse("restore", tmp_path / "plain.jpg", *given, "--dry-run")
    assert dry.code == 0 and "compressed as by jpeg:quality=60,subsampling=420" in dry.err
    as_image(clean[:, :91]).save(tmp_path / "cut.jpg", quality=60)  # the file alone tells the last blocks
    as_image(clean[:, :91]).save(tmp_path / "cut, too.jpg", quality=60)
    for name, how in (("cut", "jpeg:like="), ("cut, too", "jpeg:quality=60,subsampling=420")):
        dry = undiffuse("restore", tmp_path / f"{name}.jpg", "--measured", "--degrade", "jpeg", "--dry-run")
        assert dry.code == 0 and f"compressed as by {how}" in dry.err
    for degrade in ("jpeg", "jpeg . blur:gaussian"):
        refused = undiffuse("restore", tmp_path / "clean.png", "--measured", "--degrade", degrade)
        assert refused.code == 2 and "does not tell how it was compressed" in refused.err


@pytest.mark.parametrize("subsampling", [0, 2], ids=["444", "420"])
def test_a_flat_picture_passes_and_a_changed_one_does_not(undiffuse, tmp_path, subsampling):
    """In a fog a decoder rounds all pixels alike; a level that has less to do with JPEG is more than its rounding."""
    clean = photograph(64, 64)
    fog = torch.tensor([0.569, -0.059, -0.529]).reshape(3, 1, 1) + 0.1 * (clean - clean.mean((1, 2), True))
    as_image(fog).save(tmp_path / "fog.jpg", quality=50, subsampling=subsampling)
    given = ["--measured", "--prior", "photo-gaussian", "--out", tmp_path / "o"]

    def verdict(name, degrade):
        assert undiffuse("restore", tmp_path / name, "--degrade", degrade, *given).code == 0
        return json.loads((tmp_path / "o" / f"{name[:-4]}.json").read_text())["certificate"]["verdict"]

    assert verdict("fog.jpg", "jpeg") == "consistent"
    as_image(1.05 * fog).save(tmp_path / "changed.png")
    write(read(tmp_path / "fog.jpg").pixels.roll(3, -1), tmp_path / "shifted.png")
    like = f"jpeg:like={tmp_path / 'fog.jpg'}"
    assert verdict("changed.png", like) == "inconsistent" and verdict("shifted.png", like) == "inconsistent"
