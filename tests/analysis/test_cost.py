"""What a call costs, against counts by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.small import CLASSES, changed, prior_of
from undiffuse.analysis.cost import cost
from undiffuse.priors import Gaussian, class_guided


class TwoConvolutions(nn.Module):
    """3 -> 8 -> 3 channels, kernels 3 x 3, the size kept."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 3, 3, padding=1, bias=False)

    def forward(self, x, sigma):
        return self.second(self.first(x))


def test_a_convolution_counted_by_hand():
    found = cost(TwoConvolutions(), (2, 3, 6, 5))
    assert found.shape == (2, 3, 6, 5)
    assert found.parameters == 8 * 3 * 9 + 8 + 3 * 8 * 9
    assert found.flop == 2 * (2 * 6 * 5) * (8 * 3 * 9 + 3 * 8 * 9)  # a multiply-add for each weight and pixel
    assert found.macs * 2 == found.flop
    assert found.memory == 4 * (2 * 6 * 5) * (8 + 3)  # hidden layer and answer, float32, alive together
    assert 0 < found.seconds < 1


def test_a_picture_is_a_batch_of_one_and_costs_grow_with_the_batch():
    one, four = cost(TwoConvolutions(), (3, 8, 8)), cost(TwoConvolutions(), (4, 3, 8, 8))
    assert one.shape == (1, 3, 8, 8)
    assert (four.flop, four.memory) == (4 * one.flop, 4 * one.memory)
    assert four.parameters == one.parameters


def test_memory_is_the_peak_and_not_the_sum():
    def chain(x, sigma):
        for _ in range(10):
            x = x + 1
        return x

    found = cost(chain, (1, 1, 4, 4))
    assert found.memory == 2 * 4 * 16  # at any time what an operator reads and what it writes
    assert (found.parameters, found.flop) == (0, 0)


def test_views_and_writing_in_place_take_no_memory():
    found = cost(lambda x, sigma: (2 * x).reshape(1, 16).mul_(3).reshape(1, 1, 4, 4), (1, 1, 4, 4))
    assert found.memory == 4 * 16


def test_attention_is_counted():
    # q k^T and the product with v: L x L x d multiply-adds each, for every head
    def attend(x, sigma):
        return F.scaled_dot_product_attention(x, x, x)

    assert cost(attend, (2, 4, 32, 16)).flop == 2 * 2 * (2 * 4) * 32 * 32 * 16


def test_the_networks_own_attention_is_counted():
    plain, attending = (prior_of(changed(CLASSES, {"attention": a})) for a in ([], [1]))
    extra = cost(attending, (1, 8, 8)).flop - cost(plain, (1, 8, 8)).flop
    new, channels, pixels = (
        3,
        16,
        16,
    )  # one block going down, two going up; the one in the middle is always there
    layer = 2 * (4 * channels**2 * pixels) + 2 * 2 * pixels**2 * channels
    assert extra == new * layer


def test_guidance_costs_both_halves():
    prior = prior_of(CLASSES)
    labels = torch.tensor([1])
    once = cost(prior.given(labels), (1, 8, 8), module=prior)
    twice = cost(class_guided(prior, labels, scale=3.0), (1, 8, 8), module=prior)
    assert twice.flop == 2 * once.flop
    assert twice.parameters == once.parameters == sum(p.numel() for p in prior.parameters())


def test_shared_weights_count_once():
    net = TwoConvolutions()
    net.third = net.first
    assert cost(net, (3, 4, 4)).parameters == cost(TwoConvolutions(), (3, 4, 4)).parameters


def test_an_exact_prior_has_no_parameters():
    found = cost(Gaussian(torch.zeros(1, 1, 2, 2), 1.0), (1, 2, 2), repeats=0)
    assert found.parameters == 0
    assert math.isnan(found.seconds)  # not asked for, and not 0


@pytest.mark.parametrize("shape", [(8, 8), (1, 3, 0, 8), (1, 1, 1, 1, 1)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(B, C, H, W\)"):
        cost(TwoConvolutions(), shape)
