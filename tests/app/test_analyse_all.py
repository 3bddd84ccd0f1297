"""`undiffuse analyse all`: what applies, what fails, and that the rest goes on."""

import csv
import json

import pytest

from tests.small import CLASSES, PHOTO, changed, stored
from undiffuse.app.analyse import everything, run
from undiffuse.app.analyse.section import Section
from undiffuse.app.events import Done, Note, Progress
from undiffuse.config.analyse.everything import AllConfig

SMALL = ("--n", 4, "--steps", 3, "--out", "report")
NAMES = ["trajectories", "guidance", "sizes", "noise", "attention", "restore", "determinism"]


@pytest.fixture
def priors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stored(tmp_path / "teacher.safetensors", changed(CLASSES, {"attention": [1]}))
    stored(tmp_path / "student.safetensors", changed(CLASSES, {"width": 4, "attention": [1]}))
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """Parts that say what they were told, and compute nothing; those of `broken` raise."""
    told, broken = {}, {}

    def analysis(name):
        def analyse(config):
            told[name] = config
            yield Progress(1, 4, "working")
            if name in broken:
                raise broken[name]
            yield Note("half")
            yield Progress(4, 4, "working")
            yield Done(Section(name, name.capitalize(), f"{name} found something."))

        return analyse

    monkeypatch.setattr(everything, "analysis", analysis)
    return told, broken


def parts(folder):
    with (folder / "report/figures/overview_parts.csv").open(newline="") as file:
        return {row["part"]: row["state"] for row in csv.DictReader(file)}


def test_all_that_applies_in_one_report(undiffuse, priors, asked):
    told, _ = asked
    done = undiffuse("analyse", "all", "teacher.safetensors", "student.safetensors", *SMALL, "--label", "2")
    assert done.code == 0, done.err
    assert list(told) == [name for name in NAMES if name != "restore"]
    assert parts(priors) == dict.fromkeys(NAMES, "done") | {"restore": "does not apply"}
    assert "restore does not apply: no restoration is given" in done.err
    for name, config in told.items():  # all are told the same
        assert (config.seed, config.label, config.device) == (0, "2", "auto"), name
    assert told["trajectories"].priors == ("teacher.safetensors", "student.safetensors")
    assert (told["trajectories"].n, told["trajectories"].steps) == (4, 3)
    assert told["guidance"].against == "student.safetensors" and told["guidance"].scales == (1, 3, 5, 7)
    assert told["sizes"].teacher == "teacher.safetensors"
    record = json.loads((priors / "report/analysis.json").read_text())
    assert [section["name"] for section in record["sections"]] == ["overview", *told]
    assert "--n 4" in record["command"] and record["command"].startswith("undiffuse analyse all teacher")


def test_a_part_that_fails_is_told_and_the_rest_goes_on(undiffuse, priors, asked):
    told, broken = asked
    broken["guidance"] = ValueError("scale 3 is\nnot for this prior")
    done = undiffuse("analyse", "all", "teacher.safetensors", *SMALL, "--skip", "attention,trajectories")
    assert done.code == 2
    assert list(told) == ["guidance", "noise", "determinism"]
    assert "guidance failed: scale 3 is not for this prior; going on" in done.err
    states = parts(priors)
    assert (states["guidance"], states["attention"], states["noise"]) == ("failed", "skipped", "done")
    assert states["sizes"] == "does not apply"  # no students
    page = (priors / "report/report.html").read_text()
    assert "This part failed:" in page and "scale 3 is not for this prior" in page
    broken["noise"] = TypeError("ours")
    done = undiffuse("analyse", "all", "teacher.safetensors", *SMALL, "--skip", "attention,trajectories")
    assert done.code == 1 and "internal error: TypeError: ours" in done.err
    broken["noise"] = RuntimeError("CUDA out of memory")
    done = undiffuse("analyse", "all", "teacher.safetensors", *SMALL, "--skip", "attention,trajectories")
    assert done.code == 2 and "noise failed: out of memory" in done.err


def test_progress_runs_over_all_parts_and_never_back(priors, asked, monkeypatch):
    config = AllConfig(run="teacher.safetensors", n=4, steps=3, skip=("attention",))
    seen = [event for event in everything.run(config) if isinstance(event, Progress)]
    shares = [event.done / event.total for event in seen]
    assert shares == sorted(shares) and shares[-1] == 1
    assert len({event.total for event in seen}) == 1
    assert seen[0].label == "trajectories: working"


def test_what_does_not_apply_to_a_prior_without_classes(undiffuse, priors, asked):
    told, _ = asked
    stored(priors / "photo.safetensors", PHOTO)
    done = undiffuse("analyse", "all", "photo.safetensors", *SMALL)
    assert done.code == 0, done.err
    assert list(told) == ["trajectories", "noise", "determinism"]
    assert "guidance does not apply: the prior has no classes" in done.err
    assert "attention does not apply: the prior has no attention" in done.err


def test_priors_that_cannot_be_compared_are_refused_before_anything(undiffuse, priors, asked):
    stored(priors / "photo.safetensors", PHOTO)
    done = undiffuse("analyse", "all", "teacher.safetensors", "photo.safetensors", *SMALL)
    assert done.code == 2 and "priors of one kind of picture" in done.err
    assert not (priors / "report").exists()
    done = undiffuse("analyse", "all", "teacher.safetensors", *SMALL, "--skip", "everything")
    assert done.code == 2 and "skip" in done.err


def test_every_part_runs_as_it_is(undiffuse, priors, monkeypatch):
    """No stand-ins: each analysis takes what it is told. One of them has figures; the others' are not drawn."""
    assert {name for name in NAMES if callable(run.analysis(name))} == set(NAMES)
    given = ("--skip", "trajectories,guidance,sizes,noise,attention", "--embed", "pca")
    done = undiffuse("analyse", "all", "teacher.safetensors", "student.safetensors", *SMALL, *given)
    assert done.code == 0, done.err
    assert parts(priors)["determinism"] == "done"
