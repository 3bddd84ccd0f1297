"""White noise scores white, coloured noise does not, both as closed forms say."""

import math

import pytest
import torch

from undiffuse.analysis.whiteness import NORMAL95, joined, mean, spectra, whiteness
from undiffuse.core.dct import dct2, idct2
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics.spectrum import bins

SHAPE = (3, 24, 32)


def white(n=64, shape=SHAPE, seed=0):
    return SeededNoise(range(seed, seed + n))(torch.empty(n, *shape, dtype=torch.float64))


def scored(e):
    return whiteness(spectra(e))


def test_white_noise_is_within_its_range():
    """Every bin, both neighbours: 5 deviations, which one run in a million exceeds."""
    found = scored(white())
    assert ((found.relative - 1).abs() < 5 * found.relative_deviation).all()
    for value, limit in zip(found.neighbours, found.neighbours_limit, strict=True):
        assert abs(value) < 5 / NORMAL95 * limit
    assert found.flatness > 1 - 4 * (len(found.relative) - 1) / (64 * 3 * bins(24, 32)[1].sum())
    assert found.white


def test_deviations_are_those_of_many_white_images():
    """Of 4000 single images: a deviation is then known to 1 / sqrt(8000) = 1.1 %, 5 of these are 6 %."""
    found = spectra(white(4000, (1, 16, 16)))
    assert found.shares.mean(0).numpy() == pytest.approx(1, abs=0.06)
    single = whiteness(spectra(white(1, (1, 16, 16))))
    # Sums of few squares have heavy tails: bins of 2 coefficients know their deviation to 2 %.
    assert found.shares.std(0).numpy() == pytest.approx(single.relative_deviation.numpy(), rel=0.1)
    limits = torch.tensor(single.neighbours_limit, dtype=torch.float64) / NORMAL95
    assert found.neighbours.std(0).numpy() == pytest.approx(limits.numpy(), rel=0.06)


def test_one_in_twenty_white_sets_is_beyond_the_limit_of_the_spread():
    """400 sets of 16: the expectation is 1 exactly, its deviation sqrt(2 / 5 / 400); 5 % of 400 is 20 +- 4.4."""
    sets = [scored(white(16, (1, 16, 16), seed=16 * k)) for k in range(400)]
    freedom = len(sets[0].relative) - 1
    spread = torch.tensor([found.spread for found in sets])
    assert spread.mean().item() == pytest.approx(1, abs=4 * math.sqrt(2 / freedom / 400))
    beyond = (spread > sets[0].spread_limit).sum().item()
    assert (
        7 <= beyond <= 40
    )  # the tail is a little heavier than chi-squared for the few coefficients of low bins


def test_lowpassed_noise_is_not_white():
    """Sums of 2 x 2: neighbours correlate by 1/2. 64 x 1280 pixels, each correlated with 9: 5 deviations."""
    n = white(64, (1, 33, 41))
    found = scored(n[..., 1:, 1:] + n[..., :-1, 1:] + n[..., 1:, :-1] + n[..., :-1, :-1])
    assert not found.white and found.spread > 100
    assert found.neighbours == pytest.approx((0.5, 0.5), abs=5 / math.sqrt(64 * 1280 / 9))


def test_power_of_lowpassed_noise():
    """White noise times cos(pi k / 2H) cos(pi l / 2W) in cosines, as means of 2 x 2 do inside: the power is known."""
    k, m = torch.arange(32, dtype=torch.float64) / 64, torch.arange(40, dtype=torch.float64) / 80
    gain = (math.pi * k).cos()[:, None] * (math.pi * m).cos()
    found = scored(torch.stack([idct2(gain * n) for n in white(64, (1, 32, 40))]))
    f, (frequencies, counts) = torch.hypot(k[:, None], m), bins(32, 40)
    edges = frequencies * 2**0.25 * (1 + 1e-9)  # a bin ends a quarter of an octave above its middle
    inside = [(f <= edge) & (f > edge / 2**0.5) for edge in edges]
    assert [int(bin.sum()) for bin in inside] == counts.tolist()
    expected = torch.stack([gain[bin].square().mean() for bin in inside])
    expected = expected / ((expected * counts).sum() / counts.sum())
    # 64 x 4 coefficients in the lowest bin know their power to sqrt(2 / 256) = 9 %
    assert ((found.relative - expected).abs() < 5 * expected * found.relative_deviation).all()
    flatness = ((expected.log() * counts).sum() / counts.sum()).exp().item()
    assert found.flatness == pytest.approx(flatness, abs=0.01)


def test_the_size_of_each_image_is_no_matter():
    n = white()
    sizes = torch.logspace(-6, 6, 64, dtype=torch.float64).reshape(-1, 1, 1, 1)
    a, b = scored(n), scored(n * sizes)
    assert b.relative.numpy() == pytest.approx(a.relative.numpy(), rel=1e-12)  # rounding of the scale
    assert b.neighbours == pytest.approx(a.neighbours, abs=1e-14)


def test_order_changes_nothing_and_batches_join():
    n = white()
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    whole, other = scored(n), whiteness(joined([spectra(n[order][:10]), spectra(n[order][10:])]))
    assert torch.equal(whole.relative, other.relative)
    assert (whole.flatness, whole.spread, whole.neighbours) == (
        other.flatness,
        other.spread,
        other.neighbours,
    )


def test_mean_has_no_order():
    values = torch.tensor([1e16, 1.0, -1e16, 3.0], dtype=torch.float64)
    assert (
        len({mean(values[list(order)]).item() for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2))}) == 1
    )


def test_an_image_without_error_is_refused():
    with pytest.raises(ValueError, match="without any error"):
        spectra(torch.zeros(1, 1, 8, 8))


def test_cosines_of_white_noise_are_white():
    """The closed forms rest on an orthonormal transform."""
    n = white(1, (1, 16, 16))
    assert dct2(n[0, 0]).square().sum().item() == pytest.approx(n.square().sum().item(), rel=1e-12)
