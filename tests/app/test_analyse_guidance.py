"""`undiffuse analyse guidance`, from small priors with classes to the report."""

import csv
import json

import pytest
import torch

from tests.networks.weights import seeded
from tests.small import CLASSES, PHOTO, changed, stored
from undiffuse.app.analyse import guidance_figures
from undiffuse.app.analyse.draw import style
from undiffuse.checkpoints import NoisyClassifierConfig, save_classifier

JUDGE = NoisyClassifierConfig(
    network={
        "name": "classifier", "width": 8, "multipliers": [1, 2], "blocks": 1, "attention": [1], "groups": 4,
        "head_channels": 8, "in_channels": 1, "num_classes": 3, "size": 8,
    },
    schedule="linear", channels=1, size=(8, 8), num_classes=3,
)  # fmt: skip
SMALL = ("--n", 6, "--steps", 4, "--scales", "1,3", "--out", "report")


@pytest.fixture
def priors(tmp_path, monkeypatch):
    """A teacher, a student of the same kind, and a classifier."""
    monkeypatch.chdir(tmp_path)
    stored(tmp_path / "teacher.safetensors", CLASSES)
    stored(tmp_path / "student.safetensors", changed(CLASSES, {"width": 4}))
    classifier = JUDGE.build()
    with torch.no_grad():
        seeded(classifier.net, 1)
    save_classifier(tmp_path / "judge.safetensors", classifier, JUDGE, {})
    return tmp_path


def rows(folder, name):
    with (folder / f"report/figures/{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_six_figures_and_the_numbers(undiffuse, priors):
    given = ("--against", "student.safetensors", "--classifier", "judge.safetensors")
    done = undiffuse("analyse", "guidance", "teacher.safetensors", *SMALL, *given)
    assert done.code == 0, done.err
    record = json.loads((priors / "report/analysis.json").read_text())["sections"][0]
    drawn = [figure["name"] for figure in record["figures"]]
    assert drawn == ["frame", "pairs", "pictures", "similarity", "field", "student", "by_scale"]
    table = rows(priors, "scales")
    assert [(row["prior"], row["scale"]) for row in table] == [
        ("teacher", "1.0"), ("teacher", "3.0"), ("student", "1.0"), ("student", "3.0"),
    ]  # fmt: skip
    for row in table:
        assert 0 <= float(row["class accuracy"]) <= 1
        assert 0 <= float(row["share of pixels beyond white and black"]) <= 1
        assert row["colour saturation"] == ""  # one channel has no colour
    assert [float(row["diversity over that at 1"]) for row in table[::2]] == [1, 1]
    assert len(rows(priors, "field")) == 6 * len({row["sigma"] for row in rows(priors, "field")})


def test_a_prior_against_itself_is_nowhere_apart(undiffuse, priors, monkeypatch):
    def student_alone(found):
        with style():
            return (guidance_figures.beside_student(found),)

    monkeypatch.setattr(guidance_figures, "draw", student_alone)
    done = undiffuse("analyse", "guidance", "teacher.safetensors", *SMALL, "--against", "teacher.safetensors")
    assert done.code == 0, done.err
    table = rows(priors, "student")
    assert {row["scale"] for row in table} == {"1.0", "3.0"}
    assert all(float(row["distance, white - black = 1"]) == 0 for row in table)


def test_a_prior_without_a_null_class_is_refused(undiffuse, priors):
    sure = changed(CLASSES, {"null_class": False}, null_class=False)
    stored(priors / "sure.safetensors", sure)
    done = undiffuse("analyse", "guidance", "sure.safetensors", *SMALL)
    assert done.code == 2 and "without class dropout" in done.err
    stored(priors / "photo.safetensors", PHOTO)
    done = undiffuse("analyse", "guidance", "photo.safetensors", *SMALL)
    assert done.code == 2 and "has no classes" in done.err
    assert not (priors / "report").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--scales", "1,1"), "one of them twice"),
        (("--scales", "1,high"), "scales"),
        (("--classifier", "nowhere.onnx"), "no classifier"),
        (("--classifier", "teacher.safetensors"), "classifier"),
        (
            ("--classifier", "judge.safetensors", "--label", "none", "--scales", "1"),
            "classes that it could see",
        ),
    ],
)
def test_settings_that_do_not_go_together(undiffuse, priors, given, said):
    done = undiffuse("analyse", "guidance", "teacher.safetensors", *SMALL, *given)
    assert done.code == 2 and said in done.err.splitlines()[-1]


def test_a_torchscript_network_judges_bytes_as_it_wants_them(undiffuse, priors, monkeypatch):
    monkeypatch.setattr(guidance_figures, "draw", lambda found: ())

    class Bright(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean = x.flatten(1).mean(1)
            return torch.stack([-(mean - 0.2).abs(), -(mean - 0.5).abs(), -(mean - 0.8).abs()], 1)

    torch.jit.script(Bright()).save(str(priors / "bright.ts"))
    given = ("--classifier", "bright.ts", "--classifier-range", "0..1", "--label", "1")
    done = undiffuse("analyse", "guidance", "teacher.safetensors", *SMALL, *given)
    assert done.code == 0, done.err
    assert all(0 <= float(row["class accuracy"]) <= 1 for row in rows(priors, "scales"))
