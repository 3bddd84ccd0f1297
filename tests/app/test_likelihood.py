"""Bits per dimension from the command line: a closed form, classes, the variational bound, refusals."""

import json
import math

import pytest
import torch

from tests.pictures import photograph
from tests.small import CLASSES, PHOTO, changed, prior_of, stored
from undiffuse.analysis import dequantised
from undiffuse.app.events import Done
from undiffuse.app.likelihood import run
from undiffuse.app.priors import levels, open_prior
from undiffuse.app.sample.plan import HIGHEST
from undiffuse.config.compare import LikelihoodConfig
from undiffuse.core.images import read, write
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.data.transforms import signed
from undiffuse.training import bits_per_dimension


def measured(**given):
    return next(event.result for event in run(LikelihoodConfig(**given)) if isinstance(event, Done))


def pictures(folder, count, size, channels=3):
    """Parts of a photograph, as files and as (count, C, size, size) uint8."""
    folder.mkdir(parents=True)
    whole = photograph(count * size, size)[:channels]
    found = []
    for i, part in enumerate(whole.split(size, 1)):
        write(part, folder / f"{i}.png")
        found.append(((read(folder / f"{i}.png").pixels + 1) * 127.5).round().to(torch.uint8)[:channels])
    return torch.stack(found)


@pytest.mark.parametrize("way", ["uniform", "unit", "normal"])
def test_a_gaussian_against_its_closed_form(tmp_path, way):
    """Picture by picture, with the exact trace: within 0.01 bits."""
    values = pictures(tmp_path / "test", 2, 2)
    found = measured(
        prior="photo-gaussian", data=str(tmp_path / "test"), size="2x2", steps=100, dequantise=way
    )
    opened = open_prior("photo-gaussian")
    low = levels(opened, (3, 2, 2), 101, HIGHEST)[-2].item()
    noise = SeededNoise(image_seeds(0, [f"likelihood/{i}" for i in range(2)]))
    made = dequantised(values, way, noise, low)
    exact = (made.log_q - opened.denoise.log_prob(made.x.double(), low)) / (12 * math.log(2))
    assert list(found.names) == [f"{i}.png" for i in range(2)] and found.probes is None
    assert list(found.bits) == pytest.approx(exact.tolist(), abs=0.01)
    assert found.quadrature < 0.01


def test_the_interval_is_students(tmp_path):
    """Of two pictures the quantile is 12.7062, six times that of the normal distribution."""
    pictures(tmp_path / "test", 2, 2)
    found = measured(prior="photo-gaussian", data=str(tmp_path / "test"), size="2x2", steps=4)
    half = 12.7062 * abs(found.bits[0] - found.bits[1]) / 2
    said = float(found.lines()[0].split(" +- ")[1].split()[0])
    assert said == pytest.approx(half, rel=1e-4, abs=1e-4)


def test_pictures_do_not_depend_on_their_batch_and_are_written_down(undiffuse, tmp_path):
    pictures(tmp_path / "test", 3, 8)
    file = stored(tmp_path / "p.safetensors", PHOTO)
    numbers = []
    for batch in (3, 2):
        out = tmp_path / f"o/{batch}.json"
        arguments = [
            "--data",
            tmp_path / "test",
            "--steps",
            10,
            "--probes",
            2,
            "--batch",
            batch,
            "--out",
            out,
        ]
        done = undiffuse("likelihood", file, *arguments)
        assert done.code == 0 and "bits per dimension: 3 pictures, uniform" in done.out
        record = json.loads(out.read_text())
        numbers.append([record["pictures"][f"{i}.png"] for i in range(3)])
        assert record["mean"] == pytest.approx(sum(numbers[-1]) / 3) and record["probes"] > 0
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)  # sums of float32 over other batches


def test_classes_come_from_the_data_or_from_the_label(undiffuse, tmp_path):
    file = stored(tmp_path / "p.safetensors", CLASSES)
    for name in ("a", "b"):
        pictures(tmp_path / "test" / name, 1, 8)
    given = dict(prior=str(file), data=str(tmp_path / "test"), steps=10, trace="hutchinson")
    own = measured(**given, source="folder:classes=true")
    each = [measured(**given, label=str(label)).bits for label in range(2)]
    assert own.bits == pytest.approx((each[0][0], each[1][1]), rel=1e-5)
    assert each[0][1] != pytest.approx(each[1][1], rel=1e-4)
    done = undiffuse("likelihood", file, "--data", tmp_path / "test")
    assert done.code == 2 and "give --label" in done.err


def test_classes_that_are_numbered_otherwise_are_refused(undiffuse, tmp_path):
    file = stored(tmp_path / "p.safetensors", CLASSES)
    for name in ("ankle boot", "coat"):  # bag, number 1, is missing
        pictures(tmp_path / "test" / name, 1, 8)
    given = ("likelihood", file, "--data", tmp_path / "test", "--source", "folder:classes=true", "--steps", 2)
    done = undiffuse(*given)
    assert done.code == 2 and "class coat is number 1 of" in done.err and "and 2 of the prior" in done.err
    assert undiffuse(*given, "--label", "coat").code == 0


@pytest.mark.parametrize("source", ["folder:classes=true", "folder:list_file=list.txt"])
def test_a_class_too_many_is_none(undiffuse, tmp_path, monkeypatch, source):
    """The number after the last class is the network's own for pictures of none."""
    monkeypatch.chdir(tmp_path)
    file = stored(tmp_path / "p.safetensors", CLASSES)
    for name in ("ankle boot", "bag", "coat", "dress"):
        pictures(tmp_path / "test" / name, 1, 8)
    names = sorted(p.relative_to(tmp_path / "test").as_posix() for p in (tmp_path / "test").rglob("*.png"))
    (tmp_path / "list.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(names)))
    done = undiffuse("likelihood", file, "--data", "test", "--source", source, "--steps", 2)
    assert done.code == 2 and ("has 4 classes" in done.err or "is of class 3" in done.err)


def test_a_folder_is_no_output_file(undiffuse, tmp_path):
    pictures(tmp_path / "test", 1, 8)
    file = stored(tmp_path / "p.safetensors", PHOTO)
    done = undiffuse("likelihood", file, "--data", tmp_path / "test", "--steps", 2, "--out", tmp_path)
    assert done.code == 2 and "is a folder; name a file" in done.err


def test_the_variational_bound_is_that_of_training(tmp_path):
    config = changed(
        CLASSES, network={"learned_variance": True, "num_classes": None, "null_class": False},
        num_classes=None, null_class=False, classes=None, schedule="cosine", timesteps=12,
    )  # fmt: skip
    file = stored(tmp_path / "p.safetensors", config)
    values = pictures(tmp_path / "test", 2, 8, 1)
    found = measured(prior=str(file), data=str(tmp_path / "test"), steps=4, bound=True, trace="hutchinson")
    noise = SeededNoise(image_seeds(0, ["likelihood/0", "likelihood/1"]))
    clean = signed(values)
    noise(clean), noise(clean)  # dequantisation, and one probe
    exact = bits_per_dimension(prior_of(config), clean, config.discrete(), noise)
    assert found.bounds == pytest.approx(exact.tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bound"], "predicts no variance"),
        (["--data", "nowhere"], "nowhere"),
        (["--source", "folders"], "did you mean 'folder'"),
        (["--dequantise", "some"], "dequantise"),
        (["--steps", "1"], "steps"),
        (["--trace", "exact", "--probes", "3"], "--probes 3 with --trace exact"),
        (["--label", "3"], "no classes"),
        (["--size", "16x16"], "would be enlarged, 8x8 to 16x16"),
    ],
)
def test_refused(undiffuse, tmp_path, arguments, said):
    pictures(tmp_path / "test", 1, 8)
    file = stored(tmp_path / "p.safetensors", PHOTO)
    done = undiffuse(
        "likelihood", file, "--data", tmp_path / "test", *arguments, "--out", tmp_path / "o/x.json"
    )
    assert done.code == 2 and said in done.err and done.err.count("error:") == 1
    assert not (tmp_path / "o").exists()


def test_floats_are_refused(undiffuse, tmp_path):
    (tmp_path / "test").mkdir()
    write(photograph(8, 8), tmp_path / "test" / "a.npy")
    file = stored(tmp_path / "p.safetensors", PHOTO)
    done = undiffuse("likelihood", file, "--data", tmp_path / "test")
    assert done.code == 2 and "8-bit pictures" in done.err
