"""Samplers compared: the same noise, distances that a closed form knows, presets that hold on other noise."""

import csv
import json

import pytest
import torch

from tests.small import CLASSES, PHOTO, changed, stored
from undiffuse.app.compare import run
from undiffuse.app.compare.draw import distance
from undiffuse.app.events import Done
from undiffuse.app.sample.plan import plan
from undiffuse.app.sample.preset import read_presets
from undiffuse.config import SampleConfig
from undiffuse.config.compare import CompareConfig, split_sampler
from undiffuse.core.images import read, write
from undiffuse.priors import photo_gaussian


def compared(**given):
    config = CompareConfig(**given)
    return next(event.result for event in run(config) if isinstance(event, Done))


def exact_end(n, shape, seed=0):
    """The flow of a Gaussian takes each mode to sqrt(S / (S + sigma^2)) of where it started."""
    made = plan(SampleConfig(prior="photo-gaussian", n=n, size=f"{shape[1]}x{shape[2]}", seed=seed))
    prior, top = photo_gaussian(), made.sigmas[0].item()
    x = top * made.noise(list(range(n)))(torch.empty(n, *shape)).double()
    S = prior.spectrum(*shape)
    modes = prior.vt(x - prior.mean_image(shape[0])) * (S / (S + top**2)).sqrt()
    return prior.mean_image(shape[0]) + prior.v(modes)


def test_distances_are_those_to_the_exact_flow(tmp_path):
    found = compared(
        prior="photo-gaussian",
        size="8x8",
        n=3,
        fine=400,
        out=tmp_path,
        samplers=("heun:40", "ddim:20", "ddpm@5:grid=karras"),
    )
    exact = exact_end(3, (3, 8, 8))
    assert found.fine is not None
    off = distance(found.fine.x, exact)
    # A hundredth of a grey level; the error that half as many steps tell is right to a factor of 2, with 1e-5 for the
    # rounding of float32 in pictures that start at a sigma of 104.
    assert off < 4e-5 and off / 2 - 1e-5 < found.fine.error < 2 * off + 1e-5
    heun, ddim, ddpm = found.rows
    for row, name, steps in ((heun, "heun", 40), (ddim, "ddim", 20)):
        made = plan(SampleConfig(prior="photo-gaussian", size="8x8", n=3, sampler=name, steps=steps))
        assert row.sigmas == tuple(made.sigmas.tolist())
    assert heun.distance < ddim.distance and heun.calls == 79 and ddim.calls == 20
    assert not ddpm.deterministic and ddpm.distance is None
    rows = list(csv.DictReader((tmp_path / "compare.csv").open()))
    assert [row["label"] for row in rows] == ["heun:40", "ddim:20", "ddpm@5:grid=karras"]
    assert float(rows[1]["distance"]) == ddim.distance and rows[2]["distance"] == ""
    record = json.loads((tmp_path / "compare.json").read_text())
    assert record["fine"]["error"] == found.fine.error and record["samplers"][1]["calls"] == 20
    picture = read(tmp_path / "compare.png").pixels
    assert picture.shape[1] > 4 * 96 and picture.shape[2] > 3 * 96  # three samplers below the fine solution


def test_the_noise_is_that_of_sample(undiffuse, tmp_path):
    """Of the same sampler the same pictures, and the same distance whatever the batch."""
    file = stored(tmp_path / "p.safetensors", CLASSES)
    arguments = ["--samplers", "dpmpp:6", "--n", 4, "--fine", 20, "--guidance", 2]
    for name, batch in (("a", 4), ("b", 3)):
        done = undiffuse("compare", file, *arguments, "--out", tmp_path / name, "--batch", batch)
        assert done.code == 0 and "dpmpp:6" in done.out
    a, b = (json.loads((tmp_path / name / "compare.json").read_text())["samplers"][0] for name in "ab")
    assert a["distance"] == pytest.approx(b["distance"], rel=1e-3)  # sums of float32 over other batches
    assert a["calls"] == b["calls"] == 12  # guidance asks twice


def test_a_preset_is_better_on_noise_that_it_was_not_chosen_on(undiffuse, tmp_path):
    """And `sample` draws with it what the comparison drew."""
    given = dict(prior="photo-gaussian", size="8x8", n=2, fine=100, presets=(5,), rounds=3)
    found = compared(**given, samplers=("dpmpp:5",), out=tmp_path)
    plain, chosen = found.rows
    assert chosen.label == "preset@5" and chosen.calls <= 5
    assert chosen.distance < 0.8 * plain.distance  # the first round alone takes a fifth off
    again = compared(**{**given, "presets": (), "seed": 9}, samplers=("dpmpp:5",), out=tmp_path / "again")
    file = tmp_path / "samplers.yaml"
    made = plan(SampleConfig(prior="photo-gaussian", size="8x8", n=2, seed=9, preset=file))
    assert made.sigmas.tolist() == pytest.approx(list(chosen.sigmas))
    from undiffuse.app.compare.draw import draw

    steps = draw(made, [0, 1], torch.device("cpu"), "")
    drawn = None
    while drawn is None:
        try:
            next(steps)
        except StopIteration as stop:
            drawn = stop.value
    assert distance(drawn.x, again.fine.x) < again.rows[0].distance
    done = undiffuse(
        "sample", "photo-gaussian", "--size", "8x8", "--preset", file, "--n", 1, "--out", tmp_path / "s"
    )
    assert done.code == 0
    record = json.loads((tmp_path / "s" / "sample.json").read_text())
    assert record["settings"]["sampler"] == chosen.sampler and record["settings"]["steps"] == chosen.steps
    chosen_by = read_presets(file)[0].chosen_by
    assert chosen_by.pictures == 4 and chosen_by.command == (
        f"undiffuse compare photo-gaussian --samplers dpmpp:5 --n 2 --fine 100 --presets 5 --rounds 3 --out {tmp_path} "
        "--size 8x8"
    )


def test_guided_calls_are_counted_twice_and_that_is_said(undiffuse, tmp_path):
    file = stored(tmp_path / "p.safetensors", CLASSES)
    given = ["compare", file, "--samplers", "ddim:3", "--presets", 4, "--n", 1, "--fine", 4, "--rounds", 1]
    for guidance, each in ((1, 1), (2, 2)):
        done = undiffuse(*given, "--guidance", guidance, "--out", tmp_path / "o")
        rows = {row["label"]: row for row in csv.DictReader((tmp_path / "o/compare.csv").open())}
        assert done.code == 0 and float(rows["ddim:3"]["calls"]) == 3 * each
        heun = rows["preset@4"]["sampler"] == "heun"  # of an even number of calls it takes one less
        assert float(rows["preset@4"]["calls"]) == (4 - heun) * each
        assert ("4 calls, 8 with guidance: " in done.err) == (each == 2)
        assert ("each estimate is two calls" in done.out) == (each == 2)


def test_frechet_distances(undiffuse, tmp_path):
    file = stored(tmp_path / "p.safetensors", PHOTO)
    assert (
        undiffuse("sample", file, "--n", 24, "--steps", 2, "--seed", 5, "--out", tmp_path / "there").code == 0
    )
    arguments = [
        "--samplers",
        "dpmpp:2,ddim:2",
        "--n",
        24,
        "--fine",
        0,
        "--fid",
        tmp_path / "there",
        "--features",
        "pixels:2",
    ]
    done = undiffuse("compare", file, *arguments, "--out", tmp_path / "o")
    assert done.code == 0 and "Frechet" in done.out
    same, _ = json.loads((tmp_path / "o" / "compare.json").read_text())["samplers"]
    assert same["frechet"] > 0 and same["distance"] is None
    done = undiffuse(
        "evaluate",
        tmp_path / "o/fid/0.npz",
        "--reference",
        tmp_path / "there",
        "--features",
        "pixels:2",
        "--out",
        tmp_path / "e",
    )
    assert done.code == 0
    result = json.loads((tmp_path / "e" / "result.json").read_text())
    assert f"{same['frechet']:.6g}" in json.dumps(result) or same["frechet"] == pytest.approx(_fd(result))


def _fd(tree):
    """The number named fd, wherever it stands."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == "fd":
                return value
            if (found := _fd(value)) is not None:
                return found
    return None


def test_a_prior_of_super_resolution_is_refused(undiffuse, tmp_path):
    config = changed(PHOTO, {"in_channels": 7}, low_res="sr2")
    done = undiffuse("compare", stored(tmp_path / "p.safetensors", config), "--samplers", "ddim:2")
    assert done.code == 2 and "conditioned on a picture" in done.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ddim:50", ("ddim", None, 50)),
        ("ddim@50", ("ddim", None, 50)),
        ("ddim@50:eta=1", ("ddim:eta=1", None, 50)),
        ("ddim:0.5:50", ("ddim:0.5", None, 50)),
        ("ddim:eta=1,grid=leading:50", ("ddim:eta=1", "leading", 50)),
        ("ddpm:grid=linspace:100", ("ddpm", "linspace", 100)),
    ],
)
def test_terms(text, expected):
    assert split_sampler(text) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--samplers", "ddim"], "expected NAME:STEPS"),
        (["--samplers", "ddim:eta=1"], "expected NAME:STEPS"),
        (["--samplers", "ddim:0"], "expected NAME:STEPS"),
        (["--samplers", "ddimm:5"], "did you mean 'ddim'"),
        (["--samplers", "ddim:eta=2:5"], "eta"),
        (["--samplers", "ddim:grid=karas:5"], "grid"),
        (["--samplers", "ddpm:1001"], "1 to 1000"),
        (["--presets", "5", "--fine", "0"], "fine solution"),
        (["--presets", "five"], "--presets five: expected a whole number"),
        (["--fine", "1"], "fine solution of 1 step"),
        (["--fid", "nowhere"], "nowhere"),
        (["--fid", "there", "--n", "1"], "1 picture with --fid, which takes 2 or more"),
        (["--fid", "there", "--features", "pixels:400"], "expected pixels:1 to pixels:64"),
        (["--fid", "there", "--features", "pca:3"], "pca:3 needs more than 3 pictures of reference, not 2"),
        (["--features", "pixels:4"], "are of --fid REFERENCE"),
        (["--weights", "a.pth"], "are of --fid REFERENCE"),
    ],
)
def test_refused_before_anything_is_drawn(undiffuse, tmp_path, monkeypatch, arguments, said):
    file = stored(tmp_path / "p.safetensors", CLASSES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    for name in ("0.png", "1.png"):
        write(torch.zeros(3, 8, 8), tmp_path / "there" / name)
    done = undiffuse("compare", file, *arguments, "--out", tmp_path / "o")
    assert done.code == 2 and said in done.err and done.err.count("error:") == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "7"], "presets of 5 calls"),
        (["--sampler", "ddim"], "--sampler with --preset"),
        (["--grid", "karras"], "--grid with --preset"),
    ],
)
def test_presets_are_refused_where_they_do_not_hold(undiffuse, tmp_path, arguments, said):
    compared(
        prior="photo-gaussian",
        size="4x4",
        n=1,
        fine=4,
        presets=(5,),
        rounds=1,
        samplers=("ddim:1",),
        out=tmp_path,
    )
    given = ["--preset", tmp_path / "samplers.yaml", "--size", "4x4", "--n", 1, "--out", tmp_path / "s"]
    done = undiffuse("sample", "photo-gaussian", *given, *arguments)
    assert done.code == 2 and said in done.err
    file = stored(tmp_path / "p.safetensors", PHOTO)
    done = undiffuse("sample", file, "--preset", tmp_path / "samplers.yaml")
    assert done.code == 2 and "holds nothing for the prior" in done.err
