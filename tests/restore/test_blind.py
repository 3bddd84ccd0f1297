import math

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.pictures import photograph
from undiffuse.core.images import read, to_bytes
from undiffuse.operators import kernels
from undiffuse.operators.build import build
from undiffuse.restore import BlurEstimate, estimate_blur
from undiffuse.restore.power import Power, fit, measure_power, photographs, shapes, transfer


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def drawn(side: int = 256, seed: int = 0) -> Tensor:
    """(1, side, side): a draw of power 1 / f^2 without content below a pixel's reach, as a sharp photograph has."""
    f = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None])
    x = torch.fft.irfft2(torch.fft.rfft2(randn(side, side, seed=seed)) / f.clamp(min=1 / side), (side, side))
    return (0.3 * x / x.std()).clamp(-1, 1)[None]


def blurred(x: Tensor, degrade: str, sigma: float, seed: int = 1) -> Tensor:
    return build(degrade, tuple(x.shape)).to(x.dtype)(x[None])[0] + sigma * randn(*x.shape, seed=seed)


def resized(x: Tensor, side: int) -> Tensor:
    return torch.nn.functional.interpolate(x[None], (side, side), mode="bicubic", antialias=True)[0]


@pytest.mark.parametrize("sigma", [0.01, 0.04])
def test_the_width_of_a_gaussian(sigma):
    found = estimate_blur(blurred(drawn(), "blur:gaussian,std=2", sigma), "gaussian")
    low, high = found.intervals["std"]
    assert found.certain, found.reason
    assert low < 2 < high and high - low < 1.4
    assert found.options["std"] == pytest.approx(2, rel=0.15)
    assert found.sigma_y == pytest.approx(sigma, rel=0.05)  # most cells hold nothing but noise
    assert build(found.degrade, (1, 64, 64)).in_shape == (1, 64, 64)
    assert max(value for _, value in found.curve) == 0


@pytest.mark.parametrize("diameter", [5.3, 8.4, 16])
def test_the_diameter_of_a_disk(diameter):
    found = estimate_blur(blurred(drawn(), f"blur:disk,taps={diameter}", 0.02), "disk")
    low, high = found.intervals["taps"]
    assert found.certain, found.reason
    assert low <= diameter <= high and high - low < 1
    assert found.options["taps"] == pytest.approx(diameter, abs=0.25)  # the step of the search
    assert found.sigma_y == pytest.approx(0.02, rel=0.1)
    assert build(found.degrade, (1, 64, 64)).in_shape == (1, 64, 64)


@pytest.mark.parametrize(("taps", "angle"), [(6, 30), (9, 100), (12, 30), (21, 30)])
def test_the_length_and_angle_of_a_motion(taps, angle):
    found = estimate_blur(blurred(drawn(), f"blur:motion,taps={taps},angle={angle}", 0.02), "motion")
    assert found.certain, found.reason
    assert abs(found.options["taps"] - taps) <= 1
    assert (found.options["angle"] - angle + 90) % 180 - 90 == pytest.approx(
        0, abs=2
    )  # 1 / taps is 3 degrees
    low, high = found.intervals["taps"]
    assert low <= taps <= high
    assert found.sigma_y == pytest.approx(0.02, rel=0.1)
    assert build(found.degrade, (1, 64, 64)).in_shape == (1, 64, 64)


@pytest.mark.parametrize(
    "degrade", ["blur:gaussian,std=2", "blur:disk,taps=8", "blur:motion,taps=12,angle=30"], ids=str
)
def test_the_kind_of_a_blur(degrade):
    y, kind = blurred(drawn(), degrade, 0.02), degrade[5:].split(",")[0]
    found = estimate_blur(y)
    assert found.certain and found.family == kind
    for family in ("gaussian", "disk", "motion"):
        asked = estimate_blur(y, family)
        if family == kind:
            assert asked == found
        else:
            assert asked.better == kind
            uncertain(asked, "explains the picture better")


@pytest.mark.parametrize(("taps", "angle"), [(6, 30), (8, 75)])
def test_a_photograph_moved_by_an_even_length(taps, angle):
    """The zeros of one length are not those of its neighbours: 5 and 7 are no better than none."""
    found = estimate_blur(blurred(photograph(384, 384), f"blur:motion,taps={taps},angle={angle}", 0.01))
    assert found.certain and found.family == "motion", found.reason
    assert found.options["taps"] == taps and found.options["angle"] == pytest.approx(angle, abs=1)


def test_a_motion_that_sharp_photographs_may_show_is_none():
    uncertain(estimate_blur(blurred(drawn(), "blur:motion,taps=3,angle=30", 0.02), "motion"), "no blur found")


def test_the_kind_of_a_photograph():
    """A photograph has directions: sharp, it is no motion, and out of focus it is a disk."""
    x = photograph(384, 384)
    uncertain(estimate_blur(x + 0.01 * randn(*x.shape)), "no blur found")
    found = estimate_blur(blurred(x, "blur:disk,taps=6.3", 0.01))
    low, high = found.intervals["taps"]
    assert found.certain and found.family == "disk" and low <= 6.3 <= high


def test_a_kind_that_is_likelier_but_not_certain_is_not_named():
    """Enlarged pictures have the spectrum of no blur: what one kind says of them is not sent on to another."""
    x = photograph(384, 384)
    large = resized(resized(x, 192), 384) + 0.005 * randn(*x.shape)
    for family in ("gaussian", "disk", "motion"):
        found = estimate_blur(large, family)
        assert found.better is None or estimate_blur(large, found.better).certain


@pytest.mark.parametrize("quality", [95, 80])
def test_a_jpeg_is_not_looked_at_where_its_rounding_has_emptied_it(tmp_path, quality):
    """With all frequencies a blur of 2.5 is a certain one of less than 1 at these qualities."""
    y = blurred(photograph(384, 384), "blur:gaussian,std=2.5", 0.01).clamp(-1, 1)
    Image.fromarray(to_bytes(y)).save(tmp_path / "old.jpg", quality=quality)
    picture = read(tmp_path / "old.jpg", measured=True)
    assert picture.jpeg is not None
    found = estimate_blur(picture.pixels, "gaussian", left=torch.from_numpy(picture.jpeg.left))
    low, high = found.intervals["std"]
    assert found.certain, found.reason
    assert low < 2.5 < high
    nothing = estimate_blur(picture.pixels, "gaussian", left=torch.zeros(8, 8))
    assert not nothing.certain and "JPEG" in nothing.reason


def test_a_colour_photograph_with_a_gap():
    x = photograph()
    y = blurred(x, "blur:gaussian,std=2", 0.04)
    mask = torch.ones(1, *x.shape[1:])
    mask[:, :20, :20] = 0
    found = estimate_blur(y * mask, "gaussian", sigma_y=0.04, mask=mask)
    low, high = found.intervals["std"]
    assert low < 2 < high
    assert found.sigma_y == pytest.approx(0.04, rel=0.05)  # it was given, to 5 %


def uncertain(found: BlurEstimate, reason: str) -> None:
    assert not found.certain and reason in found.reason


def test_a_sharp_picture_has_no_blur():
    sharp = estimate_blur(drawn() + 0.02 * randn(1, 256, 256), "gaussian")
    uncertain(sharp, "no blur found")
    assert sharp.intervals["std"][0] == 0 and sharp.intervals["std"][1] < 1.2
    focused = estimate_blur(drawn() + 0.02 * randn(1, 256, 256), "disk")
    uncertain(focused, "no blur found")
    assert focused.intervals["taps"][0] == 0
    moved = estimate_blur(drawn() + 0.02 * randn(1, 256, 256), "motion")
    uncertain(moved, "no blur found")
    assert moved.options["taps"] == 1


def test_it_says_when_it_cannot_tell():
    uncertain(estimate_blur(torch.full((3, 256, 256), 0.5), "gaussian"), "flat")
    uncertain(estimate_blur(torch.zeros(1, 100, 100), "motion"), "too few windows")
    uncertain(estimate_blur(0.2 * randn(1, 256, 256), "gaussian"), "cannot tell")
    uncertain(estimate_blur(0.2 * randn(1, 256, 256), "disk"), "cannot tell")
    uncertain(estimate_blur(0.2 * randn(1, 256, 256), "motion"), "cannot tell")
    noisy = estimate_blur(blurred(0.02 * drawn(), "blur:gaussian,std=3", 0.5), "gaussian")
    uncertain(noisy, "cannot tell")
    for family in ("disk", "motion"):
        uncertain(estimate_blur(blurred(drawn(), "blur:gaussian,std=3", 0.002), family), "a Gaussian blur")


def test_what_it_refuses():
    y = torch.zeros(1, 64, 64)
    with pytest.raises(ValueError, match="choose from gaussian, disk, motion"):
        estimate_blur(y, "box")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(1, 1, 64, 64\)"):
        estimate_blur(y[None], "gaussian")
    with pytest.raises(ValueError, match="NaN"):
        estimate_blur(y * math.nan, "gaussian")
    with pytest.raises(ValueError, match="at least 0"):
        estimate_blur(y, "gaussian", sigma_y=-0.1)


def power_of(x: Tensor, side: int = 64) -> Power:
    power = measure_power(x, torch.ones_like(x, dtype=torch.bool), side)
    assert power is not None
    return power


def test_the_power_of_white_noise_is_its_variance():
    power = power_of(0.3 * randn(512, 512))
    assert float(power.log_power.exp().mean()) == pytest.approx(0.09, rel=0.01)
    assert float(power.log_power.var()) == pytest.approx(power.chance, rel=0.15)  # 2000 correlated cells


def test_a_kernel_lets_through_what_it_does_to_a_photograph():
    x = drawn(512)
    kernel = kernels.motion(9, 0.0)
    plain, moved = power_of(x[0]), power_of(blurred(x, "blur:motion,taps=9,angle=0", 0.0)[0])
    measured = moved.log_power - plain.log_power
    error = measured - transfer(kernel, 64).flatten()[plain.cells].log()
    assert float(measured.std()) > 1  # the zeros are there,
    assert float(error.abs().median()) < 0.1  # and where they should be, filled by the taper


def test_the_fit_finds_a_spectrum_of_its_own_model():
    prior, power = photographs(), power_of(randn(128, 128))
    z = prior.mean + torch.linalg.cholesky(prior.covariance) @ randn(15).double()
    log_noise = -9.0
    clean = shapes(power) @ z
    made = Power(torch.logaddexp(clean, torch.tensor(log_noise).double()), power.cells, 64, 1000, power.told)
    found = fit(made, torch.ones(1, len(clean), dtype=torch.float64), (-8.0, 1.5), prior, 40)
    assert float(found.log_noise[0]) == pytest.approx(log_noise, abs=0.1)
