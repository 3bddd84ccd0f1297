"""`undiffuse distil` from outside: students in one folder, killed and resumed, refused in one line."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.app.tiny_run import CONFIG, ROOT, write
from undiffuse import cli
from undiffuse.app.distil import run
from undiffuse.app.events import Done, Note
from undiffuse.app.train import run as training
from undiffuse.checkpoints import load
from undiffuse.config import SampleConfig
from undiffuse.config.distil import DistilConfig
from undiffuse.config.train import read_train
from undiffuse.core.images import write as save

QUICK = ("train.steps=3", "train.batch=4", "train.check_every=3", "train.pictures=0", "train.keep_every=null")
SET = [part for setting in QUICK for part in ("--set", setting)]


@pytest.fixture
def teacher(place):
    """A run of a few steps, in the folder `run`."""
    list(training(read_train(Path("tiny.yaml"), ["train.steps=4"]), Path("run")))
    return place / "run"


def distil(out="students", resume=False, **options):
    config = DistilConfig(teacher="run", settings=QUICK, out=Path(out), **options)
    return list(run(config, resume=resume))


def result(events):
    return next(event.result for event in events if isinstance(event, Done))


def command(capsys, *arguments):
    """(exit code, what it printed, what it said)."""
    sys.argv = ["undiffuse", *arguments]
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code, *capsys.readouterr()


def test_students_of_sizes(teacher):
    rows = result(distil(sizes=(0.3, 1.0)))
    assert [row.name for row in rows] == ["teacher", "size_0.3", "size_1"]
    assert rows[1].share == pytest.approx(0.3, rel=0.1) and rows[2].share == 1
    with open("students/students.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["parameters"]) for row in table] == [row.parameters for row in rows]
    found = load("students/size_0.3")
    assert found.prior.num_classes == 2 and found.prior.null_class and found.config.made_for is None
    sizes = sum(p.numel() for p in found.prior.parameters())
    assert sizes == rows[1].parameters


def test_a_whole_student_begins_as_the_teacher(teacher):
    """Its loss is that of rounding: the teacher's convolutions run in another layout of memory."""
    distil(sizes=(1.0,))
    with open("students/size_1/log.csv", newline="") as file:
        first = next(csv.DictReader(file))
    assert float(first["loss"]) < 1e-7  # weight times (a few float32 ulps)^2


def test_progressive_students_learn_from_each_other(teacher):
    events = distil(method="progressive", to_steps=1, from_steps=4, guidance=2.0)
    assert [row.name for row in result(events)] == ["teacher", "progressive_2", "progressive_1"]
    first, second = (read_train(Path(f"students/progressive_{n}/config.yaml")) for n in (2, 1))
    assert first.distil.teacher == "run" and first.distil.guidance == 2
    assert second.distil.teacher == "students/progressive_2/prior.safetensors" and second.distil.guidance == 1
    assert second.distil.sigmas == first.distil.sigmas[::2] and len(first.distil.sigmas) == 4
    assert first.objective.weight == second.objective.weight == "truncated_snr"
    made_for = load("students/progressive_1").config.made_for
    assert (
        made_for.sampler == "ddim" and made_for.sigmas == first.distil.sigmas[:1] and made_for.guidance == 2
    )


def test_a_size_and_few_steps_at_once(teacher):
    rows = result(distil(method="progressive", sizes=(0.3,), to_steps=2, from_steps=4))
    assert [row.name for row in rows] == ["teacher", "size_0.3", "size_0.3_progressive_2"]
    assert rows[1].parameters == rows[2].parameters
    told = read_train(Path("students/size_0.3_progressive_2/config.yaml"))
    assert told.distil.teacher == "run" and told.train.start == "students/size_0.3/prior.safetensors"


def test_consistency(teacher):
    rows = result(distil(method="consistency", to_steps=2))
    assert rows[1].name == "consistency_2"
    made_for = load("students/consistency_2").config.made_for
    assert made_for.sampler == "consistency" and len(made_for.sigmas) == 2 and made_for.sigmas[0] == 80


def test_a_student_is_sampled_on_its_own_steps(teacher, capsys):
    distil(method="progressive", to_steps=2, from_steps=4, guidance=2.0)
    student = "students/progressive_2"
    code, _, said = command(capsys, "sample", student, "--n", "2", "--out", "own")
    assert code == 0 and "2 steps" in said and "made for" not in said
    code, _, said = command(capsys, "sample", student, "--n", "2", "--steps", "5", "--out", "others")
    assert code == 0 and "was made for 2 steps of ddim, guidance 2 built in" in said
    code, _, said = command(
        capsys, "sample", student, "--n", "2", "--guidance", "3", "--label", "1", "--out", "no"
    )
    assert code == 2 and "guidance 2 built in" in said and not Path("no").exists()


def test_restoration_says_that_it_is_no_mean(teacher, capsys):
    distil(method="progressive", to_steps=2, from_steps=4)
    save(torch.zeros(3, 8, 8), Path("grey.png"))
    code, _, said = command(
        capsys, "restore", "grey.png", "--degrade", "inp:random", "--noise", "0.05", "--label", "1",
        "--prior", "students/progressive_2", "--steps", "2", "--out", "restored",
    )  # fmt: skip
    assert code == 0 and "not with the mean that restoration expects" in said


def test_own_steps_are_those_of_the_header(teacher):
    from undiffuse.app.sample.plan import plan

    distil(method="progressive", to_steps=2, from_steps=4)
    made_for = load("students/progressive_2").config.made_for
    made = plan(SampleConfig(prior="students/progressive_2"))
    assert made.sigmas.tolist() == [*made_for.sigmas, 0.0] and made.entry.name == "ddim"
    assert plan(SampleConfig(prior="students/progressive_2", steps=2)).sigmas.tolist() == made.sigmas.tolist()


def test_a_chain_is_not_changed_below_a_student_that_learned(teacher):
    """More training, or other steps, of a student that another one learned from: refused before anything is trained."""
    asked = {"method": "progressive", "to_steps": 2, "from_steps": 8, "guidance": 2.0}
    distil(**asked)
    before = {path: path.read_bytes() for path in Path("students").rglob("*.safetensors")}
    with pytest.raises(
        ValueError, match="progressive_4 in 'students' has 3 training steps, and progressive_2"
    ):
        longer = ("train.steps=6", *QUICK[1:])
        config = DistilConfig(teacher="run", settings=longer, out=Path("students"), **asked)
        list(run(config, resume=True))
    with pytest.raises(ValueError, match="holds progressive_2 and not progressive_8, which comes before"):
        distil(resume=True, **{**asked, "from_steps": 16})
    assert {path: path.read_bytes() for path in Path("students").rglob("*.safetensors")} == before
    lines = [event.text for event in distil(resume=True, **asked) if isinstance(event, Note)]
    assert sum("guidance 2 built in" in line for line in lines) == 2


def test_what_is_there_is_not_touched(teacher):
    distil(sizes=(0.3,))
    before = Path("students/size_0.3/prior.safetensors").read_bytes()
    with pytest.raises(ValueError, match="already holds size_0.3; add --resume"):
        distil(sizes=(0.3, 0.5))
    distil(sizes=(0.3, 0.5), resume=True)
    assert Path("students/size_0.3/prior.safetensors").read_bytes() == before
    assert Path("students/size_0.5/prior.safetensors").exists()


def test_killed_at_random_moments_it_ends_the_same(teacher):
    """In any stage: the weights of all students are those of a run that was never killed, to the bit."""
    options = [
        "distil",
        "run",
        "--method",
        "progressive",
        "--to-steps",
        "1",
        "--from-steps",
        "4",
        "--device",
        "cpu",
    ]
    options += [*SET, "--set", "train.steps=20", "--set", "train.save_minutes=1e-6", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}

    def start(*more):
        return subprocess.Popen(
            [sys.executable, "-m", "undiffuse", *options, *more],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    assert start("whole").wait(120) == 0
    moments, kills = random.Random(0), 0
    for stage in ("progressive_2", "progressive_1"):  # once in each stage, at some step of it
        process = start("torn", "--resume")
        while not (Path("torn") / stage / "resume.safetensors").exists():
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        kills += process.wait(30) != 0
    process = start("torn", "--resume")
    assert process.wait(120) == 0, process.stdout.read()
    assert kills > 0  # at least one of them was not ready before
    for stage in ("progressive_2", "progressive_1"):
        whole, torn = (load_file(f"{out}/{stage}/prior.safetensors") for out in ("whole", "torn"))
        assert whole.keys() == torn.keys() and all(torch.equal(whole[key], torn[key]) for key in whole)


@pytest.mark.parametrize(
    "options, said",
    [
        ((), "nothing asked for"),
        (("--sizes", "0.1,two"), "--sizes two: expected a number"),
        (("--sizes", "1.5"), "--sizes 1.5; expected shares"),
        (("--method", "progressive"), "needs --to-steps"),
        (("--method", "progressive", "--to-steps", "3", "--from-steps", "8"), "halving"),
        (("--sizes", "0.3", "--to-steps", "3"), "progressive, consistency or restore"),
        (("--sizes", "0.3", "--noise", "0.2"), "are of --method restore"),
        (("--sizes", "0.3", "--guidance", "2", "--set", "data.size=16"), "make them equal"),
        (("--sizes", "0.3", "--set", "conditioning.classes=3"), "classes"),
        (("--method", "progressive", "--to-steps", "2", "--grid", "timesteps"), "no timesteps"),
        (
            ("--sizes", "0.3", "--set", "objective.prediction=eps", "--set", "objective.schedule=linear"),
            "edm",
        ),
        (("--sizes", "0.3", "--set", "train.stesp=3"), "stesp"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(teacher, capsys, options, said):
    code, out, error = command(capsys, "distil", "run", "--out", "students", *options)
    line = error.strip().splitlines()[-1]
    assert code == 2 and out == "" and line.startswith("error:") and said in line
    assert "Traceback" not in error and not list(Path().glob("students/*/prior*"))


def test_teachers_that_cannot_teach(teacher, capsys):
    for name, said in (("photo-gaussian", "is no network"), ("photo", "not the folder of a run")):
        code, _, error = command(capsys, "distil", name, "--sizes", "0.3")
        assert code == 2 and said in error
    code, _, error = command(capsys, "distil", "photo", "--config", "tiny.yaml", "--sizes", "0.3")
    assert code == 2 and "has no classes, conditioning.classes is 2" in error


def test_a_teacher_that_changed_is_not_gone_on_with(teacher):
    distil(sizes=(0.3,))
    list(training(read_train(Path("tiny.yaml"), ["train.steps=6"]), Path("run"), resume=True))
    with pytest.raises(ValueError, match="begun with other settings"):
        distil(sizes=(0.3,), resume=True)


def test_a_dry_run_writes_nothing(teacher):
    config = DistilConfig(
        teacher="run", settings=QUICK, out=Path("dry"), sizes=(0.3,), method="progressive", to_steps=2
    )
    notes = [event.text for event in run(config, dry=True) if isinstance(event, Note)]
    assert any("64 steps of DDIM in 32; 3 training steps" in note for note in notes)  # of --set
    assert not Path("dry").exists()


def test_teachers_of_timesteps(place):
    """Students of a discrete teacher step on its own levels, and may predict v where it predicts eps."""
    tree = {**CONFIG, "objective": {"prediction": "eps", "schedule": "cosine", "timesteps": 4000}}
    write(tree)
    list(training(read_train(Path("tiny.yaml"), ["train.steps=2"]), Path("run")))
    distil(method="progressive", to_steps=2, from_steps=4)
    distil(out="v", sizes=(1.0,))
    told = load("students/progressive_2")
    known = told.config.discrete().sigmas
    assert all((known - level).abs().min() == 0 for level in told.config.made_for.sigmas)
    config = DistilConfig(
        teacher="run", settings=(*QUICK, "objective.prediction=v"), out=Path("w"), sizes=(1.0,)
    )
    list(run(config))
    assert load("w/size_1").config.prediction == "v"
