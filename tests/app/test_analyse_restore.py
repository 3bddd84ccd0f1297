"""`undiffuse analyse restore`, from a restored picture to the report."""

import csv
import json

import pytest
import torch
from PIL import Image

from tests.pictures import photograph
from undiffuse.app.analyse.redone import read_record, reopened
from undiffuse.core.images import read, write


@pytest.fixture
def restored(undiffuse, tmp_path, monkeypatch):
    """Three draws of a grey picture of 32 x 32 by DDRM, in out/."""
    monkeypatch.chdir(tmp_path)
    write(photograph(32, 32)[:1], tmp_path / "grey.png")

    def restore(*given, draws=3, algorithm="ddrm"):
        options = ("--draws", draws, "--algorithm", algorithm, "--steps", 4, "--noise", 0.05, "--out", "out")
        done = undiffuse("restore", "grey.png", "--degrade", "sr2", *options, *given)
        assert done.code == 0, done.err
        return tmp_path / "out"

    return restore


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_restoration_is_followed(undiffuse, restored, tmp_path):
    restored()
    done = undiffuse("analyse", "restore", "out/grey", "--exact", 1, "--out", "report")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "report/analysis.json").read_text())
    (section,) = record["sections"]
    assert section["failed"] == "" and section["facts"]["algorithm"] == "ddrm"
    assert [band["name"] for band in section["facts"]["bands"]] == ["s 0.5", "null space"]
    steps = rows(tmp_path / "report/figures/moves.csv")
    assert [(row["step"], row["band"]) for row in steps[:3]] == [
        ("1", "s 0.5"),
        ("1", "null space"),
        ("2", "s 0.5"),
    ]
    assert len(steps) == 4 * 2
    assert steps[0]["prior moved"] == ""  # there was no estimate before
    assert float(steps[2]["prior moved"]) > 0 and float(steps[2]["data moved"]) > 0
    assert all(float(row["data moved"]) == 0 for row in steps if row["band"] == "null space")
    assert -1 <= float(steps[2]["cosine"]) <= 1
    curves = section["facts"]["calibration"]
    assert set(curves) == {"this picture", "ddrm on an exact prior", "the exact posterior"}
    found = rows(tmp_path / "report/figures/calibration.csv")
    assert [float(row["measured coverage"]) for row in found if float(row["nominal coverage"]) == 1] == [
        pytest.approx(1)
    ] * 3
    (said,) = (note for note in section["notes"] if note.startswith("done again"))
    apart = float(said.split("within ")[1].split()[0])
    assert apart <= 0.5 / 255 + 1e-5  # the saved picture is rounded to 8 bits
    page = (tmp_path / "report/report.html").read_text()
    assert page.count("<svg") == 7 and "http://" not in page.replace("http://www.w3.org", "")


def test_the_stored_measurement_counts_where_the_picture_is_gone(undiffuse, restored, tmp_path):
    out = restored(draws=2)
    before = reopened(read_record(out / "grey"))
    (tmp_path / "grey.png").unlink()
    after = reopened(read_record(out / "grey"))
    # a stored measurement is rounded once to float32 in [0, 1]
    torch.testing.assert_close(after.task.problem.y, before.task.problem.y, rtol=0, atol=1e-6)
    assert after.task.problem.sigma_y == before.task.problem.sigma_y
    assert after.task.seed(1) == before.task.seed(1)
    assert torch.equal(after.task.measurement.reference, before.task.measurement.reference)
    assert "is not there" in after.notes[0]
    write(read(out / "grey_original.png").pixels.flip(2), tmp_path / "grey.png")
    changed = reopened(read_record(out / "grey"))
    assert torch.equal(changed.task.problem.y, after.task.problem.y)
    assert "another measurement" in changed.notes[0]


def test_one_answer_has_no_error_bars_and_every_second_step_is_shown(undiffuse, restored, tmp_path):
    restored(draws=1, algorithm="dpir")
    done = undiffuse("analyse", "restore", "out", "--every", 3, "--out", "report")
    assert done.code == 0, done.err
    assert {row["step"] for row in rows(tmp_path / "report/figures/moves.csv")} == {"1", "4"}
    assert not (tmp_path / "report/figures/calibration.svg").exists()
    several = undiffuse("analyse", "restore", "out/grey", "--draws", 3)
    assert several.code == 2 and "draws are all the same" in several.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sigmas": [1.0, 2.0, 0.0]}, "noise levels that fall"),
        ({"sigmas": "many"}, "expected a list"),
        ({"sigmas": [1.0, 0.5]}, "no falling levels"),
        ({"algorithm": "os.system"}, "no algorithm named"),
        ({"options": {"eta": "7"}}, "eta"),
        ({"config": {"image": "grey.png"}}, "degrade"),
    ],
)
def test_a_record_that_is_none_is_refused(undiffuse, restored, tmp_path, change, said):
    out = restored(draws=1)
    record = json.loads((out / "grey.json").read_text())
    (out / "grey.json").write_text(json.dumps(record | change))
    done = undiffuse("analyse", "restore", "out/grey")
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1


def test_a_record_runs_no_code(undiffuse, restored, tmp_path):
    out = restored(draws=1)
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()")
    record = json.loads((out / "grey.json").read_text())
    record["config"]["plugins"] = ["evil.py"]
    (out / "grey.json").write_text(json.dumps(record))
    assert reopened(read_record(out / "grey")).task.config.plugins == ()
    assert not (tmp_path / "ran").exists()


def test_no_record(undiffuse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8)).save("other.png")
    done = undiffuse("analyse", "restore", "other")
    assert done.code == 2 and "no record 'other.json'" in done.err
