"""`undiffuse train` from outside: a folder that a stranger could read, killed and resumed, refused in one line."""

import csv
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from undiffuse.app.events import Done, Note, Progress, Saved
from undiffuse.app.train import run
from undiffuse.app.train.build import build
from undiffuse.app.train.folder import TextLog
from undiffuse.app.train.targets import edges
from undiffuse.checkpoints import load, load_classifier
from undiffuse.config.train import read_train

ROOT = Path(__file__).parents[2]
CONFIG = {
    "name": "tiny",
    "data": {
        "source": "npz:labels=labels", "path": "data.npz", "size": 8, "crop": "none", "validation": 0.2, "workers": 1,
    },
    "network": {"name": "photo", "widths": [8, 8], "blocks": 1, "embedding": 16},
    "objective": {"prediction": "edm", "log_sigma": [-1.2, 1.2]},
    "conditioning": {"classes": 2},
    "optimizer": {"name": "muon", "rate": 3e-3, "decay": "cosine", "warmup": 2},
    "train": {
        "steps": 12, "batch": 8, "ema": [40, 400], "power_ema": [0.1], "log_every": 2, "check_every": 6,
        "pictures": 4, "save_minutes": 1e-6, "keep_every": 6,
    },
}  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data and a configuration."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = (80 + 90 * labels[:, None, None, None] + generator.normal(0, 20, (60, 8, 8, 3))).clip(0, 255)
    np.savez(tmp_path / "data.npz", images=images.astype(np.uint8), labels=labels)
    write(CONFIG)
    return tmp_path


def write(tree, name="tiny.yaml"):
    Path(name).write_text(yaml.safe_dump(tree))


def go(*settings, out="run", **options):
    return list(run(read_train(Path("tiny.yaml"), settings), Path(out), **options))


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def command(*arguments, processes=1, **options):
    launch = (
        []
        if processes == 1
        else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(
        [sys.executable, *launch, "-m", "undiffuse", "train", "tiny.yaml", "--out", "run",
            "--device", "cpu", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def test_what_a_run_leaves(place):
    events = go()
    assert isinstance(events[-1], Done) and events[-1].result == Path("run")
    log = rows("run/log.csv")
    assert [int(row["step"]) for row in log] == [2, 4, 6, 8, 10, 12]
    assert [int(row["images"]) for row in log] == [16, 32, 48, 64, 80, 96]
    assert all(float(row["loss"]) > 0 and float(row["images_per_second"]) > 0 for row in log)
    assert [row["stage"] for row in rows("run/memory.csv")][:1] == ["start"]
    assert sorted(p.name for p in Path("run/pictures").iterdir()) == ["00000006.png", "00000012.png"]
    assert read_train(Path("run/config.yaml")) == read_train(Path("tiny.yaml"))
    assert "44 to train on, 16 to validate" in Path("run/train.log").read_text()
    assert float(log[0]["rate"]) == pytest.approx(
        3e-3 * 9 / 16 * (0.5 + 0.5 * math.cos(math.pi / 12)), rel=1e-5
    )
    assert float(log[-1]["rate"]) > 0 and "8,068" in Path("run/report.html").read_text()
    saved = [event.path.name for event in events if isinstance(event, Saved)]
    assert saved.index("kept_00000012.safetensors") < len(saved) - 1 - saved[::-1].index("prior.safetensors")
    names = {p.name for p in Path("run").iterdir()}
    assert {"prior_1.safetensors", "prior_2.safetensors", "kept_00000006.safetensors"} <= names


def test_the_prior_of_a_run_is_its_average(place):
    go()
    found = load("run")
    stored = load_file("run/resume.safetensors")
    for name, value in found.prior.net.state_dict().items():
        assert torch.equal(value, stored[f"average.0.net.{name}"])
    assert found.config.num_classes == 2 and found.config.null_class and found.config.size == (8, 8)
    assert found.facts["steps"] == 12 and found.facts["licence"] == "not stated"
    assert found.facts["average"] == "half-life 40 images"
    later = load("run/prior_2.safetensors")
    assert later.facts["average"] == "power function, width 0.1"


@pytest.mark.parametrize("steps", [1, 12])
def test_a_dry_run_writes_nothing(place, steps):
    events = go(f"train.steps={steps}", "optimizer.clip=.inf", dry=True)
    assert sum(isinstance(event, Progress) for event in events) == 4
    assert any("images a second" in event.text for event in events if isinstance(event, Note))
    assert not Path("run").exists() and isinstance(events[-1], Done)


def test_more_steps_later_and_no_other_change(place):
    go()
    with pytest.raises(ValueError, match="already holds a run; add --resume"):
        go()
    with pytest.raises(ValueError, match=r"other settings \(optimizer.rate: 0.003 -> 0.1\)"):
        go("optimizer.rate=0.1", resume=True)
    assert load("run").facts["steps"] == 12
    with pytest.raises(ValueError, match="train.steps: 8, but the run in 'run' has made 12"):
        go("train.steps=8", resume=True)
    assert read_train(Path("run/config.yaml")).train.steps == 12
    go("train.steps=16", resume=True)
    assert load("run").facts["steps"] == 16
    assert [int(row["step"]) for row in rows("run/log.csv")] == [2, 4, 6, 8, 10, 12, 14, 16]


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_at_random_moments_it_ends_the_same(place, processes):
    """SIGKILL, three times, at moments drawn anew each time; then to the end. Weights and tables are the same."""
    settings = ["--set", "train.steps=40", "--set", "train.log_every=1", "--set", "train.pictures=0"]
    whole = command(*settings, processes=processes)
    assert whole.wait() == 0, whole.stderr.read()
    Path("run").rename("whole")
    generator = random.Random()
    for _ in range(3):
        process = command(*settings, "--resume", processes=processes, start_new_session=True)
        before = len(rows("run/log.csv")) if Path("run/log.csv").exists() else 0
        aim, give_up = before + generator.randint(1, 6), time.monotonic() + 60
        while process.poll() is None and time.monotonic() < give_up:
            if Path("run/log.csv").exists() and len(rows("run/log.csv")) >= aim:
                break
            time.sleep(0.005 * generator.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    process = command(*settings, "--resume", processes=processes)
    assert process.wait() == 0, process.stderr.read()
    for name in ("prior.safetensors", "prior_1.safetensors", "resume.safetensors"):
        mine, theirs = load_file(f"run/{name}"), load_file(f"whole/{name}")
        assert all(torch.equal(mine[key], theirs[key]) for key in mine.keys() | theirs.keys())
    timeless = ("images", "step", "loss", "gradient_norm", "rate", "skipped")
    once, again = rows("whole/log.csv"), rows("run/log.csv")
    assert [[row[k] for k in timeless] for row in once] == [[row[k] for k in timeless] for row in again]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_saves(place, number):
    process = command("--set", "train.steps=100000", "--set", "train.save_minutes=60")
    while not Path("run/log.csv").exists() or len(rows("run/log.csv")) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 130 and "go on with --resume" in said
    steps = load("run").facts["steps"]
    assert steps >= 6
    assert [path.name for path in Path("run").glob(".undiffuse-*")] == []
    process = command("--set", f"train.steps={steps + 2}", "--resume")
    _, said = process.communicate()
    assert process.returncode == 0 and f"going on from step {steps}" in said


def test_the_second_of_two_signals_at_once_is_no_second_one(place):
    """Under torchrun Ctrl-C comes twice: from the terminal and from the launcher."""
    process = command("--set", "train.steps=100000", "--set", "train.save_minutes=60")
    while not Path("run/log.csv").exists() or len(rows("run/log.csv")) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 130 and "go on with --resume" in said


def test_two_processes_speak_with_one_voice_and_end_together(place):
    process = command("--set", "train.batch=7", processes=2)
    _, said = process.communicate()
    assert process.returncode != 0 and "batch 7 on 2 processes; make it a multiple of 2" in said
    assert not Path("run").exists()
    process = command("--set", "train.steps=2", processes=2)
    out, said = process.communicate()
    assert process.returncode == 0 and out.count("the run is in run") == said.count("44 to train on") == 1
    process = command(processes=2)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0 and said.count("error: 'run' already holds a run; add --resume") == 1


def test_a_run_that_is_abandoned_leaves_its_folder_free(place):
    events = run(read_train(Path("tiny.yaml")), Path("run"))
    next(event for event in events if isinstance(event, Progress))
    events.close()
    go("train.precision=bf16", resume=True)  # in another precision, in the same process


def test_what_is_no_run_is_not_gone_on_from(place):
    go("train.steps=2")
    Path("other").mkdir()
    Path("run/resume.safetensors").rename("other/resume.safetensors")
    for resume in (False, True):
        with pytest.raises(ValueError, match="'other' holds resume.safetensors of an unknown run"):
            go(out="other", resume=resume)
    events = go("train.steps=2", resume=True)
    assert any("to go on from: a new run" in event.text for event in events if isinstance(event, Note))


def test_tables_are_mended_not_lost(place):
    go("train.steps=4")
    whole = rows("run/log.csv")
    log = Path("run/log.csv")
    log.write_bytes(
        log.read_bytes() + b"\xff\0,1\r\n" + "\xb2,1,1,1,1,1,1,1\r\n".encode() + b"9" * 5000 + b"\r\n40,5,0."
    )
    go("train.steps=6", resume=True)
    assert rows("run/log.csv")[:2] == whole and len(rows("run/log.csv")) == 3
    log.write_text(log.read_text().replace(",", ";"))
    before = log.read_bytes()
    with pytest.raises(ValueError, match="'run/log.csv' has no column 'images'"):
        go("train.steps=8", resume=True)
    assert log.read_bytes() == before


def test_validation_is_of_every_class(place):
    """Of sorted data the first images would be all of one class."""
    stored = np.load("data.npz")
    order = np.argsort(stored["labels"], kind="stable")
    np.savez("data.npz", images=stored["images"][order], labels=stored["labels"][order])
    held = build(read_train(Path("tiny.yaml"), ["train.validate_images=4"])).target.held
    assert len(held.clean) == 4 and set(held.labels.tolist()) == {0, 1}


def test_bands_are_of_levels_that_the_model_knows():
    assert edges(0.002, 80.0) == [0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 80.0]
    assert edges(0.16, 20.0) == [0.16, 0.3, 1.0, 3.0, 10.0, 20.0]


def test_what_is_compiled_is_what_every_objective_calls(place):
    objective = "objective={prediction: eps, schedule: cosine, timesteps: 50, learned_variance: true}"
    model = build(read_train(Path("tiny.yaml"), [objective, "train.compile=true"])).objective.model
    assert model.net._compiled_call_impl is not None


def test_a_full_disk_is_said_and_loses_nothing(place):
    """No file may grow beyond what the first saved state needs: as on a disk that fills up."""
    go()
    before = {p.name: p.read_bytes() for p in Path("run").glob("*.safetensors")}
    limit = Path("run/resume.safetensors").stat().st_size // 2
    process = command(
        "--set", "train.steps=16", "--resume",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    _, said = process.communicate()
    assert process.returncode == 2 and "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: 'run/resume.safetensors' cannot be written")
    assert Path("run/resume.safetensors").read_bytes() == before["resume.safetensors"]
    assert not list(Path("run").glob(".undiffuse-*"))
    go("train.steps=16", resume=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full: of Linux")
def test_a_full_disk_is_said_of_tables_too():
    with pytest.raises(ValueError, match="'/dev/full' cannot be written .*go on with --resume"):
        TextLog(Path("/dev/full")).write("a line")


def test_two_runs_in_one_folder_are_refused(place):
    process = command("--set", "train.steps=100000")
    while not Path("run/log.csv").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    with pytest.raises(ValueError, match="another process is training in 'run'"):
        go("train.steps=100000", resume=True)
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.stps=3", "no option 'train.stps'; did you mean 'steps'?"),
        ("trian.steps=3", "no section 'trian'; did you mean 'train'?"),
        ("train.steps=0", "option train.steps=0 .*greater than or equal to 1"),
        ("train.steps=many", "option train.steps='many'"),
        ("train.steps", "expected section.key=value"),
        ("network.wdths=[8]", "'photo' has no option 'wdths'; did you mean 'widths'?"),
        ("network.name=unet", "network.name: unet for prediction edm; choose from adm, ddpm, photo"),
        ("network.in_channels=3", "follow from data, conditioning and objective"),
        ("network.widths=[8,9]", "a level of 9 channels cannot be split"),
        ("conditioning.classes=3", "classes: 3, but the data has 2; write classes: 2"),
        ("data.source=npzz", "no dataset named 'npzz'; did you mean 'npz'?"),
        ("data.path=nowhere.npz", "nowhere.npz"),
        ("data.validation=0", "option data.validation=0"),
        ("objective.schedule=cosine", "prediction edm takes no schedule"),
        ("objective={prediction: eps}", "prediction eps needs a schedule"),
        ("network={name: ddpm, width: 8, groups: 8}", "told timesteps"),
        ("train.batch=7", None),
        ("optimizer.name=sgd", "'adam', 'adamw' or 'muon'"),
        ("train.start=nothing.safetensors", "no prior named 'nothing.safetensors'"),
        ("train.precision=fp16", "fp16 needs a CUDA device"),
        ("name=../away", "option name='../away'"),
        ("train.seed=9223372036854775808", "option train.seed=9223372036854775808"),
        ("train.batch=100000000000", "option train.batch=100000000000"),
        ("optimizer.clip=.nan", "option optimizer.clip=nan"),
        ("train.steps=2024-13-45", "--set train.steps=2024-13-45: the value cannot be read"),
        ("conditioning.augmentation=0.3", "augmentation is noise on a low_res picture"),
        ("objective={prediction: label, schedule: linear, weight: v}", "prediction label takes no weight"),
        ("train.start=photo-gaussian", "train.start: 'photo-gaussian' is no network"),
    ],
)
def test_a_wrong_setting_is_one_line_and_leaves_nothing(place, setting, said):
    if said is None:  # any batch will do for one process
        assert isinstance(go(setting, "train.steps=1")[-1], Done)
        return
    with pytest.raises(ValueError, match=said) as caught:
        go(setting)
    assert "\n" not in str(caught.value) and not Path("run").exists()


def test_validation_by_band_is_the_same_each_time(place):
    """Fixed images, fixed noise: two checks of the same weights agree, and a better prior has lower losses."""
    go("train.steps=120", "train.check_every=60", "train.pictures=0")
    found = rows("run/validation.csv")
    assert len(found) == 2 * 6 and {row["count"] for row in found} == {"16"}
    assert [float(row["high"]) for row in found[:6]] == [float(row["low"]) for row in found[1:6]] + [80.0]
    first, last = found[:6], found[6:]
    assert sum(float(row["v"]) for row in last) < sum(float(row["v"]) for row in first)
    for row in found:  # v is eps and x0 together: (1 + sigma^2) / sigma^2 = 1 / sigma^2 + 1
        assert float(row["v"]) == pytest.approx(float(row["eps"]) + float(row["x0"]), rel=1e-4)
    report = Path("run/report.html").read_text()
    assert "http://" not in report.replace("http://www.w3.org", "") and "tiny" in report


def test_a_super_resolution_prior(place):
    tree = {**CONFIG, "conditioning": {"low_res": 4, "augmentation": 0.2}}
    write(tree)
    go()
    found = load("run")
    assert found.config.low_res == "sr4" and found.prior.conditions == 4
    assert sorted(p.name for p in Path("run/pictures").iterdir()) == ["00000006.png", "00000012.png"]
    write({**tree, "conditioning": {"low_res": "jpeg:quality=20"}})
    with pytest.raises(ValueError, match="is not linear"):
        go(out="other")


def test_a_learned_variance(place):
    tree = {**CONFIG, "objective": {"prediction": "eps", "schedule": "cosine", "timesteps": 50}}
    tree["objective"]["learned_variance"] = True
    write(tree)
    go()
    prior = load("run").prior
    found = prior.predict(torch.zeros(1, 3, 8, 8), torch.tensor(1.0), torch.tensor([1]))
    assert found.variance is not None and found.variance.shape == (1, 3, 8, 8)
    write({**tree, "objective": {**tree["objective"], "log_sigma": [0, 1]}})
    with pytest.raises(ValueError, match="learned_variance takes the schedule's own levels"):
        go(out="other")


def test_a_classifier_of_noisy_images(place):
    tree = {**CONFIG, "objective": {"prediction": "label", "schedule": "linear", "timesteps": 100}}
    tree["network"] = {
        "name": "classifier", "width": 16, "multipliers": [1], "blocks": 1, "attention": [0], "head_channels": 8,
        "groups": 8,
    }  # fmt: skip
    write(tree)
    go("train.steps=60", "train.check_every=60", "optimizer.name=adamw")
    classifier, description, facts = load_classifier("run")
    assert description.num_classes == 2 and facts["steps"] == 60
    low, *_, high = rows("run/validation.csv")
    assert (
        float(low["accuracy"]) > 0.9
    )  # the two classes differ in brightness, plainly where there is little noise
    assert float(high["cross_entropy"]) > float(low["cross_entropy"])
    with pytest.raises(ValueError, match="is a classifier, no prior; give it with --classifier"):
        load("run")
    logits = classifier(torch.zeros(2, 3, 8, 8), torch.tensor(0.1))
    assert logits.shape == (2, 2)
    write({**tree, "network": CONFIG["network"]})
    with pytest.raises(ValueError, match="network.name: photo for prediction label; choose from classifier"):
        go(out="other")


def test_a_start_from_weights(place):
    go()
    go(
        "train.steps=1",
        "optimizer.rate=1e-12",
        "train.start=run",
        "train.ema=[]",
        "train.power_ema=[]",
        out="next",
    )
    mine, theirs = load("next").prior.net.state_dict(), load("run").prior.net.state_dict()
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-7) for name in mine)  # one step of 1e-12
    Path("run").rename("moved")  # and is not needed any more
    start = ["train.start=run", "optimizer.rate=1e-12", "train.ema=[]", "train.power_ema=[]"]
    go("train.steps=2", *start, out="next", resume=True)


def test_a_start_from_a_file_that_does_not_tell_all(place):
    network = {"name": "adm", "width": 32, "multipliers": [1, 1], "blocks": 1, "attention": [1], "heads": 2}
    objective = {"prediction": "eps", "schedule": "linear"}
    write({**CONFIG, "network": network, "objective": objective})
    go("train.steps=1")
    theirs = load("run").prior.net.state_dict()
    torch.save(theirs, "outside.pt")
    start = ["train.steps=1", "train.start=outside.pt", "optimizer.rate=1e-12", "train.ema=[]"]
    with pytest.raises(
        ValueError, match="'outside.pt' .* does not tell heads.* give it with train.start_options"
    ):
        go(*start, out="next")
    go(*start, "train.start_options='heads=2,schedule=linear'", out="next")
    mine = load("next").prior.net.state_dict()
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-7) for name in mine)  # one step of 1e-12
    with pytest.raises(
        ValueError, match="train.start_options heads: 'run.*' is of undiffuse and tells all itself"
    ):
        go("train.start=run", "train.start_options=heads=2", out="other")
    with pytest.raises(ValueError, match="start_options: heads=2 is about a file; name it with train.start"):
        go("train.start_options=heads=2", out="other")


def test_a_size_that_does_not_divide(place):
    tree = {
        **CONFIG,
        "network": {"name": "ddpm", "width": 8, "groups": 8, "multipliers": [1, 1, 1], "blocks": 1},
    }
    tree["objective"] = {"prediction": "v", "schedule": "cosine", "timesteps": 50}
    write({**tree, "data": {**CONFIG["data"], "size": 6}})
    with pytest.raises(ValueError, match="data.size: 6 for a network of 4-pixel blocks"):
        go()
    write(tree)
    go("train.steps=2")
    assert load("run").config.prediction == "v"


def test_hostile_configurations(place):
    for text, said in {
        "a: &x [1]\nb: *x\n": "alias",
        "name: !!python/object/apply:os.system ['touch owned']\n": "could not determine a constructor",
        "name: a\nname: b\n": "gives name twice",
        "- 1\n": "holds no mapping",
        "[" * 5000: "tiny.yaml",
        "name: " + "x" * 2**21: "longer than",
    }.items():
        Path("tiny.yaml").write_text(text)
        with pytest.raises(ValueError, match=said) as caught:
            go()
        assert "\n" not in str(caught.value) and not Path("owned").exists()


def test_one_damaged_picture_among_many(place):
    from PIL import Image

    folder = Path("pictures")
    folder.mkdir()
    for i in range(150):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / f"{i:03}.png")
    (folder / "042.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    tree = {**CONFIG, "conditioning": {}, "data": {**CONFIG["data"], "source": "folder", "path": "pictures"}}
    write(tree)
    with pytest.warns(UserWarning, match="1 of .*042.png"):
        go("train.steps=20")


def test_behind_the_launcher_of_accelerate(place):
    """`accelerate launch -m undiffuse train ...`, as the documents say."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    launcher = [
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "-m",
        "undiffuse",
        "train",
        "tiny.yaml",
        "--out",
        "run",
    ]
    done = subprocess.run([sys.executable, *launcher], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert load("run").facts["steps"] == 12 and "the run is in run" in done.stdout
