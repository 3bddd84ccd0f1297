"""Networks packed for inference: the same answers, and no gradients."""

import pytest
import torch
from torch import nn

from tests.networks.test_contract import CONFIGS, inputs
from tests.networks.weights import seeded
from undiffuse.networks import packed
from undiffuse.networks.packed import PackedConv, PackedDoubling, available, doubling_kernel

here = pytest.mark.skipif(not available(), reason="this torch has no oneDNN")


@here
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("size", [(8, 8), (12, 20)], ids=str)
def test_answers_as_before(name, size):
    net, again = (seeded(CONFIGS[name].build(), 3) for _ in range(2))
    assert packed(again) >= 8
    assert any(isinstance(part, PackedDoubling) for part in again.modules()) == (not name.startswith("photo"))
    _, noise, labels = inputs(name)
    x = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = net(x, noise, labels), again(x, noise, labels)
        one = again(x[1:], noise[1:], labels[1:])
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()  # float32, some twenty layers deep
    assert (one - found[1:]).abs().max() < 2e-5 * expected.abs().max()


@here
def test_large_images_go_through_the_doubling_of_either_network():
    conv = nn.Conv2d(3, 5, 3, padding=1)
    x = torch.randn(2, 3, 40, 24)
    with torch.no_grad():
        expected = conv(nn.functional.interpolate(x, scale_factor=2.0))
        assert torch.allclose(PackedDoubling(conv)(x), expected, atol=1e-5)
        again = nn.functional.conv_transpose2d(x, doubling_kernel(conv.weight), conv.bias, 2, 1)
        assert torch.allclose(again, expected, atol=1e-5)


@here
def test_it_refuses_gradients():
    """They would be silently missing."""
    layer = PackedConv(nn.Conv2d(3, 4, 3))
    with pytest.raises(RuntimeError, match="no gradient"):
        layer(torch.randn(1, 3, 8, 8, requires_grad=True))
    with torch.no_grad():
        assert layer(torch.randn(1, 3, 8, 8, requires_grad=True)).shape == (1, 4, 6, 6)


@here
def test_its_weights_are_not_held_twice():
    net = CONFIGS["ddpm"].build()
    kernels = sum(p.numel() for n, p in net.named_parameters() if p.ndim == 4)
    before = sum(p.numel() for p in net.parameters())
    packed(net)
    assert sum(p.numel() for p in net.parameters()) == before - kernels


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv1d(4, 4, 3),
        nn.Conv2d(4, 4, 3).double(),
        nn.Conv2d(4, 4, 3).bfloat16(),
        nn.ConvTranspose2d(4, 4, 2),
        nn.Linear(4, 4),
    ],
    ids=str,
)
def test_it_leaves_alone_what_it_cannot_stand_in_for(conv):
    assert packed(nn.Sequential(conv)) == 0


def test_where_torch_has_no_such_operators_nothing_is_packed(monkeypatch):
    available.cache_clear()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    try:
        assert packed(CONFIGS["ddpm"].build()) == 0
    finally:
        available.cache_clear()
