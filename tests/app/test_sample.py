"""Sampling: every picture a function of the settings, the seed and its number; folders that go on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.pictures import photograph
from tests.small import CLASSES, PHOTO, changed, prior_of, stored
from undiffuse.app.events import Done, Note, Progress, Saved
from undiffuse.app.sample import run
from undiffuse.app.sample.folder import counted, stretched, write_npz
from undiffuse.app.sample.plan import batch_size, plan
from undiffuse.checkpoints import save
from undiffuse.config import SampleConfig
from undiffuse.core.images import read, write
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.networks.packed import PackedConv, available
from undiffuse.priors import Prior, class_guided
from undiffuse.registry import SAMPLERS
from undiffuse.training.conditioning import LowRes


@pytest.fixture
def classes(tmp_path) -> Path:
    return stored(tmp_path / "fashion.safetensors", CLASSES)


@pytest.fixture
def photos(tmp_path) -> Path:
    """The folder of a run."""
    return stored(tmp_path / "run" / "prior.safetensors", PHOTO).parent


def drawn(**given: object) -> torch.Tensor:
    """The pictures before they are rounded to 255 levels: as `run` hands them to be written."""
    made = plan(SampleConfig(**given))
    members = list(range(made.config.n))
    found: list[torch.Tensor] = []
    size = made.config.batch if isinstance(made.config.batch, int) else len(members)
    for i in range(0, len(members), size):
        part = members[i : i + size]
        noise = made.noise(part)
        step = made.step(part, noise, torch.device("cpu"))
        x = noise(torch.empty(len(part), *made.shape)) * made.sigmas[0].item()
        found.append(last(sample(step, x, made.sigmas)).x)
    return torch.cat(found)


def numbered(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.stem.isdigit())


def test_a_run_needs_nothing_else(undiffuse, photos):
    done = undiffuse("sample", photos, "--n", 5, "--steps", 3, "--npz")
    assert done.code == 0 and "5 drawn" in done.out
    out = photos / "samples"
    assert numbered(out) == [f"{i:05}.png" for i in range(5)]
    assert read(out / "grid.png").pixels.shape == (3, 2 * 10, 3 * 10)
    arrays = np.load(out / "samples.npz")
    assert arrays.files == ["arr_0"] and arrays["arr_0"].dtype == np.uint8
    assert arrays["arr_0"].shape == (5, 8, 8, 3)
    unit = read(out / "00003.png").pixels.permute(1, 2, 0).add(1).div(2).mul(255).round().numpy()
    assert (arrays["arr_0"][3] == unit).all()
    record = json.loads((out / "sample.json").read_text())
    assert record["settings"]["prior"] == record["prior"]["sha256"] and record["prior"]["facts"]["steps"] == 7
    assert record["config"]["n"] == 5 and record["torch"] == torch.__version__
    assert record["values"]["pictures"] == 5 and len(record["sigmas"]) == 4


def test_pixels_are_those_of_the_library(undiffuse, classes, tmp_path):
    """No step between the function calls that the documents show and the files."""
    out = tmp_path / "o"
    arguments = ["--label", "coat,0", "--guidance", 2, "--n", 3, "--steps", 4, "--seed", 5]
    assert undiffuse("sample", classes, *arguments, "--out", out).code == 0
    prior = prior_of(CLASSES)
    noise = SeededNoise(image_seeds(5, ["sample/0", "sample/1", "sample/2"]))
    grid = plan(SampleConfig(prior=str(classes), steps=4)).sigmas
    assert grid[0].item() == pytest.approx(prior.sigma_range[1])  # 157: the schedule's last
    x = noise(torch.empty(3, 1, 8, 8)) * grid[0].item()
    denoise = class_guided(prior, torch.tensor([2, 0, 2]), scale=2.0)
    expected = last(sample(SAMPLERS["dpmpp_2m"](denoise, noise), x, grid)).x.clamp(-1, 1)
    for i in range(3):
        found = read(out / f"{i:05}.png").pixels
        assert (found - expected[i]).abs().max() <= 1.001 / 255  # half a level of rounding


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ancestral", "ddim:eta=0.5", "churn", "heun"])
def test_any_batch_gives_the_same_pixels(classes, sampler):
    """Convolutions over another batch add in another order, in float32: 1e-5 at the end, as measured.

    1e-4 is an eightieth of a level of 255. What wrong noise or labels would change is of the size of the
    pictures, 1.
    """
    given = {"prior": str(classes), "n": 7, "steps": 6, "guidance": 2.0, "sampler": sampler}
    whole = drawn(**given)
    for batch in (1, 3):
        torch.testing.assert_close(drawn(**given, batch=batch), whole, rtol=0, atol=1e-4)
    assert (drawn(**given, seed=1) - whole).abs().mean() > 0.05
    assert (drawn(**{**given, "n": 2}) - whole[:2]).abs().max() < 1e-4


def test_help_has_an_example(undiffuse):
    done = undiffuse("sample", "--help")
    assert done.code == 0 and "undiffuse sample runs/" in done.out


def test_every_sampler(undiffuse, classes, tmp_path):
    for name in SAMPLERS:
        done = undiffuse(
            "sample", classes, "--n", 2, "--steps", 3, "--sampler", name, "--out", tmp_path / name
        )
        assert done.code == 0 and len(numbered(tmp_path / name)) == 2


def test_the_chain_of_ddpm_on_its_own_timesteps(classes):
    made = plan(SampleConfig(prior=str(classes), sampler="ancestral", steps=1000, grid="timesteps"))
    assert made.opened.config is not None
    torch.testing.assert_close(made.sigmas[:-1], made.opened.config.discrete().sigmas.flip(0))


def test_clipping_keeps_a_learned_variance(tmp_path):
    config = changed(CLASSES, {"learned_variance": True}, prediction="eps")
    given = {"prior": str(stored(tmp_path / "v.safetensors", config)), "steps": 4, "n": 3, "clip": True}
    pictures = drawn(**given, sampler="ancestral:variance=learned")
    assert pictures.abs().max() <= 1


def test_the_steps_of_a_sampler_are_those_of_its_grid(classes):
    """churn spreads its noise over them, whoever says how many they are."""
    told = ({"steps": 6}, {"sampler": "churn:steps=6"}, {"sampler": "churn:6", "steps": 6})
    for given in told:
        made = plan(SampleConfig(prior=str(classes), **{"sampler": "churn", **given}))
        assert len(made.sigmas) == 7 and made.options["steps"] == 6


def test_labels_in_turn(classes):
    def labels(text: str | None, n: int = 5) -> list[int | None]:
        made = plan(SampleConfig(prior=str(classes), label=text, n=n))
        return [made.label(i) for i in range(n)]

    assert labels(None) == labels("all") == [0, 1, 2, 0, 1]
    assert labels("bag") == [1] * 5 and labels("ankle boot, 2") == [0, 2, 0, 2, 0]
    assert labels("none") == [None] * 5
    conditional, free = (drawn(prior=str(classes), label=text, n=2, steps=3) for text in ("1", "none"))
    assert (conditional - free).abs().max() > 0.01


def test_a_seed_for_each_picture(undiffuse, photos, tmp_path):
    """Picture i of the seeds 3-6 is the only picture of seed 3 + i, whatever the batch."""
    arguments = ["sample", photos, "--steps", 3]
    done = undiffuse(*arguments, "--seed", "3-6", "--batch", 3, "--out", tmp_path / "all")
    assert done.code == 0 and "4 drawn" in done.out
    for i in range(4):
        alone = tmp_path / f"{i}"
        assert undiffuse(*arguments, "--seed", 3 + i, "--n", 1, "--out", alone).code == 0
        found, expected = (read(p).pixels for p in (tmp_path / f"all/{i:05}.png", alone / "00000.png"))
        assert (found - expected).abs().max() <= 2.001 / 255  # a level of 255 is what rounding may move
    first, second = (read(tmp_path / f"all/{i:05}.png").pixels for i in range(2))
    assert (first - second).abs().mean() > 0.05
    done = undiffuse(*arguments, "--seed", "3-8", "--out", tmp_path / "all")
    assert done.code == 0 and "2 drawn" in done.out and "4 kept" in done.out
    for seed, said in (
        ("4-8", "other settings"),
        ("3-2", "expected a range that rises"),
        ("3-", "such as 0-63"),
        ("a", "such as 0-63"),
        ("5-9223372036854775808", "below 2^63"),
    ):
        done = undiffuse(*arguments, "--seed", seed, "--out", tmp_path / "all")
        assert done.code == 2 and said in done.err and done.err.count("\n") == 1
    done = undiffuse(*arguments, "--seed", "0-63", "--n", 3)
    assert done.code == 2 and "3 pictures with the seeds 0-63" in done.err


def test_guidance_on_an_interval_and_by_a_weaker_prior(undiffuse, classes, tmp_path):
    weak, other = tmp_path / "weak.safetensors", tmp_path / "other.safetensors"
    save(weak, prior_of(CLASSES, 1), CLASSES, {})
    given = {"prior": str(classes), "n": 3, "steps": 5}
    plain, guided = drawn(**given), drawn(**given, guidance=3)
    part = drawn(**given, guidance=3, guidance_interval=(0.5, 20))
    assert (part - guided).abs().max() > 0.01 and (part - plain).abs().max() > 0.01
    torch.testing.assert_close(drawn(**given, guidance=3, guidance_interval=(0, 200)), guided)
    made = plan(SampleConfig(**given, guidance=3, autoguidance=str(weak)))
    assert "away from" in made.asked() and made.settings()["autoguidance"]
    x, sigma = torch.ones(3, 1, 8, 8), torch.tensor(2.0)
    labels = torch.arange(3)
    good, bad = (prior_of(CLASSES, seed)(x, sigma, labels) for seed in (0, 1))
    found = made.denoise([0, 1, 2], torch.device("cpu"))(x, sigma)
    torch.testing.assert_close(found, bad + 3 * (good - bad))
    more = changed(CLASSES, {"num_classes": 2}, num_classes=2, classes=None)
    save(other, prior_of(more), more, {})
    for arguments, said in (
        (["--guidance-interval", "0.3,5"], "with --guidance 1"),
        (["--guidance", 2, "--guidance-interval", "5,0.3"], "0 <= low < high"),
        (["--guidance", 2, "--guidance-interval", "0.3"], "such as 0.3,5"),
        (["--guidance", 2, "--guidance-interval", "900,1000"], "holds none of the levels"),
        (["--autoguidance", weak], "with --guidance 1"),
        (["--guidance", 2, "--autoguidance", classes], "the prior itself"),
        (["--guidance", 2, "--autoguidance", other], "classes 2, and the prior 3"),
        (["--guidance", 2, "--autoguidance", "photo-gaussian"], "two networks"),
        (["--guidance", 2, "--autoguidance-options", "schedule=linear"], "without --autoguidance"),
        (
            ["--guidance", 2, "--autoguidance", weak, "--autoguidance-options", "schedule=linear"],
            "--autoguidance-options schedule: ",
        ),
    ):
        done = undiffuse("sample", classes, "--out", tmp_path / "o", *arguments)
        assert done.code == 2 and said in done.err and done.err.count("\n") == 1
    done = undiffuse("sample", classes, "--guidance", 2, "--autoguidance", weak, "--guidance-interval", "0.3,5",
                     "--n", 2, "--steps", 6, "--out", tmp_path / "o")  # fmt: skip
    assert done.code == 0 and "away from" in done.err and "sigma from 0.3 to 5" in done.err


def test_autoguidance_without_classes(photos, tmp_path):
    weak = tmp_path / "weak.safetensors"
    save(weak, prior_of(PHOTO, 1), PHOTO, {})
    given = {"prior": str(photos), "n": 2, "steps": 3}
    assert (drawn(**given, guidance=2, autoguidance=str(weak)) - drawn(**given)).abs().max() > 0.01


def test_networks_are_made_ready(photos, tmp_path, monkeypatch):
    """Packed on a CPU, the weaker one too; left to torch's compiler if that is asked for."""
    weak = tmp_path / "weak.safetensors"
    save(weak, prior_of(PHOTO, 1), PHOTO, {})
    given = {"prior": str(photos), "guidance": 2, "autoguidance": str(weak)}
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda net, **options: compiled.append(options["mode"]))
    for wanted in (False, True):
        made = plan(SampleConfig(**given, compile=wanted))
        made.ready(torch.device("cpu"))
        assert made.guidance.weaker is not None
        for opened in (made.opened, made.guidance.weaker):
            layers = [isinstance(part, PackedConv) for part in opened.prior.net.modules()]
            assert any(layers) == (available() and not wanted)
    assert compiled == ["default", "default"]


def test_a_folder_goes_on(undiffuse, photos):
    arguments = ["sample", photos, "--steps", 2]
    out = photos / "samples"
    assert undiffuse(*arguments, "--n", 3).code == 0
    kept = (out / "00001.png").stat().st_mtime_ns
    (out / "00000.png").unlink()
    (out / "00002.png").write_bytes((out / "00002.png").read_bytes()[:-20])  # cut
    done = undiffuse(*arguments, "--n", 6, "--batch", 2)
    assert done.code == 0 and "5 drawn" in done.out and "1 kept" in done.out
    assert (out / "00001.png").stat().st_mtime_ns == kept and len(numbered(out)) == 6
    again = undiffuse(*arguments, "--n", 6)
    assert again.code == 0 and "0 drawn" in again.out and "6 kept" in again.out
    fresh = photos / "fresh"
    assert undiffuse(*arguments, "--n", 6, "--out", fresh).code == 0
    for name in numbered(out):  # a level of 255 is what rounding may move
        assert (read(out / name).pixels - read(fresh / name).pixels).abs().max() <= 2.001 / 255


def test_other_settings_are_refused_and_nothing_is_lost(undiffuse, photos):
    arguments = ["sample", photos, "--n", 2, "--steps", 2]
    assert undiffuse(*arguments).code == 0
    before = {path: path.read_bytes() for path in (photos / "samples").iterdir()}
    for extra in (["--seed", 1], ["--steps", 3], ["--stretch"], ["--sampler", "euler"], ["--size", "16x8"]):
        done = undiffuse(*arguments, *extra)
        assert done.code == 2 and done.err.count("\n") == 1 and "other settings" in done.err
    save(photos / "prior.safetensors", prior_of(PHOTO, 1), PHOTO, {})  # trained further
    assert "prior:" in undiffuse(*arguments).err
    assert before == {path: path.read_bytes() for path in (photos / "samples").iterdir()}


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 50_000, '{"settings": {}, "values": {}}', "\xff"])
def test_records_of_others(undiffuse, photos, tmp_path, text):
    (tmp_path / "o").mkdir()
    (tmp_path / "o/sample.json").write_text(text, encoding="latin-1")
    done = undiffuse("sample", photos, "--out", tmp_path / "o")
    assert done.code == 2 and done.err.count("\n") == 1 and "no record of samples" in done.err
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["sample.json"]


def test_pictures_of_others(undiffuse, photos, tmp_path):
    write(photograph(8, 8), tmp_path / "00001.png")
    before = (tmp_path / "00001.png").read_bytes()
    done = undiffuse("sample", photos, "--n", 2, "--out", tmp_path)
    assert done.code == 2 and "says what made them" in done.err
    assert (tmp_path / "00001.png").read_bytes() == before


def test_a_picture_that_another_took_the_place_of(undiffuse, photos):
    arguments = ["sample", photos, "--n", 3, "--steps", 2, "--npz"]
    assert undiffuse(*arguments).code == 0
    place = photos / "samples"
    packed = (place / "samples.npz").read_bytes()
    for other in (photograph(4, 4), photograph(8, 8)[:1]):
        write(other, place / "00001.png")
        done = undiffuse(*arguments)
        assert done.code == 2 and "00001.png' is " in done.err and "3x8x8 was drawn there" in done.err
        assert (place / "samples.npz").read_bytes() == packed
    (place / "00001.png").unlink()
    assert "1 drawn" in undiffuse(*arguments).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--label", "3"], "0 (ankle boot), 1 (bag), 2 (coat)"),
        (["--label", "0,shirt"], "--label shirt"),
        (["--label", ""], "an empty argument after"),
        (["--label", "none", "--guidance", "2"], "'none' of --label none is no class; leave out 'none'"),
        (
            ["--label", "coat,none", "--guidance", "2"],
            "'none' of --label coat,none is no class; leave out 'none'",
        ),
        (["--guidance", "-1"], "guidance"),
        (["--n", "0"], "--n 0:"),
        (["--steps", "0"], "--steps 0:"),
        (["--size", "9x8"], "sides that 2 divides"),
        (["--sampler", "ddimm"], "did you mean 'ddim'"),
        (["--sampler", "ddim:etta=1"], "did you mean 'eta'"),
        (["--sampler", "dpmpp_2m", "--eta", "1"], "eta"),
        (["--sampler", "ddim:eta=0.5", "--eta", "0.3"], "--eta 0.3 beside eta=0.5"),
        (["--sampler", "churn:steps=256,s_churn=40"], "steps=256 of churn beside a grid of 3 steps"),
        (["--batch", "0"], "--batch 0: expected a whole number"),
        (["--sampler", "ancestral:variance=learned"], "predicts none"),
        (["--grid", "cosine"], "grid"),
        (["--batch", "many"], "or auto"),
        (["--low-res", "a.png"], "not conditioned on a picture"),
        (["--noise", "0.1"], "--low-res"),
        (["--device", "tpu"], "no device"),
        (["--out", "/dev/null/x"], "not a folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refused_before_anything_is_written(undiffuse, classes, monkeypatch, arguments, said):
    monkeypatch.chdir(classes.parent)
    done = undiffuse("sample", classes.name, "--steps", "3", *arguments)
    assert done.code == 2 and said in done.err and done.err.splitlines()[-1].startswith("error: ")
    assert [path.name for path in classes.parent.iterdir()] == [classes.name]


def test_priors_without_what_is_asked(undiffuse, tmp_path, photos):
    strict = stored(tmp_path / "s.safetensors", changed(CLASSES, {"null_class": False}, null_class=False))
    for arguments, said in (
        ([strict, "--guidance", 2], "without class dropout"),
        ([strict, "--label", "none"], "without class dropout"),
        ([photos, "--label", "1"], "has no classes"),
        ([photos, "--guidance", "2"], "is towards a class, and the prior"),
        ([photos, "--grid", "timesteps"], "no timesteps"),
        (["photo-gaussian"], "give --size"),
        (
            ["photo-gaussian", "--size", "8x8", "--compile"],
            "--compile; the prior 'photo-gaussian' is no network",
        ),
        (["nowhere"], "or give a file of weights"),
    ):
        done = undiffuse("sample", *arguments, "--out", tmp_path / "o")
        assert done.code == 2 and done.err.count("\n") == 1 and said in done.err
    assert not (tmp_path / "o").exists()


def test_values_out_of_range_are_told_and_shown(undiffuse, tmp_path):
    """A prior whose pictures are three times too bright."""
    config = changed(PHOTO, sigma_data=0.5)
    prior = prior_of(config)
    with torch.no_grad():
        prior.net.conv_out.weight.mul_(8)
    save(tmp_path / "far.safetensors", prior, config, {})
    arguments = ["sample", tmp_path / "far.safetensors", "--n", 3, "--steps", 4]
    done = undiffuse(*arguments, "--out", tmp_path / "a")
    assert done.code == 0 and "outside [-1.05, 1.05]" in done.err and "--stretch" in done.err
    values = json.loads((tmp_path / "a/sample.json").read_text())["values"]
    assert values["outside"] > 0.01 and values["high"] > 1.05
    assert undiffuse(*arguments, "--stretch", "--out", tmp_path / "b").code == 0
    plain, scaled = (read(tmp_path / name / "00000.png").pixels for name in "ab")
    assert (plain.abs() == 1).float().mean() > 0.05 and (scaled.abs() == 1).float().mean() < 0.05


def test_stretched():
    picture = torch.linspace(5, 6, 300).reshape(3, 10, 10)
    shown = stretched(picture)
    assert shown.min() == pytest.approx(-1, abs=0.02) and shown.max() == pytest.approx(1, abs=0.02)
    assert stretched(torch.full((1, 2, 2), 7.0)).abs().max() == 0


def test_the_range_over_batches():
    x = torch.tensor([-2.0, 0, 0, 1]).reshape(4, 1, 1, 1)
    none = {"pictures": 0, "low": 0.0, "high": 0.0, "outside": 0.0}
    assert counted(counted(none, x[:1]), x[1:]) == counted(none, x) == {
        "pictures": 4, "low": -2, "high": 1, "outside": 0.25,
    }  # fmt: skip


def test_pictures_that_are_no_numbers(undiffuse, tmp_path):
    prior = prior_of(PHOTO)
    with torch.no_grad():
        prior.net.conv_out.bias[0] = torch.nan
    save(tmp_path / "nan.safetensors", prior, PHOTO, {})
    done = undiffuse("sample", tmp_path / "nan.safetensors", "--out", tmp_path / "o", "--steps", 2)
    assert done.code == 2 and "picture 0 is not finite" in done.err and not (tmp_path / "o").exists()


def test_half_the_batch_when_memory_is_out(photos, monkeypatch):
    sizes: list[int] = []
    asked = Prior.predict

    def predict(self: Prior, x: torch.Tensor, *others: object):
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return asked(self, x, *others)

    monkeypatch.setattr(Prior, "predict", predict)
    config = SampleConfig(prior=str(photos), n=9, steps=2, batch=8)
    events = list(run(config))
    assert sizes[:3] == [8, 4, 2] and isinstance(events[-1], Done) and events[-1].result.drawn == 9
    assert sum("out of memory" in event.text for event in events if isinstance(event, Note)) == 2
    progress = [event.done for event in events if isinstance(event, Progress)]
    assert max(progress) == 18 and {event.total for event in events if isinstance(event, Progress)} == {18}
    monkeypatch.setattr(Prior, "predict", lambda self, x, *others: predict(self, torch.empty(3)))
    with pytest.raises(RuntimeError, match="out of memory"):  # one alone does not fit
        list(run(config.model_copy(update={"out": photos / "other"})))


def test_the_batch_by_memory(photos, monkeypatch):
    from undiffuse.app import machine

    made = plan(SampleConfig(prior=str(photos)))
    cpu, each = torch.device("cpu"), 4 * 16 * 8 * 8 * 8
    for free, expected in ((None, 16), (10**12, 16), (12 * each, 6), (0, 1)):
        memory = machine.Memory(None, None, None, free, None, None, None)
        monkeypatch.setattr(machine, "memory", lambda device, memory=memory: memory)
        assert batch_size(made, cpu) == expected


def test_a_low_resolution_picture(undiffuse, tmp_path):
    config = changed(PHOTO, {"in_channels": 7}, low_res="sr2", augmentation=0.2, size=(8, 12))
    file = stored(tmp_path / "sr.safetensors", config)
    write(photograph(5, 7), tmp_path / "small.png")
    arguments = ["sample", file, "--low-res", tmp_path / "small.png", "--n", 2, "--steps", 3]
    assert undiffuse(*arguments, "--out", tmp_path / "a").code == 0
    found = read(tmp_path / "a/00001.png").pixels
    assert found.shape == (3, 10, 14)  # whatever the prior was trained on
    y = read(tmp_path / "small.png").pixels[None]
    prior, noise = prior_of(config), SeededNoise(image_seeds(0, ["sample/0", "sample/1"]))
    cond = LowRes("sr2", (3, 10, 14), augmentation=0.2).measured(y)
    grid = plan(SampleConfig(prior=str(file), low_res=tmp_path / "small.png", steps=3)).sigmas
    x = noise(torch.empty(2, 3, 10, 14)) * grid[0].item()
    expected = last(sample(SAMPLERS["dpmpp_2m"](prior.given(None, cond), noise), x, grid)).x[1]
    assert (found - expected.clamp(-1, 1)).abs().max() <= 1.001 / 255
    noisy = undiffuse(*arguments, "--noise", 0.05, "--out", tmp_path / "b")
    assert noisy.code == 0 and (read(tmp_path / "b/00001.png").pixels - found).abs().max() > 0
    write(photograph(6, 7), tmp_path / "small.png")
    for arguments_, said in (
        ([*arguments, "--out", tmp_path / "a"], "low_res"),  # another picture of the same name
        (["sample", file], "give the picture with --low-res"),
        ([*arguments, "--noise", 0.5], "trained with noise from 0 to 0.2"),
        ([*arguments, "--size", "16x16"], "say the size of the large picture"),
    ):
        done = undiffuse(*arguments_)
        assert done.code == 2 and said in done.err and done.err.count("\n") == 1


def test_arrays_of_labels(classes, tmp_path):
    made = plan(SampleConfig(prior=str(classes), n=4, label="2,none", out=tmp_path))
    for i in range(4):
        write(torch.full((1, 8, 8), i / 4), tmp_path / f"{i:05}.png")
    *_, saved = write_npz(made, tmp_path)
    assert isinstance(saved, Saved)
    arrays = np.load(saved.path)
    assert arrays["arr_1"].tolist() == [2, 3, 2, 3] and arrays["arr_0"].shape == (4, 8, 8, 1)
    assert not list(tmp_path.glob(".undiffuse*"))


def test_an_interrupt_leaves_whole_pictures(photos):
    command = [sys.executable, "-m", "undiffuse", "sample", str(photos), "--n", "5000", "--batch", "2"]
    heard = {
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    }  # a background job ignores it
    going = subprocess.Popen([*command, "--steps", "5"], stderr=subprocess.PIPE, text=True, **heard)
    out, until = photos / "samples", time.monotonic() + 30
    while not (out / "00003.png").exists() and time.monotonic() < until:
        time.sleep(0.05)
    going.send_signal(signal.SIGINT)
    assert going.wait(30) == 130
    names = numbered(out)
    assert len(names) >= 4 and not list(out.glob(".undiffuse*"))
    assert all(read(out / name).pixels.shape == (3, 8, 8) for name in names)
    assert json.loads((out / "sample.json").read_text())["config"]["n"] == 5000


def test_entries_are_found_by_name_not_by_file(undiffuse, photos, tmp_path, monkeypatch):
    """A folder named like a prior of the package does not take its place."""
    monkeypatch.chdir(tmp_path)
    os.rename(photos, tmp_path / "photo-gaussian")
    done = undiffuse("sample", "photo-gaussian", "--size", "8x8", "--n", 1, "--out", "o")
    assert done.code == 0 and "sha256" not in done.err
