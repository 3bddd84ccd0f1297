"""`undiffuse analyse noise`: closed forms to the end, which pictures are taken, what is refused."""

import csv
import json
import math
import shutil

import pytest
import torch
import yaml

from tests.pictures import photograph
from tests.small import CLASSES, PHOTO, changed, stored
from undiffuse.app.analyse.noise import analyse, measured
from undiffuse.app.analyse.pictures import pictures
from undiffuse.app.analyse.subjects import open_subjects
from undiffuse.app.events import Done, Note
from undiffuse.app.train.build import images
from undiffuse.checkpoints.native import MadeFor
from undiffuse.config.analyse.noise import NoiseConfig
from undiffuse.config.train import read_train
from undiffuse.core.images import write

ROUNDING = 1e-5  # of float32 sums over other batches


def ended(events):
    """What a generator returns, and the notes on the way."""
    notes = []
    while True:
        try:
            event = next(events)
        except StopIteration as stop:
            return stop.value, notes
        if isinstance(event, Note):
            notes.append(event.text)


def chosen(**given):
    config = NoiseConfig(**given)
    subjects, _ = ended(open_subjects(config, config.runs))
    found, notes = ended(pictures(subjects, config.runs, config.data, config.source))
    return subjects, found, notes


def levels_of(**given):
    subjects, found, _ = chosen(**given)
    return ended(measured(subjects, found, subjects.config.levels))[0].levels


def folder(place, count=12, size=8):
    """Parts of a photograph."""
    place.mkdir(parents=True)
    for i, part in enumerate(photograph(count * size, size).split(size, 1)):
        write(part, place / f"{i:02}.png")
    return place


def run(place, data, **values):
    """A run's folder that split these pictures."""
    stored(place / "prior.safetensors", PHOTO)
    tree = {
        "name": "run", "data": {"source": "folder", "path": str(data), "size": 8, "validation": 0.4, **values},
        "network": {"name": "photo"}, "objective": {"prediction": "edm"}, "train": {"steps": 1, "batch": 1},
    }  # fmt: skip
    (place / "config.yaml").write_text(yaml.safe_dump(tree))
    return place


def test_a_gaussian_prior_on_its_own_samples():
    """E e^2 is the mean over modes of S sigma^2 / (S + sigma^2); 64 x 768 numbers, not all of equal weight."""
    found = levels_of(runs=("photo-gaussian",), size="16x16", n=64, levels=4)["photo-gaussian"]
    subjects, _, _ = chosen(runs=("photo-gaussian",), size="16x16", n=64, levels=4)
    spectrum = subjects.teacher.opened.denoise.spectrum(3, 16, 16)
    for one in found:
        right = (spectrum * one.sigma**2 / (spectrum + one.sigma**2)).mean().sqrt().item()
        assert abs(one.x0.value - right) < 5 * one.x0.deviation
        assert one.x0.deviation < 0.2 * right  # so that the test can fail
        assert abs(one.slope.value - 1) < 5 * one.slope.deviation + ROUNDING
        assert abs(one.bias.value) < 5 * one.bias.deviation


def test_what_a_run_held_out(tmp_path):
    place = run(tmp_path / "run", folder(tmp_path / "data"))
    _, found, notes = chosen(runs=(str(place),), n=4)
    _, held, _ = images(read_train(place / "config.yaml"))
    names = {held.name(i) for i in range(len(held))}
    assert set(found.names) <= names and found.unseen and "held out" in found.told
    assert found.clean.shape == (min(4, len(names)), 3, 8, 8) and found.clean.abs().max() <= 1
    assert any("splitting" in note for note in notes)


def test_without_the_data_the_prior_draws_its_own(tmp_path, monkeypatch):
    place = run(tmp_path / "run", data := folder(tmp_path / "data"))
    shutil.rmtree(data)
    _, found, notes = chosen(runs=(str(place),), n=3, steps=4)
    assert not found.unseen and "itself" in found.told and len(found.names) == 3
    assert any("are not there" in note for note in notes)
    monkeypatch.setattr(
        "undiffuse.app.analyse.noise.noise_figures.figures", lambda *_: ()
    )  # they take a second each
    config = NoiseConfig(runs=(str(place),), n=3, steps=4, levels=2)
    section = next(event.result for event in analyse(config) if isinstance(event, Done))
    assert any("made these pictures itself" in note for note in section.notes)


def test_runs_that_split_otherwise_are_named(tmp_path):
    data = folder(tmp_path / "data")
    runs = [run(tmp_path / "a", data), run(tmp_path / "b", data, validation=0.3), run(tmp_path / "c", data)]
    _, _, notes = chosen(runs=tuple(map(str, runs)), n=3)
    assert [note for note in notes if "no telling" in note] == [
        f"{runs[1]}: no telling whether these images were trained on there"
    ]


def test_identical_priors_have_identical_numbers_and_batches_none(tmp_path):
    data = folder(tmp_path / "data")
    a, b = (stored(tmp_path / name / "prior.safetensors", PHOTO) for name in "ab")
    asked = {"runs": (str(a), str(b)), "data": str(data), "n": 7, "levels": 3}
    one, two = levels_of(**asked).values()
    assert repr(one) == repr(two)
    (other, _) = levels_of(**asked, batch=3).values()
    for x, y in zip(one, other, strict=True):
        assert x.x0.value == pytest.approx(y.x0.value, rel=ROUNDING)
        assert x.slope.value == pytest.approx(y.slope.value, rel=ROUNDING)


def test_classes_of_the_data(tmp_path):
    """Labels of the data decide what each picture is asked about as; --label which pictures there are."""
    for i, name in enumerate(("boot", "bag", "coat")):
        folder(tmp_path / "data" / f"{i}_{name}", 4)
    file = str(stored(tmp_path / "p.safetensors", CLASSES))
    data = {"data": str(tmp_path / "data"), "source": "folder:classes=true"}
    _, found, _ = chosen(runs=(file,), n=12, **data)
    assert sorted(found.labels) == [0] * 4 + [1] * 4 + [2] * 4
    assert all(name.startswith(str(label)) for name, label in zip(found.names, found.labels, strict=True))
    _, found, _ = chosen(runs=(file,), n=3, label="bag", **data)
    assert found.labels == (1, 1, 1)
    _, found, _ = chosen(runs=(file,), n=5, label="none", **data)
    assert found.labels == (None,) * 5
    _, found, _ = chosen(runs=(file,), n=5, data=str(tmp_path / "data" / "1_bag"))
    assert found.labels == (None,) * 4  # no class is known, and the prior can be asked without


def test_the_report(undiffuse, tmp_path):
    data = folder(tmp_path / "data")
    files = [stored(tmp_path / f"{name}.safetensors", PHOTO) for name in ("teacher", "student")]
    ran = undiffuse(
        "analyse", "noise", *files, "--data", data, "--n", 6, "--levels", 3, "--out", tmp_path / "out"
    )
    assert ran.code == 0 and "student: +0.0 % of error beside teacher" in ran.out
    names = {path.stem for path in (tmp_path / "out" / "figures").glob("*.svg")}
    assert names == {
        "error",
        "prediction",
        "calibration",
        "bias",
        "whiteness",
        "error_spectrum",
        "noise_spectrum",
    }
    with (tmp_path / "out" / "figures" / "error.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + 2 * 3 and rows[1][1:] == rows[4][1:]
    told = json.loads((tmp_path / "out" / "analysis.json").read_bytes())
    assert told["sections"][0]["name"] == "noise"


def test_pictures_too_small_for_a_spectrum(tmp_path):
    section = next(
        event.result
        for event in analyse(NoiseConfig(runs=("photo-gaussian",), size="4x4", n=3, levels=2))
        if isinstance(event, Done)
    )
    assert {figure.name for figure in section.figures} == {"error", "prediction", "calibration", "bias"}


def test_sigmas_are_even_in_logarithm():
    found = levels_of(runs=("photo-gaussian",), size="8x8", n=2, levels=5)["photo-gaussian"]
    logs = torch.tensor([one.sigma for one in found]).log()
    assert logs.diff().numpy() == pytest.approx(logs.diff()[0].item(), rel=1e-5)
    assert not math.isclose(found[0].sigma, found[-1].sigma)


def test_a_distilled_prior_is_asked_about_its_own_levels(tmp_path, monkeypatch):
    monkeypatch.setattr("undiffuse.app.analyse.noise.noise_figures.figures", lambda *_: ())
    made_for = MadeFor(sampler="ddim", sigmas=(8.0, 1.0, 0.2))
    teacher = stored(tmp_path / "teacher.safetensors", PHOTO)
    student = stored(tmp_path / "student.safetensors", changed(PHOTO, made_for=made_for))
    data = str(folder(tmp_path / "data"))
    config = NoiseConfig(runs=(str(teacher), str(student)), data=data, n=3, levels=4)
    section = next(event.result for event in analyse(config) if isinstance(event, Done))
    sigmas = section.facts["sigma"]
    assert sigmas["student"] == [4.0, 0.5, 0.1]  # white - black = 1
    assert set(sigmas["student"]) < set(sigmas["teacher"]) and len(sigmas["teacher"]) == 7
    assert sigmas["teacher"] == sorted(sigmas["teacher"], reverse=True)
    assert section.tables[0].rows[1][2] == 1  # the same network, at the levels that both have
    assert any(note.startswith("student: made for a few levels") for note in section.notes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("photo-gaussian", "--size", "8x8", "--source", "idx"), "give the data with --data"),
        (("photo-gaussian", "--size", "8x12", "--data", "."), "expected square ones"),
        (("photo-gaussian", "--size", "8x8", "--data", "nowhere"), "nowhere"),
        (("photo-gaussian", "--size", "8x8", "--levels", "1"), "levels"),
    ],
)
def test_refused(undiffuse, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    ran = undiffuse("analyse", "noise", *arguments)
    assert ran.code == 2 and said in ran.err and ran.err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_class_is_needed(tmp_path):
    file = stored(tmp_path / "p.safetensors", changed(CLASSES, {"null_class": False}, null_class=False))
    with pytest.raises(ValueError, match="give --label, or a --source with labels"):
        chosen(runs=(str(file),), n=3, data=str(folder(tmp_path / "data")))
