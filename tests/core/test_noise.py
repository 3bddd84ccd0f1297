"""Noise for each image by its seed: alone, in a batch, in any order, in any process."""

import itertools

import pytest
import torch

from undiffuse.core.noise import START, WORDS, SeededNoise, generator, image_seed, image_seeds, slerp

LIKE = torch.zeros(4, 3, 5, 6)


def test_same_alone_and_in_a_batch():
    seeds = [5, 3, 99, 0]
    noise = SeededNoise(seeds)
    first, second = noise(LIKE), noise(LIKE)
    for i, seed in enumerate(seeds):
        alone = SeededNoise([seed])
        assert torch.equal(alone(LIKE[:1])[0], first[i])
        assert torch.equal(alone(LIKE[:1])[0], second[i])
    assert not torch.equal(first, second)
    assert torch.equal(SeededNoise(seeds[::-1])(LIKE).flip(0), first)


def test_reads_and_moves_no_global_state():
    torch.manual_seed(1)
    a = torch.rand(3)
    torch.manual_seed(1)
    one = SeededNoise([7])(LIKE[:1])
    assert torch.equal(torch.rand(3), a)
    torch.manual_seed(2)
    assert torch.equal(SeededNoise([7])(LIKE[:1]), one)


def test_is_standard_normal():
    """65536 draws: the mean is known to 0.004, the deviation to 0.003."""
    draws = SeededNoise([0])(torch.zeros(1, 1, 256, 256, dtype=torch.float64))
    assert draws.dtype == torch.float64
    assert draws.mean().abs() < 0.016 and (draws.std() - 1).abs() < 0.012


@pytest.mark.parametrize("seed", [3, 2**32 - 1, 2**32, 2**63 - 1, -1, -(2**63), 2**64 - 5])
def test_every_bit_of_a_seed_counts(seed):
    """torch's own seeding takes the lower 32 bits. 4096 draws agree by chance in one of them at most."""
    like = torch.zeros(1, 4096, dtype=torch.float64)
    first = SeededNoise([seed])(like)
    assert torch.equal(SeededNoise([seed])(like), first)
    assert abs(first.mean()) < 5 / 64 and abs(first.std() - 1) < 5 / 90  # five deviations of either
    for other in (seed ^ 2**32, seed ^ 2**40, seed ^ 2**62, seed ^ 1):
        second = SeededNoise([other])(like)
        assert (first * second).mean().abs() < 5 / 64


def test_where_the_state_of_torch_begins():
    """The words that torch makes of a seed (Knuth's recurrence) are where ours are written."""
    words = [5]
    for i in range(1, 624):
        words.append((1812433253 * (words[-1] ^ words[-1] >> 30) + i) % 2**32)
    state = torch.Generator().manual_seed(5).get_state()[START : START + 8 * WORDS]
    assert state.view(torch.int64).tolist() == words
    with pytest.raises(ValueError, match="expected a number of 64 bits"):
        generator(2**64)


def test_batch_must_fit():
    with pytest.raises(ValueError, match="a batch of 4 images needs as many seeds, not 3"):
        SeededNoise([0, 1, 2])(LIKE)


def test_seed_of_an_image():
    """Written down: a change here changes everybody's results."""
    assert image_seed(0, "dog.jpg") == image_seed(0, "dog.jpg", draw=0)
    seeds = {image_seed(s, n, d) for s in range(3) for n in ("a", "b", "1/a") for d in range(3)}
    assert len(seeds) == 27 and all(0 <= seed < 2**63 for seed in seeds)
    assert image_seeds(4, ["x", "y"], 2) == [image_seed(4, "x", 2), image_seed(4, "y", 2)]
    assert image_seed(0, "dog.jpg") == 912472996166472402


def test_slerp_keeps_the_norm_and_the_rate():
    a, b = (
        torch.randn(3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (0, 1)
    )
    b = b * a.norm() / b.norm()
    path = [slerp(a, b, share / 4) for share in range(5)]
    torch.testing.assert_close(path[0], a)
    torch.testing.assert_close(path[4], b)
    for x in path:
        torch.testing.assert_close(x.norm(), a.norm())
    steps = torch.stack([(q - p).norm() for p, q in itertools.pairwise(path)])
    torch.testing.assert_close(steps, steps[:1].expand(4))
    torch.testing.assert_close(slerp(a, 3 * b, 0.5).norm(), 2 * a.norm())
    torch.testing.assert_close(slerp(a, 2 * a, 0.25), 1.25 * a)
    with pytest.raises(ValueError, match="opposite"):
        slerp(a, -a, 0.5)
