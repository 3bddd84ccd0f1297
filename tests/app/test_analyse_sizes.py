"""`undiffuse analyse sizes`, from small priors to the report."""

import csv
import json

import pytest
import yaml

from tests.small import CLASSES, changed, prior_of, stored
from undiffuse.app.analyse import sizes_figures
from undiffuse.app.analyse.sizes import _calls, named_teacher
from undiffuse.app.analyse.subjects import compared
from undiffuse.app.priors import open_prior
from undiffuse.checkpoints.native import MadeFor
from undiffuse.config.analyse.sizes import SizesConfig

SMALL = ("--n", 6, "--steps", 4, "--repeats", 1, "--out", "report")
WIDTHS = {"teacher": 12, "third": 8, "tenth": 4}


@pytest.fixture
def family(tmp_path, monkeypatch):
    """A teacher and two smaller ones, as files."""
    monkeypatch.chdir(tmp_path)
    for name, width in WIDTHS.items():
        stored(tmp_path / f"{name}.safetensors", changed(CLASSES, {"width": width}))
    return tmp_path


@pytest.fixture
def undrawn(monkeypatch):
    """Tables alone: figures take most of the time."""
    monkeypatch.setattr(sizes_figures, "draw", lambda found: ())


def rows(folder, name):
    with (folder / f"report/figures/{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def size(name):
    return sum(p.numel() for p in prior_of(changed(CLASSES, {"width": WIDTHS[name]})).parameters())


def test_sizes_costs_and_distances(undiffuse, family):
    students = ("third.safetensors", "tenth.safetensors", "teacher.safetensors")
    done = undiffuse("analyse", "sizes", *students, *SMALL)
    assert done.code == 0, done.err
    assert "the largest" in done.out  # nobody named a teacher
    record = json.loads((family / "report/analysis.json").read_text())["sections"][0]
    assert [figure["name"] for figure in record["figures"]] == [
        "against_cost",
        "focus",
        "by_level",
        "pictures",
    ]
    table = rows(family, "sizes")
    assert [row["prior"] for row in table] == ["teacher", "tenth", "third"]
    for row in table:
        assert int(row["parameters"]) == size(row["prior"])
        assert float(row["size over the teacher's"]) == size(row["prior"]) / size("teacher")
    flop = [float(row["GFLOP a call"]) for row in table]
    assert 0 < flop[1] < flop[2] < flop[0]
    apart = [float(row["distance to the teacher, white - black = 1"]) for row in table]
    assert apart[0] == 0 and min(apart[1:]) > 0
    chosen = rows(family, "chosen")
    assert [row["prior"] for row in chosen] == ["tenth", "third"]
    assert float(chosen[1]["parameters"]) == 1  # beside itself
    assert float(chosen[0]["parameters"]) == pytest.approx(size("tenth") / size("third"), rel=1e-12)


def test_the_same_prior_is_at_the_floor_exactly(undiffuse, family, undrawn):
    (family / "twin.safetensors").write_bytes((family / "teacher.safetensors").read_bytes())
    done = undiffuse("analyse", "sizes", "twin.safetensors", "--teacher", "teacher.safetensors", *SMALL)
    assert done.code == 0, done.err
    one, twin = rows(family, "sizes")
    for name in (
        "energy distance, white - black = 1",
        "features",
        "distance to the teacher, white - black = 1",
    ):
        assert one[name] == twin[name]
    assert float(twin["size over the teacher's"]) == 1


def test_a_focus_is_a_range_of_sizes(undiffuse, family, undrawn):
    students = ("third.safetensors", "tenth.safetensors", "--teacher", "teacher.safetensors")
    share = size("tenth") / size("teacher")
    done = undiffuse("analyse", "sizes", *students, *SMALL, "--focus", f"{0.9 * share:.4f}-{1.1 * share:.4f}")
    assert done.code == 0, done.err
    assert [row["prior"] for row in rows(family, "chosen")] == ["tenth"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--focus", "0.0001-0.0002"), "holds none of the sizes"),
        (("--focus", "0.5-0.1"), "smaller size first"),
        (("--focus", "small"), "such as 0.1-0.5"),
        (("--features", "pca"), "thousands of pictures"),
        (("--features", "nothing"), "no features"),
    ],
)
def test_settings_that_do_not_go_together(undiffuse, family, given, said):
    done = undiffuse("analyse", "sizes", "third.safetensors", "teacher.safetensors", *SMALL, *given)
    assert done.code == 2 and said in done.err.splitlines()[-1]


def test_one_prior_alone(undiffuse, family):
    done = undiffuse("analyse", "sizes", "third.safetensors", *SMALL)
    assert done.code == 2 and "one prior alone" in done.err
    done = undiffuse(
        "analyse", "sizes", "photo-gaussian", "--teacher", "photo-gaussian", *SMALL, "--size", "8x8"
    )
    assert done.code == 2 and done.err


def test_a_students_folder_names_its_teacher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student").mkdir()
    told = {
        "name": "student", "data": {"source": "folder", "path": "photos", "size": 8, "licence": "none"},
        "network": {"name": "ddpm"}, "objective": {"prediction": "eps", "schedule": "linear"},
        "train": {"steps": 1, "batch": 1},
        "distil": {"method": "match", "teacher": "teacher.safetensors", "sha256": "0" * 64},
    }  # fmt: skip
    (tmp_path / "student/config.yaml").write_text(yaml.safe_dump(told))
    stored(tmp_path / "teacher.safetensors", CLASSES)
    assert named_teacher(("elsewhere", "student")) == "teacher.safetensors"
    (tmp_path / "student/config.yaml").write_text("not: a run")
    assert named_teacher(("student",)) is None


@pytest.mark.parametrize("sampler", ["ddim", "heun", "churn", "dpmpp_3m"])
def test_calls_are_those_that_the_network_gets(family, sampler):
    opened = open_prior(str(family / "tenth.safetensors"))
    subjects = compared(SizesConfig(students=("it",), n=4, steps=3, sampler=sampler), [opened])
    asked = []
    opened.prior.net.register_forward_hook(lambda *_: asked.append(1))
    for _ in subjects.states(subjects.teacher, [0, 1]):
        pass
    assert _calls(subjects.teacher) == len(asked)


def test_a_student_of_one_step(undiffuse, family):
    one = changed(CLASSES, {"width": 4}, made_for=MadeFor(guidance=1.0, sampler="ddim", sigmas=(80.0,)))
    stored(family / "one.safetensors", one)
    done = undiffuse("analyse", "sizes", "one.safetensors", "--teacher", "teacher.safetensors", *SMALL)
    assert done.code == 0, done.err
    assert [row["calls a picture"] for row in rows(family, "sizes")] == ["4", "1"]


def test_three_pictures_have_no_halves(undiffuse, family):
    done = undiffuse("analyse", "sizes", "third.safetensors", "tenth.safetensors", "--n", 3)
    assert done.code == 2 and "--n 3" in done.err and "4" in done.err and not (family / "out").exists()
