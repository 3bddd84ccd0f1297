"""`undiffuse sample --path`: the way from noise to the first pictures."""

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tests.small import CLASSES, PHOTO, stored
from undiffuse.app.sample.path import MOMENTS
from undiffuse.app.sample.plan import plan
from undiffuse.config import SampleConfig
from undiffuse.core.images import read
from undiffuse.core.loop import sample


@pytest.fixture
def photos(tmp_path):
    return stored(tmp_path / "run" / "prior.safetensors", PHOTO)


def states(config):
    made = plan(config)
    members = list(range(config.n))
    noise = made.noise(members)
    x = made.begin(members, noise)
    return list(sample(made.step(members, noise, torch.device("cpu")), x, made.sigmas))


def test_a_strip_from_noise_to_the_pictures(undiffuse, photos, tmp_path):
    out = tmp_path / "o"
    arguments = ["sample", photos, "--n", 3, "--steps", 16, "--path", "strip", "--out", out]
    assert undiffuse(*arguments, "--batch", 2).code == 0
    strip = read(out / "path.png").pixels
    assert strip.shape == (3, 3 * 10, MOMENTS * 10)
    walked = states(SampleConfig(prior=str(photos), n=3, steps=16))
    for picture in range(3):
        for moment in range(MOMENTS):
            state = walked[2 * moment]
            expected = (state.x[picture] / (1 + state.sigma**2).sqrt()).clamp(-1, 1)
            found = strip[:, 10 * picture : 10 * picture + 8, 10 * moment : 10 * moment + 8]
            # half a level of rounding, and half precision: 2^-11
            assert (found - expected).abs().max() <= 1.001 / 255 + 2**-11
        stored_picture = read(out / f"{picture:05}.png").pixels
        assert (found - stored_picture).abs().max() <= 2.001 / 255
    kept = (out / "00001.png").stat().st_mtime_ns, (out / "path.png").stat().st_mtime_ns
    again = undiffuse(*arguments)
    assert again.code == 0 and "3 kept" in again.out
    (out / "path.png").unlink()
    (out / "00002.png").unlink()
    again = undiffuse(*arguments)
    assert again.code == 0 and "1 drawn" in again.out and (out / "path.png").exists()
    assert (out / "00001.png").stat().st_mtime_ns == kept[0]  # drawn again for its way, and not written
    assert json.loads((out / "sample.json").read_text())["values"]["pictures"] == 4


def test_a_gif_of_grey_pictures(undiffuse, tmp_path):
    file = stored(tmp_path / "c.safetensors", CLASSES)
    done = undiffuse("sample", file, "--n", 9, "--steps", 6, "--path", "gif", "--out", tmp_path / "o")
    assert done.code == 0 and "path.gif" in done.err
    with Image.open(tmp_path / "o/path.gif") as film:
        assert film.n_frames == 7 and film.size == (30, 30)  # eight pictures, three a row
        film.seek(6)
        last = np.asarray(film.convert("L"), float)[:8, :8]
        assert film.info["duration"] == 2000
    picture = (read(tmp_path / "o/00000.png").pixels[0].numpy() + 1) * 127.5
    assert abs(last - picture).max() <= 2


def test_a_film_needs_its_package(undiffuse, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = undiffuse("sample", photos, "--path", "mp4", "--out", tmp_path / "o")
    assert done.code == 2 and "pip install imageio-ffmpeg" in done.err and not (tmp_path / "o").exists()


def test_a_film(undiffuse, photos, tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    done = undiffuse("sample", photos, "--n", 2, "--steps", 5, "--path", "mp4", "--out", tmp_path / "o")
    assert done.code == 0
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "o/path.mp4"))
    assert frames == 6 + 25 and seconds == pytest.approx(31 * 0.08, abs=0.1)
