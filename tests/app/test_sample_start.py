"""`undiffuse sample` from pictures: with noise added, brought back to their noise, and in between."""

import json

import numpy as np
import pytest
import torch

from tests.pictures import photograph
from tests.small import CLASSES, PHOTO, prior_of, stored
from undiffuse.app.priors import Opened
from undiffuse.app.sample.plan import plan, plan_with
from undiffuse.config import SampleConfig
from undiffuse.core.images import read, write
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.metrics.pixel import psnr
from undiffuse.priors import Gaussian
from undiffuse.registry import SAMPLERS


@pytest.fixture
def photos(tmp_path):
    """A prior, and two pictures of its size."""
    for i, name in enumerate(("a.png", "b.png")):
        write(photograph(8, 8).roll(3 * i, 2), tmp_path / name)
    return stored(tmp_path / "run" / "prior.safetensors", PHOTO)


def test_a_start_from_a_picture_has_the_moments_of_a_gaussian(tmp_path):
    """N(m, v), started at p with noise s: mean m + (p - m) r, deviation r s, r = sqrt(v / (v + s^2)).

    200 steps of second order leave 1e-3; the mean and deviation of 4,000 pictures of 12 values have floors of
    0.5 / sqrt(4000) = 0.008 a value, and 0.5 / sqrt(96000) = 0.0016.
    """
    m, v = 0.2, 0.25
    write(torch.full((3, 2, 2), 0.8), tmp_path / "p.png")
    picture = read(tmp_path / "p.png").pixels
    config = SampleConfig(prior="exact", start=tmp_path / "p.png", strength=0.4, n=4000, steps=200)
    made = plan_with(Opened(Gaussian(m, v), "exact"), config)
    members = list(range(4000))
    noise = made.noise(members)
    x = last(
        sample(made.step(members, noise, torch.device("cpu")), made.begin(members, noise), made.sigmas)
    ).x
    s = made.sigmas[0].item()
    r = (v / (v + s**2)) ** 0.5
    assert 0.5 < s < 3
    assert (x.mean(0) - (m + (picture - m) * r)).abs().max() < 4 * 0.008
    assert x.std(0).mean().item() == pytest.approx(r * s, abs=4 * 0.0016 + 1e-3)


def test_a_start_is_the_picture_and_noise(undiffuse, photos, tmp_path):
    done = undiffuse("sample", photos, "--start", tmp_path / "a.png", "--strength", 0.3, "--n", 2, "--steps", 4,
                     "--out", tmp_path / "o")  # fmt: skip
    assert done.code == 0
    sigmas = torch.tensor(json.loads((tmp_path / "o/sample.json").read_text())["sigmas"], dtype=torch.float64)
    assert sigmas[0] < 1 and len(sigmas) == 5
    prior, noise = prior_of(PHOTO), SeededNoise(image_seeds(0, ["sample/0", "sample/1"]))
    x = read(tmp_path / "a.png").pixels + sigmas[0].item() * noise(torch.empty(2, 3, 8, 8))
    expected = last(sample(SAMPLERS["dpmpp_2m"](prior.given(), noise), x, sigmas)).x.clamp(-1, 1)
    for i in range(2):
        assert (read(tmp_path / f"o/{i:05}.png").pixels - expected[i]).abs().max() <= 1.001 / 255
    write(photograph(8, 8).flip(2), tmp_path / "a.png")
    again = undiffuse("sample", photos, "--start", tmp_path / "a.png", "--strength", 0.3, "--n", 2, "--steps", 4,
                      "--out", tmp_path / "o")  # fmt: skip
    assert again.code == 2 and "other settings" in again.err


def test_the_level_of_a_strength(tmp_path):
    """The whole grid at 1; timesteps of the schedule's first tenth at 0.1."""
    file = stored(tmp_path / "c.safetensors", CLASSES)
    write(photograph(8, 8)[:1], tmp_path / "g.png")
    given = {"prior": str(file), "start": tmp_path / "g.png", "n": 1, "steps": 10}
    whole, tenth = (plan(SampleConfig(**given, grid="timesteps", strength=s)) for s in (1.0, 0.1))
    known = whole.opened.config.discrete().sigmas
    torch.testing.assert_close(tenth.sigmas[:-1].flip(0), known[9:100:10])
    plain = plan(SampleConfig(prior=str(file), steps=10, n=1))
    torch.testing.assert_close(plan(SampleConfig(**given, strength=1.0)).sigmas, plain.sigmas)
    assert plan(SampleConfig(**given, strength=0.01)).sigmas[0] < 0.02
    write(photograph(8, 8), tmp_path / "c.png")
    gaussian = {"prior": "photo-gaussian", "n": 1, "size": "8x8"}  # whose highest level is its own
    top = plan(SampleConfig(**gaussian)).sigmas[0]
    assert plan(SampleConfig(**gaussian, start=tmp_path / "c.png", strength=0.5)).sigmas[0] < top / 10


def test_a_picture_to_its_noise_and_back(undiffuse, photos, tmp_path):
    arguments = ["sample", photos, "--invert", tmp_path / "a.png", "--sampler", "ddim", "--steps", 100]
    done = undiffuse(*arguments, "--out", tmp_path / "o")
    assert done.code == 0 and "a.png, to noise and back: PSNR" in done.err
    picture, back = (read(path).pixels[None] for path in (tmp_path / "a.png", tmp_path / "o/00000.png"))
    told = float(done.err.split("PSNR ")[1].split(" dB")[0])
    assert told == pytest.approx(psnr(back, picture).item(), abs=0.006) and told > 30
    noise = np.load(tmp_path / "o/latents.npy")
    assert noise.shape == (1, 3, 8, 8) and 0.3 < noise.std() < 2
    again = undiffuse(*arguments, "--out", tmp_path / "o")
    assert again.code == 0 and "1 kept" in again.out and "PSNR" in again.err
    arguments = ["sample", photos, "--invert", tmp_path / "a.png", "--steps", 60]  # of second order
    assert "back: exact" in undiffuse(*arguments, "--out", tmp_path / "heun").err


def test_a_row_between_two_seeds(undiffuse, photos, tmp_path):
    done = undiffuse(
        "sample",
        photos,
        "--interpolate",
        "3,8",
        "--n",
        5,
        "--steps",
        3,
        "--batch",
        2,
        "--out",
        tmp_path / "o",
    )
    assert done.code == 0 and read(tmp_path / "o/grid.png").pixels.shape == (3, 10, 50)
    for seed, index in ((3, 0), (8, 4)):
        alone = tmp_path / str(seed)
        arguments = ["--seed", seed, "--n", 1, "--steps", 3, "--sampler", "heun"]
        assert undiffuse("sample", photos, *arguments, "--out", alone).code == 0
        found, expected = read(tmp_path / f"o/{index:05}.png").pixels, read(alone / "00000.png").pixels
        assert (found - expected).abs().max() <= 2.001 / 255
    more = undiffuse(
        "sample", photos, "--interpolate", "3,8", "--n", 6, "--steps", 3, "--out", tmp_path / "o"
    )
    assert more.code == 2 and "other settings" in more.err  # other shares of the way


def test_a_row_between_two_pictures(undiffuse, photos, tmp_path):
    ends = f"{tmp_path / 'a.png'},{tmp_path / 'b.png'}"
    done = undiffuse(
        "sample", photos, "--interpolate", ends, "--steps", 60, "--n", 3, "--out", tmp_path / "o"
    )
    assert done.code == 0 and done.err.count("to noise and back") == 2
    for name, index in (("a.png", 0), ("b.png", 2)):
        picture, back = (
            read(path).pixels[None] for path in (tmp_path / name, tmp_path / f"o/{index:05}.png")
        )
        assert psnr(back, picture) > 30


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--start", "a.png", "--invert", "a.png"], "--start with --invert"),
        (["--strength", "0.5"], "give it with --start"),
        (["--start", "a.png", "--strength", "0"], "strength"),
        (["--start", "none.png"], "none.png"),
        (["--start", "grey.png"], "1x8x8, and what is drawn 3x8x8"),
        (["--invert", "a.png", "--n", "2"], "leave out --n"),
        (["--invert", "a.png", "--sampler", "dpmpp_2m"], "does not go back"),
        (["--invert", "a.png", "--sampler", "ddim:eta=0.5"], "does not go back"),
        (["--interpolate", "1,2", "--sampler", "ancestral"], "adds noise of its own"),
        (["--interpolate", "1"], "two seeds such as 3,8"),
        (["--interpolate", "1,2", "--n", "1"], "give --n 8"),
        (["--interpolate", "1,2", "--seed", "0-7"], "leave them out"),
        (["--interpolate", "a.png,large.png"], "crop them to one size"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refused(undiffuse, photos, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    write(photograph(8, 8)[:1], tmp_path / "grey.png")
    write(photograph(16, 8), tmp_path / "large.png")
    done = undiffuse("sample", photos, "--out", "o", *arguments)
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_classes_one_at_a_time(undiffuse, tmp_path):
    file = stored(tmp_path / "c.safetensors", CLASSES)
    done = undiffuse("sample", file, "--interpolate", "1,2", "--out", tmp_path / "o")
    assert done.code == 2 and "give one of them with --label" in done.err
    done = undiffuse(
        "sample", file, "--interpolate", "1,2", "--label", "bag", "--steps", 3, "--out", tmp_path / "o"
    )
    assert done.code == 0


def test_between_two_pictures_of_a_class(undiffuse, tmp_path):
    """The ends are what each picture alone is drawn from, of the class asked for."""
    prior = stored(tmp_path / "p.safetensors", CLASSES)
    for i, name in enumerate(("a.png", "b.png")):
        write(photograph(8, 8)[:1].roll(3 * i, 2), tmp_path / name)

    def drawn(out, *given):
        done = undiffuse("sample", prior, "--steps", 4, "--label", "coat", "--out", tmp_path / out, *given)
        assert done.code == 0, done.err
        return [read(path).pixels for path in sorted((tmp_path / out).glob("0*.png"))]

    between = drawn("between", "--interpolate", f"{tmp_path / 'a.png'},{tmp_path / 'b.png'}", "--n", 3)
    for picture, name in ((between[0], "a.png"), (between[2], "b.png")):
        (alone,) = drawn(f"of_{name}", "--invert", tmp_path / name, "--n", 1)
        assert (picture - alone).abs().max() < 2.1 / 127.5  # a level of 255 at either end
