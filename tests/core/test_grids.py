"""Grids: ends, lengths, spacing, exactly n calls, and climbs."""

import itertools

import pytest
import torch

from undiffuse.core.grids import exponential, from_timesteps, karras, with_jumps

TRAINING = torch.logspace(-2, 2, 1000, dtype=torch.float64)


@pytest.mark.parametrize("make", [karras, exponential])
@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_ends_and_length(make, n):
    sigmas = make(n, 0.01, 50.0)
    assert sigmas.dtype == torch.float64 and sigmas.shape == (n + 1,)
    assert sigmas[0].item() == pytest.approx(50) and sigmas[-1] == 0
    assert n == 1 or sigmas[-2].item() == pytest.approx(0.01)
    assert (sigmas.diff() < 0).all()


def test_spacing():
    roots = karras(10)[:-1] ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(9))
    logs = exponential(10)[:-1].log()
    torch.testing.assert_close(logs.diff(), logs.diff().mean().expand(9))
    torch.testing.assert_close(karras(10, rho=1e4), exponential(10), rtol=5e-3, atol=0)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_exactly_n_levels_for_every_n(spacing):
    for n in [*range(1, 60), 333, 499, 501, 600, 666, 999, 1000]:
        sigmas = from_timesteps(TRAINING, n, spacing)
        assert len(sigmas) == n + 1 and sigmas[-1] == 0
        assert (sigmas.diff() < 0).all(), n


def test_which_levels():
    def steps(n, spacing):
        return torch.searchsorted(TRAINING, from_timesteps(TRAINING, n, spacing)[:-1]).tolist()[::-1]

    assert steps(20, "leading") == list(range(0, 1000, 50))  # ddim20
    assert steps(4, "trailing") == [249, 499, 749, 999]
    assert steps(5, "linspace") == [0, 250, 500, 749, 999]
    assert steps(1, "linspace") == steps(1, "trailing") == [999]
    assert steps(3, "leading") == [0, 333, 666]


def test_takes_a_schedule():
    class Schedule:
        sigmas = TRAINING

    assert torch.equal(from_timesteps(Schedule(), 7), from_timesteps(TRAINING, 7))


def test_jumps_walk():
    levels = torch.arange(6.0).flip(0)  # n = 5 calls; stretches of two, counted from the last level above 0
    assert with_jumps(levels, length=2, repeats=2).tolist() == [5, 4, 3, 5, 4, 3, 2, 1, 3, 2, 1, 0]
    assert with_jumps(levels, length=2, repeats=1).tolist() == levels.tolist()
    assert with_jumps(levels, length=9, repeats=5).tolist() == levels.tolist()


def test_jumps_repeat_each_stretch():
    sigmas = with_jumps(torch.arange(31.0).flip(0), length=3, repeats=4)
    pairs = list(itertools.pairwise(sigmas.tolist()))
    assert all(b == a - 1 or b == a + 3 for a, b in pairs)
    descents = [pair for pair in pairs if pair[1] < pair[0]]
    counts = [descents.count((a, a - 1)) for a in range(30, 0, -1)]
    assert counts == [1] * 2 + [4] * 27 + [1]


def test_jumps_for_grids_of_their_own():
    sigmas = torch.stack([karras(6), karras(6, sigma_max=10.0)], 1)[:, :, None, None, None]
    climbing = with_jumps(sigmas, length=2, repeats=3)
    assert torch.equal(climbing[:, 0, 0, 0, 0], with_jumps(karras(6), length=2, repeats=3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: karras(0), "n = 0"),
        (lambda: karras(5, sigma_min=0.0), "0 < sigma_min"),
        (lambda: karras(5, sigma_min=2.0, sigma_max=1.0), "from 2.0 to 1.0"),
        (lambda: karras(5, sigma_max=float("inf")), "finite"),
        (lambda: karras(5, rho=0.0), "rho = 0.0"),
        (lambda: exponential(5, sigma_min=-1.0), "0 < sigma_min"),
        (lambda: from_timesteps(TRAINING, 1001), "n = 1001 steps; expected 1 to 1000"),
        (lambda: from_timesteps(TRAINING, 0), "n = 0"),
        (lambda: from_timesteps(TRAINING.flip(0), 3), "increase"),
        (lambda: from_timesteps(TRAINING, 3, "uniform"), "choose from leading, trailing, linspace"),
        (lambda: with_jumps(karras(5), length=0, repeats=2), "length = 0"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
