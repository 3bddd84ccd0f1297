import math

import pytest
import torch

from undiffuse.analysis.ensembles import energy_distance, floor, sliced_wasserstein

EXACT = 1e-12  # float64, some thousand operations


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def quantiles(n):
    """The standard normal's, at the middle of n equal shares: (n, 1)."""
    return math.sqrt(2) * torch.erfinv(2 * (torch.arange(n, dtype=torch.float64) + 0.5) / n - 1)[:, None]


@pytest.mark.parametrize("measure", [sliced_wasserstein, energy_distance])
def test_the_same_samples_in_any_order(measure):
    a = normal(30, 12)
    assert measure(a, a.clone()) == 0
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    assert measure(a, a[order]) == pytest.approx(0, abs=1e-10)
    b = normal(30, 12, seed=2)
    assert measure(a[order], b) == pytest.approx(measure(a, b), rel=EXACT)
    assert measure(a, b) == pytest.approx(measure(b, a), rel=EXACT) and measure(a, b) > 0


@pytest.mark.parametrize("k", [1, 12, 64])
def test_a_shift(k):
    """By 0.3 in every number: 0.3. 64 directions are whole orthonormal frames of 64, and of 1."""
    a = normal(20, k)
    directions = 12 if k == 12 else 64
    assert sliced_wasserstein(a, a + 0.3, directions=directions) == pytest.approx(0.3, rel=1e-9)
    few = sliced_wasserstein(normal(20, 64), normal(20, 64) + 0.3, directions=16)
    assert few == pytest.approx(0.3, rel=0.5)  # of a frame in part: sqrt(2 / 16) of the square, three times


def test_two_gaussians_on_a_line():
    """W2^2 = (m - m')^2 + (s - s')^2; the quantiles' own variance is 1 but for 1e-3 of the tails."""
    q = quantiles(4000)
    found = sliced_wasserstein(1 + 2 * q, 0.5 * q)
    assert found == pytest.approx(math.hypot(1, 1.5), rel=1e-3)
    expected = 2 * folded(1, 2, 0.5) - 2 * 2 / math.sqrt(math.pi) - 2 * 0.5 / math.sqrt(math.pi)
    assert energy_distance(1 + 2 * q[::4], 0.5 * q[::4]) == pytest.approx(
        expected, rel=5e-3
    )  # tails, and pairs i = i


def folded(mean, s, t):
    """E|N(mean, s^2 + t^2)|."""
    d = math.hypot(s, t)
    half = math.exp(-(mean**2) / (2 * d**2))
    return d * math.sqrt(2 / math.pi) * half + mean * math.erf(mean / (d * math.sqrt(2)))


def test_sets_of_other_sizes():
    """Each sample twice is the same set."""
    a, b = normal(15, 6), normal(10, 6, seed=3)
    twice = a.repeat_interleave(2, 0)
    for measure in (sliced_wasserstein, energy_distance):
        assert measure(a, twice) == pytest.approx(0, abs=1e-10)
        assert measure(twice, b) == pytest.approx(measure(a, b), rel=1e-10)
    thrice, both = a.repeat_interleave(2, 0), b.repeat_interleave(3, 0)
    assert sliced_wasserstein(thrice, both) == pytest.approx(sliced_wasserstein(a, b), rel=1e-10)


def test_two_points():
    """X = 0, Y = d in every number: 2 d, and d."""
    a, b = torch.zeros(3, 9), torch.full((5, 9), 0.4)
    assert energy_distance(a, b) == pytest.approx(0.8, rel=1e-6)  # 0.4 in float32
    assert sliced_wasserstein(a, b, directions=9) == pytest.approx(0.4, rel=1e-6)


def test_what_cannot_be_told_apart_is_at_the_floor():
    a = normal(200, 8)
    mean, spread = floor(a, sliced_wasserstein)
    same, _ = floor(a, sliced_wasserstein, b=a)
    assert same == mean
    other, _ = floor(a, sliced_wasserstein, b=normal(200, 8, seed=5))
    assert abs(other - mean) < 5 * spread + 0.02  # another draw of the same law
    far, _ = floor(a, sliced_wasserstein, b=normal(200, 8, seed=5) + 0.5)
    assert far > mean + 10 * spread
    fewer, _ = floor(a[:50], sliced_wasserstein)
    assert fewer > 1.5 * mean  # four times the samples halve the floor


def test_what_is_no_pair_of_sets():
    with pytest.raises(ValueError, match="expected \\(n, k\\)"):
        energy_distance(normal(3, 4), normal(3, 5))
    with pytest.raises(ValueError, match="3 samples to split"):
        floor(normal(3, 4), energy_distance)
