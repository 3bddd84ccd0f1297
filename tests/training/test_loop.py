import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.training.runs import Run, data
from undiffuse.training.checkpoint import load_resume, save_resume
from undiffuse.training.loop import Recipe, accelerator_for, train

ROOT = Path(__file__).parents[2]


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_it_learns():
    run = Run(batch=16)
    states = run.finish(16 * 150)
    losses = [state.loss for state in states]
    # EDM's loss of the best constant predictor is near 1 on these stripes; the network does far better.
    assert sum(losses[-20:]) / 20 < 0.5 * sum(losses[:5]) / 5
    assert states[-1].images_seen == 16 * 150 and states[-1].skipped == 0


@pytest.mark.parametrize("stop", [8, 56, 88])
def test_resumed_is_the_same_run(tmp_path, stop):
    whole = Run()
    whole.finish(120)
    first = Run()
    first.finish(stop)
    first.save(tmp_path / "resume.safetensors")
    second = Run()
    second.resume(tmp_path / "resume.safetensors")
    assert second.images_seen == stop
    second.finish(120)
    same(second.weights(), whole.weights())


def test_parts_give_the_gradient_of_the_whole():
    whole, parts = Run(batch=8), Run(batch=8, part=3)
    a, b = whole.finish(80), parts.finish(80)
    for one, two in zip(a, b, strict=True):
        assert one.loss == pytest.approx(two.loss, rel=1e-4)  # float32 sums in another order, ten Adam steps


def test_a_bad_batch_is_skipped_and_counted():
    def sometimes(which):
        images, labels = data(which)
        return (images * math.nan if which[0] == 16 else images), labels

    run = Run()
    states = run.finish(48, sometimes)
    assert [state.skipped for state in states] == [0, 0, 1, 1, 1, 1]
    assert all(p.isfinite().all() for p in run.prior.parameters())


def test_nothing_but_bad_batches_is_fatal():
    run = Run(skip_limit=3)
    with pytest.raises(ValueError, match="3 steps in a row"):
        run.finish(800, lambda which: (data(which)[0] * math.nan, None))


class Recorded(torch.nn.Module):
    """An objective whose loss tells of nothing but torch's own generator, as dropout sees it."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(1, 1)
        self.drawn = []

    def forward(self, clean, labels, noise):
        self.drawn.append(torch.rand(()).item())
        return self.model(clean[:, 0, 0, :1])[:, 0]


def masks(images, images_seen=0):
    objective = Recorded()
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.1)
    recipe, before = Recipe(batch=8, part=2), torch.get_rng_state()
    list(
        train(
            objective, data, optimizer, [], recipe,
            accelerator=Accelerator(cpu=True), images=images, images_seen=images_seen,
        )
    )  # fmt: skip
    assert torch.equal(torch.get_rng_state(), before)
    return objective.drawn


def test_dropout_is_a_function_of_the_images_seen(monkeypatch):
    """Resumed it goes on, every part has masks of its own, and so has every process; torch's state is left alone."""
    whole = masks(32)
    assert len(set(whole)) == len(whole) == 16
    assert masks(32, images_seen=16) == whole[8:]
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    mine = masks(32)
    monkeypatch.setattr(Accelerator, "process_index", 1)
    assert len({*mine, *masks(32)}) == 16


def in_half(monkeypatch, run, images, scaler, data=data):
    """States of training with the scale of fp16, here on a CPU."""
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = scaler

    def clipped(parameters, norm):
        scaler.unscale_(run.optimizer)
        return torch.nn.utils.clip_grad_norm_(parameters, norm)

    monkeypatch.setattr(accelerator, "clip_grad_norm_", clipped)
    return list(
        train(
            run.objective, data, run.optimizer, run.averages, run.recipe, accelerator=accelerator,
            images=images, images_seen=run.images_seen,
        )
    )  # fmt: skip


def test_half_precision_learns_from_a_step_that_was_too_large(monkeypatch):
    """fp16: the scaler is told of it, or it would refuse the next step, and lowers its scale."""
    run, scaler = Run(), torch.amp.GradScaler("cpu", init_scale=2.0**10)

    def sometimes(which):
        images, labels = data(which)
        return (images * math.nan if which[0] == 8 else images), labels

    states = in_half(monkeypatch, run, 32, scaler, sometimes)
    assert [state.skipped for state in states] == [0, 1, 1, 1]
    assert scaler.get_scale() == 2.0**9
    assert all(p.isfinite().all() for p in run.prior.parameters())


def test_a_resumed_run_has_the_scale_of_half_precision(monkeypatch, tmp_path):
    """And counts on towards the next one: a larger scale may be the one that skips a step."""
    path, parts = tmp_path / "resume.safetensors", []
    for ends in ((96,), (56, 96)):
        run = Run()
        for end in ends:
            scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=5)
            if path.exists() and end > ends[0]:
                run.images_seen, _ = load_resume(path, run.prior, run.optimizer, run.averages, scaler)
            in_half(monkeypatch, run, end, scaler)
            save_resume(path, run.prior, run.optimizer, run.averages, images_seen=end, scaler=scaler)
        parts.append((scaler.state_dict(), run.weights()))
    assert parts[0][0] == parts[1][0] and parts[0][0]["scale"] == 2.0**12
    same(parts[0][1], parts[1][1])


@pytest.mark.parametrize(
    "scale", ["{", "[]", "null", "{}", '{"scale": NaN}', '{"scale": 0}', '{"scale": "a"}']
)
def test_a_damaged_scale_is_one_line(tmp_path, scale):
    path, run, scaler = tmp_path / "resume.safetensors", Run(), torch.amp.GradScaler("cpu")
    save_resume(path, run.prior, run.optimizer, run.averages, images_seen=0, scaler=scaler)
    whole = scaler.state_dict()
    with safe_open(path, "pt") as file:
        meta, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    given = json.dumps(whole | json.loads(scale)) if scale.startswith('{"') else scale
    save_file(tensors, path, meta | {"scale": given})
    with pytest.raises(ValueError, match="resume.safetensors' holds no scale of fp16"):
        load_resume(path, run.prior, run.optimizer, run.averages, scaler)
    assert scaler.state_dict() == whole


def test_the_learning_rate_rises_and_is_given_back():
    run = Run()
    list(zip(run.go(16), range(2), strict=False))
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2)


def test_a_resume_state_of_another_run_is_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="cannot be read"):
        Run().resume(tmp_path / "text")
    run = Run()
    run.save(tmp_path / "r.safetensors")
    other = Run()
    other.averages = []
    with pytest.raises(ValueError, match="1 averages, this run has 0"):
        other.resume(tmp_path / "r.safetensors")
    other = Run()
    other.prior.net.one = torch.nn.Conv2d(4, 9, 3)
    with pytest.raises(ValueError, match="another network"):
        other.resume(tmp_path / "r.safetensors")


@pytest.mark.parametrize("name", ["averages", "images_seen", "skipped"])
@pytest.mark.parametrize("said", [None, "many", "-8", "9" * 5000])
def test_a_resume_state_that_does_not_count_is_refused(tmp_path, name, said):
    path = tmp_path / "r.safetensors"
    Run().save(path)
    with safe_open(path, "pt") as file:
        meta = file.metadata()
    del meta[name]
    save_file(load_file(path), path, meta if said is None else {**meta, name: said})
    with pytest.raises(ValueError, match=f"should count {name}, and says .*; expected a number") as caught:
        Run().resume(path)
    assert len(str(caught.value)) < 300


def test_moments_of_other_weights_are_refused(tmp_path):
    path = tmp_path / "r.safetensors"
    run = Run()
    list(run.go(8))
    run.save(path)
    with safe_open(path, "pt") as file:
        meta = file.metadata()
    tensors = load_file(path)
    key = next(key for key, value in tensors.items() if key.startswith("optimizer.0.") and value.ndim)
    save_file({**tensors, key: torch.zeros(3)}, path, meta)
    with pytest.raises(ValueError, match=r"holds optimizer\.0\..* of shape \(3,\); expected \("):
        Run().resume(path)


def start(folder, images, processes=1):
    program = ["-m", "tests.training.runs", str(folder), str(images)]
    if processes > 1:
        program = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(processes),
            *program,
        ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    return subprocess.Popen(
        [sys.executable, *program], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_processes_are_one_with_the_same_batch(tmp_path):
    single = [state.loss for state in Run().finish(80)]
    process = start(tmp_path, 80, processes=2)
    out, said = process.communicate()
    assert process.returncode == 0, said
    double = [float(line.split()[1]) for line in out.splitlines() if line[:1].isdigit()]
    assert double == pytest.approx(single, rel=1e-4)  # float32: the mean of two means, ten Adam steps


def test_devices_and_precisions_of_one_process(monkeypatch):
    for precision in ("fp32", "bf16", "fp32"):
        assert accelerator_for(precision, "cpu").mixed_precision == {"fp32": "no"}.get(precision, precision)
    with pytest.raises(ValueError, match="no device 'cuda:1' to train on; choose from auto, cpu"):
        accelerator_for("fp32", "cuda:1")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'mps' cannot be used here"):
        accelerator_for("fp32", "mps")
