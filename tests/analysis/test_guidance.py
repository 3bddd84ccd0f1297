"""Saturation, diversity, similarity and accuracy against closed forms."""

import math

import pytest
import torch

from undiffuse.analysis.guidance import Saturations, accuracy, diversity, saturation, similarity, unrelated


def test_saturation_counted_by_hand():
    x = torch.zeros(1, 3, 2, 2)
    x[0, :, 0, 0] = torch.tensor([1.5, -1.0, 0.0])  # beyond; clipped its channels span 2
    x[0, :, 1, 1] = torch.tensor([1.0, 1.0, 1.0])  # white is within
    found = saturation(x)
    assert found.beyond == 1 / 4
    assert found.contrast == pytest.approx((2.5 + 3) / 12)
    assert found.colour == pytest.approx(1 / 4)  # (1 - -1) / 2 at one pixel of four


def test_grey_pictures_have_no_colour():
    assert saturation(torch.ones(2, 1, 4, 4)).colour is None
    assert saturation(torch.full((2, 3, 4, 4), 0.3)).colour == 0


def test_batches_and_their_order_change_nothing():
    x = 2 * torch.randn(6, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    parts = Saturations()
    for part in (x[4:], x[:1], x[1:4]):
        parts(part)
    whole, found = saturation(x), parts.saturation()
    assert found.beyond == whole.beyond
    assert (found.contrast, found.colour) == pytest.approx((whole.contrast, whole.colour), rel=1e-12)


def test_no_pictures():
    with pytest.raises(ValueError, match="no pictures"):
        Saturations().saturation()


def test_diversity_of_a_gaussian():
    # |X - Y| of N(0, s^2 I_k) is sqrt(2) s times a chi variable of k degrees of freedom
    k, s, n = 6, 0.7, 1500
    x = s * torch.randn(n, k, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = 2 * s * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2)) / math.sqrt(k)
    # the deviation of the mean over pairs is at most that of n / 2 independent ones, 0.3 s each
    assert diversity(x) == pytest.approx(expected, abs=5 * 0.3 * s / math.sqrt(n / 2))


def test_diversity_within_groups():
    x = torch.tensor([[0.0], [1.0], [10.0], [14.0]])
    assert diversity(x, [0, 0, 1, 1]) == (1 + 4) / 2
    assert diversity(x, [0, 1, 2, 3]) != diversity(x, [0, 1, 2, 3])  # nan: nobody to compare with
    assert diversity(x[[2, 0, 3, 1]], [1, 0, 1, 0]) == diversity(x, [0, 0, 1, 1])
    assert diversity(torch.ones(5, 3)) == 0
    assert unrelated(x, [0, 0, 1, 1]) == diversity(x, [0, 0, 1, 1])
    assert unrelated(x, [0, 1, 2, 3]) == diversity(x)
    with pytest.raises(ValueError, match="3 groups for 4 samples"):
        diversity(x, [0, 0, 1])


def test_similarity_on_a_circle():
    angle = torch.linspace(0, math.pi, 7, dtype=torch.float64)
    a = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    b = torch.stack([angle.cos(), angle.sin()], 1)
    centre = torch.tensor([3.0, -2.0], dtype=torch.float64)
    found = similarity(a + centre, 5 * b + centre, centre)
    torch.testing.assert_close(found, angle.cos(), rtol=0, atol=1e-12)  # a few roundings of float64


def test_the_same_samples_are_exactly_alike():
    x = torch.randn(4, 3, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(similarity(x, x, x.mean(1, keepdim=True)), torch.ones(4, 3, dtype=torch.float64))


def test_accuracy():
    scores = [torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([[0.3, 0.7]])]
    assert accuracy(scores, [1, 1, 1]) == 2 / 3
    assert accuracy(scores, [None, 0, None]) == 1
    assert math.isnan(accuracy(scores, [None] * 3))
    with pytest.raises(ValueError, match="3 pictures for 2 labels"):
        accuracy(scores, [1, 1])
