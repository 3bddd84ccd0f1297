"""`undiffuse restore --blind`, from a blurred file to its report."""

import json
from importlib.resources import as_file, files

import pytest

from undiffuse.core.images import read, write
from undiffuse.core.noise import SeededNoise
from undiffuse.operators.build import build
from undiffuse.restore import measure


@pytest.fixture
def blurred(tmp_path):
    """The bundled photograph through a Gaussian of 2.5 pixels, noise 0.01, 8 bits."""
    with as_file(files("undiffuse.assets") / "dog.jpg") as path:
        x = read(path).pixels[:, 40:296, 60:316]
    A = build("blur:gaussian,std=2.5", tuple(x.shape)).float()
    write(measure(A, x[None], 0.02, SeededNoise([1]))[0], tmp_path / "old.png")
    write(x, tmp_path / "clean.png")
    return tmp_path / "old.png"


def test_a_blur_that_nobody_knows(undiffuse, blurred, tmp_path):
    arguments = ["restore", blurred, "--measured", "--degrade", "blur", "--blind", "--noise", "auto"]
    arguments += ["--prior", "photo-gaussian", "--reference", blurred.with_name("clean.png")]
    done = undiffuse(*arguments, "--out", tmp_path / "out")
    assert done.code == 0 and "blur estimated: width (std) of a Gaussian" in done.err
    record = json.loads((tmp_path / "out/old.json").read_text())
    low, high = record["blind"]["intervals"]["std"]
    assert low < 2.5 < high and high - low < 1.5
    assert record["noise"] == pytest.approx(0.01, rel=0.1)
    assert record["config"]["degrade"].startswith("blur:gaussian,std=")
    assert record["metrics"]["psnr"] > record["metrics"]["psnr_degraded"] + 1
    told = undiffuse(  # what was found can be given: the same pixels
        "restore", blurred, "--measured", "--degrade", record["config"]["degrade"],
        "--noise", record["config"]["noise"], "--prior", "photo-gaussian", "--out", tmp_path / "told",
    )  # fmt: skip
    assert told.code == 0
    same = [(tmp_path / folder / "old_restored.png").read_bytes() for folder in ("out", "told")]
    assert same[0] == same[1]


def test_another_kind_than_is_asked_for_is_named(undiffuse, blurred, tmp_path):
    asked = ["--measured", "--degrade", "blur:motion", "--blind", "--out", tmp_path / "o"]
    done = undiffuse("restore", blurred, *asked)
    assert done.code == 2 and "write --degrade blur:gaussian, or blur alone" in done.err
    assert done.err.count("\n") == 1 and not (tmp_path / "o").exists()


def test_a_sharp_picture_has_no_blur_to_find(undiffuse, blurred, tmp_path):
    clean = blurred.with_name("clean.png")
    done = undiffuse(
        "restore", clean, "--measured", "--degrade", "blur:gaussian", "--blind", "--out", tmp_path / "o"
    )
    assert done.code == 2 and done.err.startswith("error: --blind: ") and done.err.count("\n") == 1
    assert not (tmp_path / "o").exists()


BAD = {
    "a simulation": (["--degrade", "blur:gaussian"], "--measured"),
    "another degradation": (["--measured", "--degrade", "sr4"], "not a blur that it estimates"),
    "a family that is not estimated": (["--measured", "--degrade", "blur:uniform"], "not a blur that it"),
    "two degradations": (["--measured", "--degrade", "inp:half . blur:gaussian"], "one blur"),
    "a width that is given": (["--measured", "--degrade", "blur:gaussian,std=2"], "gives std"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_estimated_is_refused(undiffuse, photo, tmp_path, case):
    arguments, said = BAD[case]
    done = undiffuse("restore", photo, *arguments, "--blind", "--out", tmp_path / "o")
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1
