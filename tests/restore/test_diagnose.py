import math

import pytest
import torch
from torch import Tensor

from undiffuse.restore import diagnose

CHOICE = 0.08  # estimate_sigma takes the smoothest patches, which have a little less noise


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ramp(low: float = 0.1, high: float = 0.9, side: int = 192) -> Tensor:
    """(3, side, side) in [-1, 1]: a slope from `low` to `high` of [0, 1]."""
    return (2 * torch.linspace(low, high, side) - 1).expand(3, side, side).contiguous()


def test_white_noise_alone_is_no_finding():
    found = [
        diagnose(ramp() + sigma * randn(3, 192, 192, seed=k)) for k, sigma in enumerate((0.02, 0.05, 0.2))
    ]
    assert [line for d in found for line in d.lines()] == []
    assert [d.sigma for d in found] == pytest.approx([0.02, 0.05, 0.2], rel=CHOICE)
    assert all(d.effective == d.sigma and d.clipped == 0 and d.step == 0 for d in found)


@pytest.mark.parametrize("quantum", [0.0, 2 / 65535])
def test_eight_bits_in_a_finer_file(quantum):
    y = ((ramp() + 0.05 * randn(3, 192, 192) + 1) / 2 * 255).round() / 255 * 2 - 1
    found = diagnose(y, quantum=quantum)
    assert found.step == pytest.approx(2 / 255, rel=1e-4)  # float32 values
    assert found.rounding == pytest.approx(2 / 255 / math.sqrt(12), rel=1e-4)
    assert any("steps of 1/255" in line and ("floats" in line or "16 bits" in line) for line in found.lines())


def test_a_file_that_is_as_fine_as_it_says_is_no_finding():
    y = ((ramp() + 0.05 * randn(3, 192, 192) + 1) / 2 * 255).round() / 255 * 2 - 1
    assert diagnose(y, quantum=2 / 255).lines() == []
    sixteen = ((ramp() + 0.05 * randn(3, 192, 192) + 1) / 2 * 65535).round() / 65535 * 2 - 1
    assert diagnose(sixteen, quantum=2 / 65535).lines() == []


def test_clipping_lowers_the_noise_and_moves_the_mean():
    sigma = 0.2
    x = ramp(0.3, 1.0)
    y = (x + sigma * randn(3, 192, 192)).clamp(max=1)
    found = diagnose(y)
    near = x > 1 - 1.645 * sigma
    assert found.white > 0 and found.black == 0
    assert found.sigma == pytest.approx(sigma, rel=CHOICE)  # not lowered by what is clipped
    assert found.clipped == pytest.approx(float(near.double().mean()), rel=0.1)  # the local mean is noisy
    assert found.bias == pytest.approx(float((y - x)[near].mean()), rel=0.15)
    spread = torch.stack([(y - x)[..., k : k + 8].var() for k in range(0, 192, 8)]).mean().sqrt()
    assert found.effective == pytest.approx(float(spread), rel=CHOICE)
    assert any("% at white" in line and "one-sided" in line for line in found.lines())


def test_a_dark_end_that_is_not_black_and_one_channel_alone():
    y = ramp(0.1, 0.9) + 0.1 * randn(3, 192, 192)
    y[1] = y[1].clamp(min=-0.7)
    found = diagnose(y)
    assert found.white == 0 and 0.01 < found.black < 0.2
    assert found.bias > 0


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_shot_noise_rises_and_noise_before_a_gamma_falls(sigma):
    u = (ramp() + 1) / 2
    shot = diagnose(2 * (u + sigma / 2 * (2 * u).sqrt() * randn(*u.shape)) - 1)
    assert shot.trend is not None and shot.trend.clear and shot.trend.ratio > 1.5
    dark, _, bright = shot.trend.noise
    assert (dark, bright) == pytest.approx(
        [sigma * math.sqrt(b + 1) for b in (shot.trend.brightness[0], shot.trend.brightness[2])],
        rel=0.25,  # a straight line in log variance against a logarithm
    )
    assert any("rises with brightness" in line for line in shot.lines())
    bent = diagnose(2 * (u**2.2 + sigma / 10 * randn(*u.shape)).clamp(min=0) ** (1 / 2.2) - 1)
    assert bent.trend is not None and bent.trend.clear and bent.trend.ratio < 0.6
    assert any("falls with brightness" in line for line in bent.lines())
    effective = float((sigma**2 * 2 * u).mean().sqrt())
    assert shot.effective == pytest.approx(effective, rel=0.1)


def test_gaps_are_left_out():
    y = ramp() + 0.05 * randn(3, 192, 192)
    mask = torch.ones(1, 192, 192)
    mask[:, 60:100, 60:100] = 0
    found = diagnose(y * mask, support=mask)
    assert found.lines() == [] and found.sigma == pytest.approx(0.05, rel=CHOICE)


def test_a_given_level_is_kept_and_flat_pictures_say_nothing():
    assert diagnose(ramp() + 0.05 * randn(3, 192, 192), sigma=0.07).sigma == 0.07
    assert diagnose(torch.full((3, 64, 64), 0.5)).lines() == []
    drawing = (torch.arange(64) % 16 < 8).float().expand(1, 64, 64) * 2 - 1
    assert diagnose(drawing, quantum=2 / 255).lines() == []


def test_no_picture():
    with pytest.raises(ValueError, match="shape"):
        diagnose(torch.zeros(100))
