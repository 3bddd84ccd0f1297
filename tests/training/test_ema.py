import pytest
import torch
from torch import nn

from undiffuse.training import EMA, PowerEMA
from undiffuse.training.ema import exponent


def module(value):
    m = nn.Linear(2, 2)
    with torch.no_grad():
        for p in m.parameters():
            p.fill_(value)
    return m


def weight(ema):
    return ema.module.weight[0, 0].item()


def test_half_life():
    ema = EMA(module(1.0), halflife_images=1000, warmup=0)
    target = module(0.0)
    for step in range(1, 11):
        ema.update(target, images_seen=100 * step, batch=100)
    assert weight(ema) == pytest.approx(0.5, rel=1e-5)  # ten updates in float32


@pytest.mark.parametrize("batch", [10, 100, 500])
def test_does_not_depend_on_the_batch(batch):
    ema = EMA(module(1.0), halflife_images=1000, warmup=0)
    for step in range(1, 2000 // batch + 1):
        ema.update(module(0.0), images_seen=batch * step, batch=batch)
    assert weight(ema) == pytest.approx(0.25, rel=1e-4)


def test_warm_up_forgets_the_start():
    ema = EMA(module(1.0), halflife_images=1e9, warmup=0.05)
    for step in range(1, 101):
        ema.update(module(0.0), images_seen=100 * step, batch=100)
    assert weight(ema) < 1e-6


@pytest.mark.parametrize("std", [0.05, 0.1, 0.15])
def test_power_profile_has_its_width(std):
    """The average of a ramp: the profile's centre of mass, (gamma + 1) / (gamma + 2) of the way."""
    ema = PowerEMA(module(0.0), std=std)
    steps = 4000
    for step in range(1, steps + 1):
        ema.update(module(step / steps), images_seen=step * 10, batch=10)
    gamma = exponent(std)
    assert weight(ema) == pytest.approx(
        (gamma + 1) / (gamma + 2), abs=1e-3
    )  # 4000 steps of a continuous profile
    assert ((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) ** 0.5 == pytest.approx(std, rel=1e-9)


def test_known_exponent():
    assert exponent(0.1) == pytest.approx(6.94, abs=0.01)  # Karras et al. 2024 use gamma = 6.94 for 10 %


def test_state_survives():
    a, b = EMA(module(1.0), halflife_images=10), EMA(module(5.0), halflife_images=10)
    b.load_state_dict(a.state_dict())
    assert weight(b) == 1


def test_bad_values():
    with pytest.raises(ValueError, match="half-life"):
        EMA(module(0.0), halflife_images=0)
    with pytest.raises(ValueError, match="relative width"):
        PowerEMA(module(0.0), std=0.5)
