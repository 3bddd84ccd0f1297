"""`undiffuse train` stopped at any moment, by anybody, or by a full disk: nothing is lost, and it goes on."""

import os
import random
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.app.tiny_run import command, go, rows
from undiffuse.app.events import Note, Progress
from undiffuse.app.train import run
from undiffuse.app.train.folder import TextLog
from undiffuse.checkpoints import load
from undiffuse.config.train import read_train
from undiffuse.training import Denoising


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


def test_options_that_are_younger_than_the_run_have_their_defaults(place):
    go()
    stored, line = Path("run/config.yaml"), "  bound_weight: 0.001\n"
    assert line in stored.read_text()
    stored.write_text(stored.read_text().replace(line, ""))
    go("train.steps=16", resume=True)
    assert load("run").facts["steps"] == 16
    stored.write_text(stored.read_text() + "gone: 1\n")
    with pytest.raises(ValueError, match=r"other settings \(gone: 1 -> None\)"):
        go("train.steps=20", resume=True)


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


def test_steps_that_were_skipped_before_are_not_told_again(place):
    go("train.steps=4")
    path = Path("run/resume.safetensors")
    with safe_open(path, "pt") as file:
        meta = {**file.metadata(), "skipped": "3"}
    save_file(load_file(path), path, meta)
    go("train.steps=8", resume=True)
    assert "skipped" not in Path("run/train.log").read_text()
    assert [row["skipped"] for row in rows("run/log.csv")] == ["0", "0", "3", "3"]


def test_a_step_without_a_finite_loss_leaves_the_row_that_of_the_others(place, monkeypatch):
    found, whole = [], Denoising.forward

    def forward(self, *given):
        losses = whole(self, *given)
        if torch.is_grad_enabled():
            found.append(losses.mean().item())
        return losses * float("nan") if len(found) == 2 else losses

    monkeypatch.setattr(Denoising, "forward", forward)
    go("train.steps=3", "train.log_every=3")
    row = rows("run/log.csv")[0]
    assert float(row["loss"]) == pytest.approx((found[0] + found[2]) / 2, rel=1e-5) and row["skipped"] == "1"


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


def test_other_data_is_no_same_run(place):
    """More pictures of the same file name, or the classes in another order: weights would mean something else."""
    go()
    before = Path("run/prior.safetensors").read_bytes()
    with np.load("data.npz") as stored:
        images, labels = stored["images"], stored["labels"]
    np.savez(
        "more.npz",
        images=np.concatenate([images, images[:9] // 2]),
        labels=np.concatenate([labels, labels[:9]]),
    )
    with pytest.raises(
        ValueError, match=r"other data \(44 to train on, 16 to validate.*; here: .*give it the same"
    ):
        go("train.steps=16", "data.path=more.npz", resume=True)
    assert Path("run/prior.safetensors").read_bytes() == before
    Path("moved.npz").write_bytes(Path("data.npz").read_bytes())
    go("train.steps=16", "data.path=moved.npz", resume=True)


def test_equal_runs_leave_equal_files(place):
    go(out="a")
    go(out="b")
    for name in ("prior.safetensors", "resume.safetensors"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
