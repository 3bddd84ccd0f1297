"""The stationary Gaussian: its modes, its estimate from draws, its file, and what it does to a photograph."""

from importlib.resources import as_file, files

import numpy as np
import pytest
import torch
from PIL import Image

from tests.priors.test_exact import toy_stationary
from undiffuse.core.dct import dct2
from undiffuse.core.noise import SeededNoise
from undiffuse.priors import StationaryGaussian, estimate_stationary, photo_gaussian
from undiffuse.priors.stationary import LUMA


def dog() -> torch.Tensor:
    """(3, 256, 256): a crop of the package's test photograph, which the spectrum was not fitted to."""
    with as_file(files("undiffuse.assets") / "dog.jpg") as path, Image.open(path) as photo:
        pixels = np.asarray(photo.convert("RGB").crop((160, 160, 416, 416)), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1


def psnr(a, b):
    return -10 * ((a - b) / 2).square().mean().log10().item()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_modes_have_the_variance_of_the_spectrum(channels):
    """1000 draws: each of the modes' variances is known to 4.5 %, their mean ratio to 0.6 %."""
    prior = toy_stationary()
    x = prior.sample(SeededNoise(range(1000)), torch.zeros(1000, channels, 5, 8, dtype=torch.float64))
    x = x - prior.mean_image(channels)
    if channels == 3:
        x = torch.einsum("kc,bchw->bkhw", prior.colours, x)
    ratio = dct2(x).square().mean(0) / prior.spectrum(channels, 5, 8)
    assert ratio.mean().item() == pytest.approx(1, abs=0.025)
    assert ratio.min() > 0.8 and ratio.max() < 1.25


def test_spectrum_is_the_table_at_its_frequencies():
    prior = toy_stationary()
    f = prior.frequencies
    spectrum = prior.spectrum(3, 100, 64)
    expected = prior.power[:, 0] * (f[0] / (7 / 128)) ** 2  # a power law is kept
    torch.testing.assert_close(spectrum[:, 0, 7], expected, rtol=1e-12, atol=0)
    below = prior.spectrum(3, 2000, 1)[:, 1, 0]
    assert f[0] > 1 / 4000
    torch.testing.assert_close(below, expected * (7 / 128) ** 2 * 4000**2, rtol=1e-10, atol=0)


def test_transposes_with_the_image():
    prior, x = photo_gaussian(), dog()[None, :, :50, :80]
    level = torch.tensor(0.3)
    torch.testing.assert_close(prior(x.mT, level), prior(x, level).mT, rtol=1e-4, atol=1e-5)


def test_nothing_wraps_around():
    """A bright left edge leaves the right edge as it was."""
    prior = photo_gaussian()
    x = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    bright = x.clone()
    bright[..., :2] = 1
    change = (prior(bright, torch.tensor(0.2)) - prior(x, torch.tensor(0.2)))[0].abs().amax((0, 1))
    assert change[-1] < 0.01 * change[0]


def test_grey_is_the_luma_of_a_colour_draw():
    prior = photo_gaussian()
    like = torch.zeros(2000, 3, 4, 4, dtype=torch.float64)
    colour = prior.sample(SeededNoise(range(len(like))), like)
    luma = torch.einsum("c,bchw->bhw", torch.tensor(LUMA, dtype=torch.float64), colour)
    spectrum = prior.spectrum(1, 4, 4)[0]
    c = dct2(luma - prior.mean_image(1)[0, 0])
    assert (c.square().mean(0) / spectrum).mean().item() == pytest.approx(1, abs=0.04)  # floor 0.008
    assert (c.mean(0) / spectrum.sqrt()).abs().max() < 0.1  # floor 0.022


def test_estimate_finds_the_prior_of_draws():
    """40 draws of three sizes; the thinnest ring used here has some hundred modes: 15 %."""
    prior = toy_stationary()
    shapes = [(96, 64), (64, 96), (80, 80)]
    images = [
        prior.sample(SeededNoise([i]), torch.zeros(1, 3, *shapes[i % 3], dtype=torch.float64))[0]
        for i in range(40)
    ]
    found = estimate_stationary(images, knots=12, lowest=1 / 64)
    assert found.exponent == pytest.approx(2, abs=0.05)
    aligned = (found.colours @ prior.colours.T).abs()
    torch.testing.assert_close(aligned, torch.eye(3, dtype=torch.float64), rtol=0, atol=0.1)
    upper = (slice(None), slice(20, 40), slice(20, 40))
    ratio = found.spectrum(3, 80, 80)[upper] / prior.spectrum(3, 80, 80)[upper]
    assert ratio.min() > 0.85 and ratio.max() < 1.15
    assert found.meta["images"] == "40"


def test_file_round_trip(tmp_path):
    prior = photo_gaussian()
    prior.save(tmp_path / "copy.safetensors")
    copy = StationaryGaussian.load(tmp_path / "copy.safetensors")
    assert copy.meta == prior.meta
    assert torch.equal(copy.spectrum(3, 9, 7), prior.spectrum(3, 9, 7))


def test_file_of_another_kind(tmp_path):
    (tmp_path / "junk").write_bytes(b"not a tensor file")
    with pytest.raises(ValueError, match="not a safetensors file"):
        StationaryGaussian.load(tmp_path / "junk")
    from safetensors.torch import save_file

    save_file({"power": torch.ones(3, 4)}, tmp_path / "other")
    with pytest.raises(ValueError, match="has no colours, frequencies, mean, mean_variance"):
        StationaryGaussian.load(tmp_path / "other")
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ValueError, match=f"'{path}' cannot be read"):
            StationaryGaussian.load(path)


def test_photo_gaussian_is_what_it_says():
    prior = photo_gaussian()
    assert prior.meta["licence"] == f"statistics of {prior.meta['images']} photographs"
    assert prior.exponent == pytest.approx(float(prior.meta["exponent"]), abs=5e-4)
    assert 2 < prior.exponent < 2.6  # photographs: near 2, a little steeper


@pytest.mark.parametrize("colour", [True, False])
def test_denoises_a_photograph_it_has_not_seen(colour):
    """Noise of 25/255, 20.2 dB: a smooth picture, and nothing fitted to it. What is left is 8 dB lower."""
    x = dog()[None] if colour else torch.einsum("c,chw->hw", torch.tensor(LUMA), dog())[None, None]
    sigma = 2 * 25 / 255
    noisy = x + sigma * SeededNoise([0])(x)
    assert psnr(photo_gaussian()(noisy, torch.tensor(sigma)), x) > psnr(noisy, x) + 8


def test_sigma_max_grows_with_the_image():
    prior = photo_gaussian()
    small, large = prior.sigma_max((3, 64, 64)), prior.sigma_max((3, 512, 512))
    assert large > 4 * small
    assert prior.sigma_max((3, 64, 64), ratio=60) == pytest.approx(2 * small)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frequencies": torch.tensor([0.0, 0.1])}, "leave out 0"),
        ({"frequencies": torch.tensor([0.2, 0.1])}, "sort them"),
        ({"power": torch.zeros(3, 2)}, "must be positive"),
        ({"power": torch.ones(2, 2)}, "expected"),
        ({"colours": torch.ones(3, 3)}, "orthonormal"),
    ],
)
def test_refuses(change, message):
    good = {
        "frequencies": torch.tensor([0.1, 0.2]),
        "power": torch.ones(3, 2),
        "colours": torch.eye(3),
        "mean": torch.zeros(3),
        "mean_variance": torch.ones(3),
    }
    StationaryGaussian(**good)
    with pytest.raises(ValueError, match=message):
        StationaryGaussian(**(good | change))
