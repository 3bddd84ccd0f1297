"""`undiffuse distil` of teachers that are students, settings that contradict it, and folders that it knows."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.app.test_distil import QUICK, SET, command, distil, result, teacher  # noqa: F401 (fixtures)
from tests.app.tiny_run import CONFIG, ROOT, write
from tests.small import PHOTO
from undiffuse.app.distil import run
from undiffuse.app.distil.plan import read
from undiffuse.app.events import Note
from undiffuse.app.priors import Opened
from undiffuse.app.sample.student import warnings
from undiffuse.app.train import run as training
from undiffuse.app.train.build import build
from undiffuse.app.train.students import check_taught
from undiffuse.checkpoints import PriorConfig, load
from undiffuse.checkpoints.native import MadeFor
from undiffuse.config.distil import DistilConfig
from undiffuse.config.train import LARGEST, checked_train, read_train, write_yaml
from undiffuse.core.images import write as save
from undiffuse.distil import Consistency, Guided, Progressive
from undiffuse.distil.matching import Matching
from undiffuse.distil.restoring import Restoring


def planned(name, **options):
    return read(DistilConfig(teacher=name, settings=QUICK, **options))


def lesson(path):
    """The objective of a student's configuration, as its run builds it."""
    pieces = build(read_train(Path(path) / "config.yaml"))
    pieces.stream.close()
    return pieces.objective


def test_a_student_of_few_steps_teaches_on_its_own_levels(teacher):  # noqa: F811
    distil(method="progressive", to_steps=4, from_steps=8, guidance=2.0)
    student = "students/progressive_4"
    own = load(student).config.made_for.sigmas
    stages = planned(student, method="progressive", to_steps=1).stages
    assert stages[0].tree["distil"]["sigmas"] == list(own)
    assert stages[1].tree["distil"]["sigmas"] == list(own[::2])
    distil_again = DistilConfig(
        teacher=student, settings=QUICK, out=Path("further"), method="progressive", to_steps=2
    )
    list(run(distil_again))
    made_for = load("further/progressive_2").config.made_for
    assert made_for.sigmas == own[::2] and made_for.guidance == 2
    for options in (
        dict(sizes=(0.3,)),
        dict(method="consistency", to_steps=1),
        dict(method="progressive", to_steps=1, sizes=(0.3,)),
        dict(method="progressive", to_steps=1, from_steps=8),
        dict(method="progressive", to_steps=1, grid="karras"),
    ):
        with pytest.raises(
            ValueError, match="was made for 4 steps of ddim, guidance 2 built in, and knows no"
        ):
            planned(student, **options)


def test_what_is_learned_is_what_was_asked_for(teacher):  # noqa: F811
    """Labels are hidden unless guidance is in the answers, also where the teacher has it built in."""
    distil(method="progressive", to_steps=1, from_steps=4, guidance=2.0)
    first, second = lesson("students/progressive_2"), lesson("students/progressive_1")
    assert isinstance(first, Progressive) and isinstance(first.teacher.ask, Guided)
    assert not isinstance(second.teacher.ask, Guided)
    assert first.label_dropout == second.label_dropout == 0
    distil(out="sizes", sizes=(1.0,), truth=0.25)
    plain = lesson("sizes/size_1")
    assert isinstance(plain, Matching) and plain.truth == 0.25 and plain.label_dropout == 0.1
    distil(
        out="looked", sizes=(0.3,), method="progressive", to_steps=2, from_steps=4, guidance=2.0, features=0.5
    )
    assert lesson("looked/size_0.3").features == 0.5
    assert read_train(Path("looked/size_0.3_progressive_2/config.yaml")).distil.features == 0
    distil(out="one", method="consistency", to_steps=1, steps=8)
    one = lesson("one/consistency_1")
    assert isinstance(one, Consistency) and one.by_gap and one.teacher is not None
    told = read_train(Path("one/consistency_1/config.yaml"))
    assert one.schedule.images == 3 * 4 // 8 and told.objective.log_sigma == (-1.1, 2.0)


ADM = {"name": "adm", "width": 8, "multipliers": [1, 2], "blocks": 1, "attention": [1], "heads": 2, "groups": 4,
       "head_channels": None}  # fmt: skip
OTHERS = {
    "low_res": {"conditioning": {"classes": 2, "low_res": 2, "augmentation": 0.1}},
    "learned_variance": {
        "network": ADM,
        "objective": {"prediction": "v", "schedule": "cosine", "timesteps": 50, "learned_variance": True},
    },
}


@pytest.mark.parametrize("kind", OTHERS)
def test_teachers_that_see_a_picture_or_predict_a_variance(place, kind):
    """Both are asked alike: a student that begins as the teacher is only rounding away from it."""
    write({**CONFIG, **OTHERS[kind]})
    list(training(read_train(Path("tiny.yaml"), QUICK), Path("run")))
    distil(sizes=(1.0,), method="progressive", to_steps=1, from_steps=2)
    with open("students/size_1/log.csv", newline="") as file:
        assert float(next(csv.DictReader(file))["loss"]) < 1e-7  # weight times (a few float32 ulps)^2
    taught, found = load("run"), load("students/size_1_progressive_1")
    assert found.prior.conditions == taught.prior.conditions == (4 if kind == "low_res" else 0)
    assert found.config.low_res == taught.config.low_res and not found.config.network["learned_variance"]


@pytest.mark.parametrize(
    "setting, said",
    [
        ("distil=null", "distil follows from the teacher"),
        ("distil.sigmas=[9.0, 1.0]", "distil follows from the teacher"),
        ("network.widths=[8]", "network follows from the teacher"),
        ("train.start=run", "train.start follows from the teacher"),
        ("train={steps: 3, batch: 4}", "train.start follows from the teacher"),
        ("conditioning.low_res=2", "is conditioned on no picture"),
        ("objective.sigma_data=0.3", "made for data of deviation 0.5"),
        (
            "objective.log_sigma=[8.0, 1.0]",
            "knows noise up to sigma 80; objective.log_sigma=[8.0, 1.0] draws more",
        ),
    ],
)
def test_settings_that_a_student_cannot_honour(teacher, capsys, setting, said):  # noqa: F811
    code, _, error = command(capsys, "distil", "run", "--sizes", "0.5", "--out", "no", "--set", setting)
    assert code == 2 and said in error.strip().splitlines()[-1] and not Path("no").exists()


def test_data_of_other_classes(teacher, capsys):  # noqa: F811
    """Said before a folder is begun, not at the first image of the class; and names count, not only how many."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    np.savez("plain.npz", images=images)
    np.savez("three.npz", images=images, labels=np.arange(60) % 3)
    for i, name in enumerate(("1", "2") * 10):
        Path("later", name).mkdir(parents=True, exist_ok=True)
        save(torch.from_numpy(images[i]).permute(2, 0, 1) / 127.5 - 1, Path("later") / name / f"{i}.png")
    for source, path, said in (
        ("npz", "plain.npz", "conditioning.classes: 2, but the data has no labels"),
        ("npz:labels=labels", "three.npz", "conditioning.classes: 2, but the data has 3"),
        ("folder:classes=true", "later", "numbers its classes 0, 1, and the data 1, 2"),
    ):
        options = ("--sizes", "0.5", "--set", f"data.source={source}", "--set", f"data.path={path}", *SET)
        code, _, error = command(capsys, "distil", "run", "--out", "no", *options)
        assert code == 2 and said in error.strip().splitlines()[-1] and not Path("no").exists()


def test_what_a_later_student_cannot_learn_is_said_before_the_first(place):
    """None is trained for days in vain."""
    write({**CONFIG, "objective": {"prediction": "x0", "schedule": "linear", "timesteps": 50},
           "conditioning": {"classes": 2, "dropout": 0.0}})  # fmt: skip
    list(training(read_train(Path("tiny.yaml"), QUICK), Path("run")))
    for options, said in (
        (dict(sizes=(0.5,), method="consistency", to_steps=1), "objective.prediction=v"),
        (dict(sizes=(0.5,), method="progressive", to_steps=4, guidance=2.0), "without a class"),
        (dict(sizes=(0.5,), method="progressive", to_steps=4), r"knows \d+ levels up to sigma 160"),
    ):
        with pytest.raises(ValueError, match=said):
            distil(**options)
        assert not Path("students").exists()
    with pytest.raises(ValueError, match="learned_variance"):
        config = DistilConfig(
            teacher="run", settings=(*QUICK, "objective.learned_variance=true"), sizes=(1.0,)
        )
        list(run(config))


def test_levels_beyond_the_teacher_are_refused(teacher):  # noqa: F811
    """Of a configuration that was written by hand."""
    distil(method="progressive", to_steps=2, from_steps=4)
    path = Path("students/progressive_2/config.yaml")
    with pytest.raises(ValueError, match="knows noise up to sigma 80"):
        list(training(read_train(path, ["distil.sigmas=[900.0, 1.0]"]), Path("beyond")))


def test_a_folder_may_be_named_otherwise_or_moved(teacher):  # noqa: F811
    options = dict(sizes=(1.0,), method="progressive", to_steps=1, from_steps=2)
    distil(**options)
    before = Path("students/size_1_progressive_1/prior.safetensors").read_bytes()
    Path("students").rename("moved")
    rows = result(distil(out=Path("moved").resolve(), resume=True, **options))
    assert [row.name for row in rows] == ["teacher", "size_1", "size_1_progressive_1"]
    assert Path("moved/size_1_progressive_1/prior.safetensors").read_bytes() == before


def test_the_table_keeps_students_of_earlier_calls(teacher):  # noqa: F811
    """Those that were measured on other images in a table of their own, and both are gone on with."""

    def names(table="students"):
        with open(f"students/{table}.csv", newline="") as file:
            return [row["student"] for row in csv.DictReader(file)]

    distil(method="progressive", to_steps=2, from_steps=4, guidance=2.0)  # a field with a comma
    distil(sizes=(1.0,))
    assert names() == ["teacher", "progressive_2", "size_1"]
    distil(sizes=(1.0,), resume=True)
    assert names() == ["teacher", "progressive_2", "size_1"]
    config = DistilConfig(
        teacher="run", settings=(*QUICK, "train.validate_images=3"), out=Path("students"), sizes=(1.0,)
    )
    notes = [event.text for event in run(config, resume=True) if isinstance(event, Note)]
    assert "students.csv there is of other held-out images" in notes[-1]
    assert names() == ["teacher", "progressive_2", "size_1"] and names("students_2") == ["teacher", "size_1"]
    distil(sizes=(0.5,))
    list(run(config.model_copy(update={"sizes": (0.3,)})))
    assert names() == ["teacher", "progressive_2", "size_1", "size_0.5"]
    assert names("students_2") == ["teacher", "size_1", "size_0.3"]
    assert len(list(Path("students").glob("*.csv"))) == 2


def test_a_class_is_needed_where_guidance_is_built_in(teacher, capsys):  # noqa: F811
    """Its answer without one was never taught."""
    distil(method="progressive", to_steps=2, from_steps=4, guidance=2.0)
    distil(method="progressive", to_steps=2, from_steps=4, out="plain")
    ask = ("--n", "2", "--label", "none", "--out")
    code, _, said = command(capsys, "sample", "students/progressive_2", *ask, "no")
    assert code == 2 and "needs a class" in said and not Path("no").exists()
    assert command(capsys, "sample", "plain/progressive_2", *ask, "yes")[0] == 0


def test_likelihoods_and_diffusers_are_told(teacher, capsys):  # noqa: F811
    network = {"name": "ddpm", "width": 8, "multipliers": [1, 2], "blocks": 1, "attention": [], "groups": 4}
    levels = {"prediction": "eps", "schedule": "linear", "timesteps": 50}
    write({**CONFIG, "network": network, "objective": levels, "conditioning": {}})
    list(training(read_train(Path("tiny.yaml"), QUICK), Path("steps")))
    config = DistilConfig(
        teacher="steps", settings=QUICK, out=Path("few"), method="progressive", to_steps=1, from_steps=2
    )
    list(run(config))
    code, _, said = command(capsys, "priors", "convert", "few/progressive_1", "folder", "--to", "diffusers")
    level = f"{load('few/progressive_1').config.made_for.sigmas[0]:.6g}"
    assert code == 0 and f"made for 1 steps of ddim on sigma {level}; a folder of diffusers has no" in said
    code, _, said = command(
        capsys, "likelihood", "few/progressive_1", "--data", "data.npz", "--source", "npz:labels=labels",
        "--count", "1", "--steps", "2",
    )  # fmt: skip
    assert code == 0 and "not with the mean that a likelihood is computed from" in said


def test_two_processes_speak_with_one_voice(teacher):  # noqa: F811
    """And the second student waits for the first one's weights."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "undiffuse",
            "distil", "run", "--method", "progressive", "--to-steps", "1", "--from-steps", "4",
            "--device", "cpu", *SET],
        env=environment, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("student 2 of 2") == process.stdout.count("progressive_1") == 1
    assert load("runs/students/run/progressive_1").config.made_for.sampler == "ddim"


def test_sizes_and_steps_that_are_refused():
    with pytest.raises(ValueError, match="the same to six digits"):
        DistilConfig(teacher="run", sizes=(0.5, 0.50000001))
    for wrong in (0.0, -1.0, 1.5):
        with pytest.raises(
            ValueError, match=f"--sizes {wrong:g}; expected shares of the teacher's parameters"
        ):
            DistilConfig(teacher="run", sizes=(0.5, wrong))
    with pytest.raises(ValueError, match="10000"):
        DistilConfig(teacher="run", method="progressive", to_steps=10_001)
    assert DistilConfig(teacher="run", sizes=(0.5,), steps=400_000).steps == 400_000
    for options in (dict(method="consistency", to_steps=1), dict(sizes=(0.5,), guidance=2.0)):
        with pytest.raises(
            ValueError, match="--features 1 is of students of a size that learn without --guidance"
        ):
            DistilConfig(teacher="run", features=1.0, **options)


def test_the_most_steps_fit_in_a_configuration():
    """Where halving begins unsaid: twice as many levels, each with all its digits."""
    assert len(write_yaml({"distil": {"sigmas": [80 / 3 + n / 7 for n in range(20_000)]}})) < LARGEST / 2


def test_each_student_of_a_chain_begins_as_its_teacher(teacher):  # noqa: F811
    """But the first, which has the size's weights and learns from the teacher that was asked for."""
    stages = planned("run", method="progressive", to_steps=1, from_steps=8, sizes=(0.5,)).stages
    folder = Path("runs/students/run")
    names = ["size_0.5", *(f"size_0.5_progressive_{n}" for n in (4, 2, 1))]
    assert [stage.name for stage in stages] == names
    weights = [str(folder / name / "prior.safetensors") for name in names]
    assert [stage.teacher for stage in stages] == ["run", "run", *weights[1:3]]
    assert [stage.start for stage in stages] == [None, weights[0], None, None]


def test_other_steps_and_other_samplers_are_told():
    config = PHOTO.model_copy(update={"made_for": MadeFor(sampler="ddim", sigmas=(8.0, 1.0))})
    opened = Opened(config.build(), "student", config=config)
    own = torch.tensor([8.0, 1.0, 0.0], dtype=torch.float64)
    assert warnings(opened, "ddim", own) == warnings(opened, "ddim", own * (1 + 1e-6)) == []
    for sampler, sigmas in (("heun", own), ("ddim", own[1:]), ("ddim", own * 1.01)):
        assert "was made for 2 steps of ddim" in warnings(opened, sampler, sigmas)[0]


TIMED = {"prediction": "eps", "schedule": "linear", "timesteps": 50}


@pytest.mark.parametrize(
    "channels, teacher_says, settings, said",
    [
        (3, {}, (), None),
        (1, {}, (), "takes 3 channels, the data has 1"),
        (3, {"size": (16, 16), "num_classes": 2}, (), "made for 16x16 pixels, data.size is 8"),
        (3, {"num_classes": 3}, (), "has 3 classes, conditioning.classes is 2"),
        (3, {"num_classes": None}, (), "has no classes, conditioning.classes is 2"),
        (3, TIMED, (), "predicts eps, the student edm"),
        (3, TIMED, ("objective={prediction: v, schedule: linear, timesteps: 60}",), "knows the levels of 50 linear"),
        (3, TIMED, ("objective={prediction: v, schedule: cosine, timesteps: 50}",), "knows the levels of 50 linear"),
        (3, {"augmentation": 0.1, "low_res": "sr2"}, ("conditioning.low_res=2",), "with noise up to 0.1"),
        (
            3,
            {"low_res": "sr2", "low_res_as": "bilinear"},
            ("conditioning.low_res=2",),
            "enlarged by bilinear",
        ),
        (3, {}, ("distil.sigmas=[90.0, 1.0]", "distil.method=progressive"), "up to sigma 80"),
    ],
)  # fmt: skip
def test_teachers_of_other_pictures(channels, teacher_says, settings, said):
    """Said before a network is built."""
    plain = {"prediction": "edm", "channels": 3, "size": (8, 8), "num_classes": 2}
    described = PriorConfig(network=CONFIG["network"], **{**plain, **teacher_says})
    tree = {**CONFIG, "distil": {"method": "match", "teacher": "teacher", "sha256": "0" * 64}}
    config = checked_train(tree, settings, "it")
    told = SimpleNamespace(channels=channels)
    if said is None:
        return check_taught(config, described, told, 2)
    with pytest.raises(ValueError, match=said):
        check_taught(config, described, told, 2)


def test_only_consistency_keeps_dropout(place):
    """A student that learns a function of x sees none; of consistency both sides of a pair share its masks."""
    write({**CONFIG, "network": {**CONFIG["network"], "dropout": 0.2}})
    list(training(read_train(Path("tiny.yaml"), ["train.steps=2"]), Path("run")))
    for options, dropout in (
        ({"sizes": (0.5,)}, 0.0),
        ({"method": "progressive", "to_steps": 2}, 0.0),
        ({"method": "consistency", "to_steps": 2}, 0.2),
    ):
        plan = read(DistilConfig(teacher="run", **options))
        assert plan.stages[0].config(()).network["dropout"] == dropout


def test_a_student_that_practised_restoration(place):
    """Of a teacher without classes: a run's folder like any other, the same when it was stopped; refusals in a line."""
    write({**CONFIG, "conditioning": {}})
    list(training(read_train(Path("tiny.yaml"), ["train.steps=2"]), Path("run")))
    asked = dict(method="restore", to_steps=2, tasks=("sr2", "inp"), noise=0.05)
    row = result(distil(**asked))[1]
    assert row.name == "restore_2" and row.share == 1 and row.made_for == "2 calls of dpir_wiener"
    told = read_train(Path("students/restore_2/config.yaml")).distil.practice
    assert (told.tasks, told.algorithm, told.calls, told.noise) == (("sr2", "inp"), "dpir_wiener", 2, 0.05)
    assert isinstance(lesson("students/restore_2"), Restoring)
    both = result(distil(out="both", sizes=(0.5,), **asked))
    assert [row.name for row in both] == ["teacher", "size_0.5", "size_0.5_restore_2"]
    assert load("both/size_0.5_restore_2").prior.num_classes is None


@pytest.mark.parametrize(
    "options, said",
    [
        (("--to-steps", "2"), "such as --tasks sr4"),
        (("--tasks", "sr2"), "needs --to-steps"),
        (("--to-steps", "2", "--tasks", "sr2,sr3x"), "sr3x"),
        (("--to-steps", "2", "--tasks", "sr2", "--algorithm", "diffpir"), "one of its own"),
        (("--to-steps", "2", "--tasks", "sr2", "--algorithm", "diffpir", "--size", "0.5"), "one of its own"),
        (("--to-steps", "2", "--tasks", "sr2", "--noise", "2"), "noise"),
        (("--to-steps", "2", "--tasks", "sr2", "--guidance", "2"), "without a class"),
    ],
)
def test_what_cannot_be_practised(place, capsys, options, said):  # noqa: F811
    write({**CONFIG, "conditioning": {}})
    list(training(read_train(Path("tiny.yaml"), ["train.steps=2"]), Path("run")))
    code, out, error = command(capsys, "distil", "run", "--method", "restore", "--out", "students", *options)
    assert code == 2 and out == "" and said in error.strip().splitlines()[-1]
    assert "Traceback" not in error and not Path("students").exists()


def test_classes_cannot_practise(teacher, capsys):  # noqa: F811
    options = ("--method", "restore", "--to-steps", "2", "--tasks", "sr2", "--out", "students", *SET)
    code, _, error = command(capsys, "distil", "run", *options)
    assert code == 2 and "has classes" in error
