"""`undiffuse restore`, from the command line to the files."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.pictures import photograph
from undiffuse.app import restore as app
from undiffuse.app.restore.sheet import _detail
from undiffuse.core.images import read, write
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators.build import build
from undiffuse.restore import measure


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_simulate_restore_compare(undiffuse, photo, tmp_path):
    out = tmp_path / "out"
    done = undiffuse("restore", photo, "--degrade", "sr4", "--noise", 0.02, "--out", out)
    assert done.code == 0 and "PSNR" in done.out and "residual" in done.out
    kinds = ["degraded.png", "original.png", "restored.png", "sheet.png", "y.npy"]
    assert names(out) == sorted(
        ["metrics.csv", "report.html", "photo.json", *(f"photo_{kind}" for kind in kinds)]
    )
    record = json.loads((out / "photo.json").read_text())
    (row,) = csv.DictReader((out / "metrics.csv").open())
    original, restored = read(photo).pixels[None], read(out / "photo_restored.png").pixels[None]
    # Saved to 8 bits: rounding adds a twelfth of a step squared, 0.009 dB at 32 dB; its product with the error of the
    # 9216 values has a mean of 0 and a deviation of 0.004 dB.
    assert psnr(restored, original).item() == pytest.approx(record["metrics"]["psnr"], abs=0.02)
    assert float(row["psnr"]) == pytest.approx(record["metrics"]["psnr"])
    assert record["metrics"]["psnr"] > record["metrics"]["psnr_pinv"] + 0.3
    assert record["noise"] == pytest.approx(0.02)
    assert read(out / "photo_degraded.png").pixels.shape == (3, 12, 16)
    page = (out / "report.html").read_text()
    assert "http" not in page.replace("data:image", "") and page.count("data:image/png;base64") >= 3


def test_a_dry_run_refuses_what_a_run_would(undiffuse, photo, tmp_path):
    """Results that would replace an input, and a folder of another kind."""
    given = ["--prior", "photo-gaussian", "--degrade", "sr2", "--measured", "--noise", 0.02]
    named = tmp_path / "out" / "photo_restored.png"
    named.parent.mkdir()
    named.write_bytes(photo.read_bytes())
    replaces = ["restore", photo, *given, "--reference", named, "--size", "96x128", "--out", named.parent]
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "manifest.jsonl").write_bytes(b"")
    mixed = ["restore", photo, *given, "--out", tmp_path / "many"]
    for command, said in ((mixed, "holds the results of a folder"),):
        dry, real = undiffuse(*command, "--dry-run"), undiffuse(*command)
        assert dry.code == real.code == 2 and said in dry.err and said in real.err
    write(photograph(96, 128), named)
    dry, real = undiffuse(*replaces, "--dry-run"), undiffuse(*replaces)
    assert dry.code == real.code == 2 and "would replace" in dry.err and "would replace" in real.err


def test_the_command_that_repeats_has_no_precision_of_a_closed_form(undiffuse, tmp_path):
    write(photograph(32, 32)[:1], tmp_path / "grey.png")
    done = undiffuse(
        "restore", tmp_path / "grey.png", "--degrade", "sr2", "--noise", 0.02, "--precision", "bf16",
        "--out", tmp_path / "o",
    )  # fmt: skip
    assert done.code == 0 and "--precision" not in (tmp_path / "o/report.html").read_text()


def test_the_table_tells_options_apart(undiffuse, photo, tmp_path):
    given = ["restore", photo, "--degrade", "sr2", "--noise", 0.05, "--prior", "photo-gaussian", "--steps", 2]
    for algorithm in ("dpir:lam=0.1", "dpir:lam=0.5", "dpir:lam=0.1"):
        assert undiffuse(*given, "--algorithm", algorithm, "--out", tmp_path / "o").code == 0
    rows = list(csv.DictReader((tmp_path / "o/metrics.csv").open()))
    assert [row["options"] for row in rows] == ["lam=0.5, mirror=False", "lam=0.1, mirror=False"]
    assert rows[0]["psnr"] != rows[1]["psnr"]


def test_a_mask_that_may_be_the_wrong_way_round_is_told(undiffuse, photo, tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[::5] = 255  # scratches in white
    for name, values in (("wrong", mask), ("right", 255 - mask)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        given = [
            "restore",
            photo,
            "--measured",
            "--degrade",
            f"inp:mask={tmp_path}/{name}.png",
            "--noise",
            0.01,
        ]
        done = undiffuse(*given, "--prior", "photo-gaussian", "--out", tmp_path / name)
        assert done.code == 0
        assert ("only 21 % of the picture is kept: in a mask white is kept" in done.err) == (name == "wrong")


def test_a_colour_picture_is_no_measurement_of_grey(undiffuse, photo, tmp_path):
    done = undiffuse("restore", photo, "--measured", "--degrade", "gray", "--out", tmp_path / "out")
    assert done.code == 2 and "give one of so many channels" in done.err


def test_my_own_bad_picture(undiffuse, photo, tmp_path):
    """A blurred, noisy, 8-bit file, the kernel as a picture, and nothing else known."""
    kernel = np.array([[0, 60, 0], [60, 255, 60], [0, 60, 0]], np.uint8)
    Image.fromarray(kernel).save(tmp_path / "k.png")
    clean = photograph(160, 200)
    A = build(f"blur:kernel={tmp_path}/k.png", tuple(clean.shape)).float()
    write(measure(A, clean[None], 0.06, SeededNoise([1]))[0], tmp_path / "blurred.png")
    write(clean, tmp_path / "clean.png")
    arguments = [
        "restore",
        tmp_path / "blurred.png",
        "--measured",
        "--degrade",
        f"blur:kernel={tmp_path}/k.png",
    ]
    done = undiffuse(
        *arguments, "--noise", "auto", "--out", tmp_path / "out", "--reference", tmp_path / "clean.png"
    )
    assert done.code == 0 and "noise estimated at 0.0" in done.err
    record = json.loads((tmp_path / "out" / "blurred.json").read_text())
    assert record["noise"] == pytest.approx(0.03, rel=0.15)  # the certificate allows for 0.25
    assert record["certificate"]["verdict"] != "inconsistent"
    assert record["metrics"]["psnr"] > record["metrics"]["psnr_degraded"] + 0.5
    alone = undiffuse(*arguments, "--out", tmp_path / "alone")
    assert alone.code == 0
    assert (tmp_path / "alone/blurred_restored.png").read_bytes() == (
        tmp_path / "out/blurred_restored.png"
    ).read_bytes()


def test_the_wrong_degradation_is_noticed(undiffuse, photo, tmp_path):
    """Measured through one blur, restored as if through another: the certificate says so."""
    clean = photograph(160, 200)
    A = build("blur:motion,taps=15", tuple(clean.shape)).float()
    write(measure(A, clean[None], 0.02, SeededNoise([1]))[0], tmp_path / "shaken.npy")
    arguments = ["restore", tmp_path / "shaken.npy", "--measured", "--noise", 0.01, "--out", tmp_path / "out"]
    right = undiffuse(*arguments, "--degrade", "blur:motion,taps=15")
    other = "inp:half . blur:motion,taps=15,angle=90"  # the network explains it to 1.08 of the noise
    wrong = undiffuse(*arguments, "--degrade", other, "--prior", "photo-gaussian")
    assert right.code == 0 and "inconsistent" not in right.out
    assert wrong.code == 0 and "inconsistent" in wrong.out


def test_stored_measurements_restore_to_the_same_picture(undiffuse, photo, tmp_path):
    """y is stored whole, so that every method can read the same one."""
    first = undiffuse(
        "restore", photo, "--degrade", "cs2", "--noise", 0.05, "--size", "48x64", "--out", tmp_path / "a"
    )
    assert first.code == 0
    again = undiffuse(
        "restore", tmp_path / "a/photo_y.npy", "--measured", "--degrade", "cs2", "--noise", 0.05,
        "--size", "3x48x64", "--out", tmp_path / "b", "--reference", photo,
    )  # fmt: skip
    assert again.code == 0
    one, two = (read(tmp_path / f) for f in ("a/photo_restored.png", "b/photo_y_restored.png"))
    # x_T differs with the name, and one call from sigma_max leaves a trace of it below half a level or so.
    assert (one.pixels - two.pixels).abs().max() <= 2 / 255 + 1e-6


def test_draws(undiffuse, photo, tmp_path):
    arguments = ["restore", photo, "--degrade", "inp:box,missing=0.2", "--draws", 5]
    assert undiffuse(*arguments, "--out", tmp_path / "a").code == 0
    assert undiffuse(*arguments, "--out", tmp_path / "b", "--batch", 2).code == 0
    for kind in ("restored", "deviation", "q05", "q50", "q95"):
        name = f"photo_{kind}.png"
        a, b = read(tmp_path / "a" / name).pixels, read(tmp_path / "b" / name).pixels
        assert (a - b).abs().max() <= 2 / 255 + 1e-6  # float32 sums in another order may cross a rounding
    deviation = read(tmp_path / "a/photo_deviation.png").pixels[0]
    assert deviation[20:28, 26:38].mean() > deviation[:8].mean()  # the hole is uncertain, the rest is known
    assert "coverage90" in json.loads((tmp_path / "a/photo.json").read_text())["metrics"]


@pytest.mark.parametrize("algorithm", ["ddrm", "pigdm", "daps:ode_steps=2"])
def test_same_seed_same_pixels(undiffuse, photo, tmp_path, algorithm):
    arguments = [
        "restore",
        photo,
        "--degrade",
        "sr4",
        "--noise",
        0.05,
        "--algorithm",
        algorithm,
        "--steps",
        4,
    ]
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        assert undiffuse(*arguments, "--seed", seed, "--out", tmp_path / folder).code == 0
    a, b, c = ((tmp_path / f / "photo_restored.png").read_bytes() for f in "abc")
    assert a == b and a != c


def test_sixteen_bits_and_one_channel_stay_so(undiffuse, tmp_path):
    write(photograph(32, 40)[:1], tmp_path / "grey.png", levels=65535)
    assert (
        undiffuse(
            "restore", tmp_path / "grey.png", "--degrade", "deno", "--noise", 0.1, "--out", tmp_path / "o"
        ).code
        == 0
    )
    restored = read(tmp_path / "o/grey_restored.png")
    assert restored.levels == 65535 and restored.pixels.shape == (1, 32, 40)


def test_five_channels(undiffuse, tmp_path):
    write(torch.cat([photograph(32, 40), photograph(32, 40)[:2]]), tmp_path / "five.tif")
    assert (
        undiffuse(
            "restore", tmp_path / "five.tif", "--degrade", "inp:channels=4", "--out", tmp_path / "o"
        ).code
        == 0
    )
    assert read(tmp_path / "o/five_restored.tif").pixels.shape == (5, 32, 40)


def test_the_detail_shows_what_was_restored():
    """A hole in the corner, and texture everywhere: the detail lies in the hole."""
    picture = photograph(96, 128)
    change = torch.zeros_like(picture)
    change[:, 60:, 90:] = 0.5
    row, column, side = _detail(picture, change)
    assert row + side > 60 and column + side > 90


def test_coefficients_are_not_shown_as_measured(undiffuse, photo, tmp_path):
    """What cannot be seen as it is measured is shown by its pseudo-inverse, which is said."""
    for degrade, kind in (("cs2", "pseudo-inverse: cs2"), ("sr2", "measured: sr2")):
        assert undiffuse("restore", photo, "--degrade", degrade, "--out", tmp_path / degrade).code == 0
        assert f'alt="{kind}' in (tmp_path / degrade / "report.html").read_text()


def test_metrics_table_grows_and_replaces(undiffuse, photo, tmp_path):
    for degrade in ("sr2", "deno", "sr2"):
        assert (
            undiffuse("restore", photo, "--degrade", degrade, "--noise", 0.1, "--out", tmp_path / "o").code
            == 0
        )
    rows = list(csv.DictReader((tmp_path / "o/metrics.csv").open()))
    assert [row["degrade"] for row in rows] == ["deno", "sr2"]


UNTYPED = """
from undiffuse.registry import OPERATORS
OPERATORS._entries.pop("untyped", None)
@OPERATORS.register("untyped", summary="", example="")
def untyped(shape, /, *, gain=1): ...
"""
BAD = {
    "missing file": (["nothing.png", "--degrade", "sr4"], "nothing.png"),
    "truncated file": (["cut.png", "--degrade", "sr4"], "cut.png"),
    "unknown degradation": (["photo.png", "--degrade", "sr5"], "did you mean 'sr"),
    "unknown option": (["photo.png", "--degrade", "pool:facter=4"], "did you mean 'factor'"),
    "option out of range": (["photo.png", "--degrade", "pool:factor=0"], "factor"),
    "negative noise": (["photo.png", "--degrade", "sr4", "--noise", "-1"], "noise"),
    "noise as a word": (["photo.png", "--degrade", "sr4", "--noise", "much"], "much"),
    "auto without a measurement": (["photo.png", "--degrade", "sr4", "--noise", "auto"], "--measured"),
    "mask of another size": (["photo.png", "--degrade", "inp:mask=small.npy"], "small.npy"),
    "kernel that does not add up": (["photo.png", "--degrade", "blur:kernel=k.npy"], "k.npy"),
    "NaN": (["nan.npy", "--degrade", "deno"], "nan.npy"),
    "unknown algorithm": (["photo.png", "--degrade", "sr4", "--algorithm", "ddrn"], "did you mean 'ddrm'"),
    "unknown algorithm option": (["photo.png", "--degrade", "sr4", "--algorithm", "ddrm:etta=1"], "etta"),
    "algorithm without eta_b": (
        ["photo.png", "--degrade", "sr4", "--algorithm", "dps", "--eta-b", "1"],
        "eta_b",
    ),
    "one option twice": (
        ["photo.png", "--degrade", "sr2", "--algorithm", "ddrm:eta=0.5", "--eta", "0.9"],
        "--eta 0.9 beside eta=0.5 of --algorithm",
    ),
    "algorithm that cannot": (["photo.png", "--degrade", "jpeg", "--algorithm", "ddrm"], "; use "),
    "draws of one answer": (
        ["photo.png", "--degrade", "sr4", "--algorithm", "dpir", "--draws", "3"],
        "all the same",
    ),
    "unknown prior": (["photo.png", "--degrade", "sr4", "--prior", "photos"], "did you mean 'photo'"),
    "wrong size": (["photo.png", "--measured", "--degrade", "sr4", "--size", "48x64"], "12x16"),
    "no size": (["photo.png", "--measured", "--degrade", "sr4", "--size", "big"], "HEIGHTxWIDTH"),
    "no device": (["photo.png", "--degrade", "sr4", "--device", "abacus"], "abacus"),
    "no plugin": (["photo.png", "--degrade", "sr4", "--plugin", "no.py"], "no.py"),
    "device for shapes only": (["photo.png", "--degrade", "sr4", "--device", "meta"], "choose from auto"),
    "noise below rounding": (["photo.png", "--degrade", "sr4", "--noise", "1e-200"], "noise-free"),
    "size beyond memory": (
        ["photo.png", "--measured", "--degrade", "sr4", "--size", "99999x99999"],
        "pixels",
    ),
    "factors beyond memory": (
        ["photo.png", "--measured", "--degrade", "pool:64 . pool:64 . pool:64"],
        "12582912x16777216",
    ),
    "plugin that exits": (["photo.png", "--degrade", "sr4", "--plugin", "exit.py"], "exit(3)"),
    "plugin without types": (["photo.png", "--degrade", "untyped", "--plugin", "untyped.py"], "has no type"),
    "name for a terminal": (["photo.png", "--degrade", "\x1b[31mred\u202e"], "named '?[31mred?'"),
    "endless name": (["photo.png", "--degrade", "sr4" * 9000], "choose from"),
    "name without room": (["y" * 250 + ".png", "--degrade", "sr4"], "too long"),
    "name that is not UTF-8": (["bad\udcff.png", "--degrade", "sr4"], "UTF-8"),
    "no draws": (["photo.png", "--degrade", "sr4", "--draws", "0"], "draws"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(undiffuse, photo, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:900])
    np.save(tmp_path / "small.npy", np.ones((5, 5), np.uint8))
    np.save(tmp_path / "k.npy", np.full((3, 3), 0.2))
    np.save(tmp_path / "nan.npy", np.full((32, 32), np.nan, np.float32))
    (tmp_path / ("y" * 250 + ".png")).write_bytes(photo.read_bytes())
    (tmp_path / "exit.py").write_text("raise SystemExit(3)")
    (tmp_path / "untyped.py").write_text(UNTYPED)
    arguments, said = BAD[case]
    done = undiffuse("restore", *arguments, "--out", "results")
    assert done.code == 2
    assert done.err.startswith("error: ") and done.err.count("\n") == 1 and said in done.err
    assert done.err[:-1].isprintable() and len(done.err) < 1300
    assert "Traceback" not in done.err and not (tmp_path / "results").exists()


def test_an_output_folder_that_cannot_be(undiffuse, photo, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    done = undiffuse("restore", photo, "--degrade", "sr4", "--out", tmp_path / "file")
    assert done.code == 2 and "cannot write to output folder" in done.err and done.err.count("\n") == 1
    assert (tmp_path / "file").read_text() == "not a folder"


def test_our_own_mistakes_exit_with_1(undiffuse, photo, monkeypatch):
    def broken(config, *, dry):
        raise RuntimeError("a bug")

    monkeypatch.setattr(app, "run", broken)
    done = undiffuse("restore", photo, "--degrade", "sr4")
    assert done.code == 1 and done.err.startswith("error: internal error: RuntimeError: a bug")
