"""Attention seen from outside: as computed by hand, without a trace in the answer."""

import importlib.util
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.checkpoints.test_diffusers import diffusers  # noqa: F401 (a fixture)
from tests.small import prior_of
from undiffuse.analysis.attention import _reduced, _Watch, attention
from undiffuse.checkpoints import PriorConfig, load
from undiffuse.checkpoints.diffusers import export
from undiffuse.checkpoints.native import Checkpoint
from undiffuse.networks import PhotoConfig
from undiffuse.networks.blocks import SelfAttention, per_token
from undiffuse.networks.ddpm import Attention

SIZE = (12, 16)
DDPM_NET = {"name": "ddpm", "width": 16, "multipliers": [1, 1.5], "blocks": 1, "attention": [1], "groups": 8}
ADM_NET = {
    "name": "adm", "width": 16, "multipliers": [1, 2], "blocks": 1, "attention": [1], "groups": 8, "head_channels": 8,
    "new_attention_order": True,
}  # fmt: skip
LEGACY = {**ADM_NET, "new_attention_order": False}
NETWORKS = {"ddpm": DDPM_NET, "adm": ADM_NET, "adm, legacy order": LEGACY}


def checkpoint(network) -> Checkpoint:
    config = PriorConfig(network=network, prediction="eps", schedule="linear", channels=3, size=(16, 16))
    return Checkpoint(prior_of(config), config, {})


def pictures(size=SIZE, batch=2):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(3))


def asked(net, x, **given):
    """Also the answer, which the tests compare."""
    t = torch.full((len(x),), 300.0)
    with torch.no_grad():
        return attention(net, lambda: net(x, t), size=tuple(x.shape[2:]), **given)


def by_hand(module, x):
    """(B, heads, L, L): the weights from the layers' own parameters, head by head."""
    tokens = module.norm(x).flatten(2).transpose(1, 2)
    if isinstance(module, Attention):
        q, k = (per_token(layer, tokens)[:, None] for layer in (module.q, module.k))
    else:
        qkv, width = per_token(module.qkv, tokens), x.shape[1]
        d, heads = width // module.heads, range(module.heads)
        at = [(h * d, width + h * d) if module.new_order else (3 * h * d, 3 * h * d + d) for h in heads]
        q = torch.stack([qkv[..., i : i + d] for i, _ in at], 1)
        k = torch.stack([qkv[..., j : j + d] for _, j in at], 1)
    scores = torch.einsum("bhid,bhjd->bhij", q.double(), k.double()) / math.sqrt(q.shape[-1])
    return scores.exp() / scores.exp().sum(-1, keepdim=True)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_as_by_hand_and_without_a_trace(network):
    """In float64 from the same inputs; q and k are float32, and so are the weights: 1e-5."""
    net, x = checkpoint(network).prior.net, pictures()
    given = {}
    layers = {n: m for n, m in net.named_modules() if isinstance(m, Attention | SelfAttention)}
    hooks = [
        m.register_forward_hook(lambda _, inputs, __, n=n: given.update({n: inputs[0]}))
        for n, m in layers.items()
    ]
    with torch.no_grad():
        plain = net(x, torch.full((2,), 300.0))
    for hook in hooks:
        hook.remove()
    corners = [(0, 0), (11, 15), (5, 9)]
    answer, found = asked(net, x, queries=corners)
    assert torch.equal(answer, plain)
    assert [layer.name for layer in found] == list(given) and len(found) >= 3
    for layer in found:
        with torch.no_grad():
            w = by_hand(layers[layer.name], given[layer.name])
        _check(layer, w, corners)


def _check(layer, w, corners):
    h, width = layer.size
    assert layer.heads == w.shape[1] and h * width == w.shape[2]
    even = torch.full_like(w, 1 / (h * width))
    middles = [((i + 0.5) * SIZE[0] / h, (j + 0.5) * SIZE[1] / width) for i in range(h) for j in range(width)]
    apart = torch.tensor([[math.dist(a, b) for b in middles] for a in middles], dtype=torch.float64)
    close = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(layer.received.flatten(2), w.sum(2), **close)
    torch.testing.assert_close(layer.entropy, -(w * w.log()).sum(-1).mean(-1) / math.log(h * width), **close)
    torch.testing.assert_close(layer.distance, (w * apart).sum(-1).mean(-1), rtol=1e-5, atol=1e-5)
    assert layer.even_distance == pytest.approx((even[0, 0] * apart).sum(-1).mean().item(), rel=1e-6)
    for number, (row, column) in enumerate(corners):
        token = (row * h // SIZE[0]) * width + column * width // SIZE[1]
        torch.testing.assert_close(layer.queries[:, :, number].flatten(2), w[:, :, token], **close)


def test_any_budget_gives_the_same():
    net, x = checkpoint(ADM_NET).prior.net, pictures()
    _, whole = asked(net, x, queries=[(5, 9)])
    _, rows = asked(net, x, queries=[(5, 9)], budget=1)
    for a, b in zip(whole, rows, strict=True):
        for name in (
            "received",
            "entropy",
            "distance",
            "queries",
        ):  # rows of a product may be summed otherwise
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-5, atol=1e-6)


class Largest(TorchDispatchMode):
    """Of all tensors that are made meanwhile, how many numbers the largest has."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_no_more_weights_at_once_than_the_budget():
    """400 pixels in 2 heads have 320000 weights; 8 rows of both are 6400."""
    q = torch.randn(1, 2, 400, 3, generator=torch.Generator().manual_seed(0))
    found = {}
    for budget in (6400, 2**24):
        with Largest() as largest:
            _reduced("layer", q, q, (20, 20), _Watch((40, 40), ((0, 0),), budget))
        found[budget] = largest.numbers
    assert found == {6400: 6400, 2**24: 320000}


class Given(nn.Module):
    """Attends with q and k that are given."""

    def __init__(self, q, k):
        super().__init__()
        self.q, self.k = q, k

    def forward(self, x):
        return F.scaled_dot_product_attention(self.q, self.k, x.flatten(2).transpose(1, 2)[:, None])


def of(q, k, **given):
    x = torch.zeros(1, 2, 3, 4)
    return attention(net := Given(q, k), lambda: net(x), size=(6, 8), **given)[1][0]


def test_even_attention():
    layer = of(torch.zeros(1, 1, 12, 5), torch.randn(1, 1, 12, 5), queries=[(5, 7)])
    assert layer.received.numpy() == pytest.approx(1, abs=1e-6)
    assert layer.entropy.item() == pytest.approx(1, abs=1e-6)
    assert layer.distance.item() == pytest.approx(layer.even_distance, rel=1e-6)
    assert layer.queries.numpy() == pytest.approx(1 / 12, abs=1e-7)


def test_each_pixel_at_itself():
    eye = 100 * torch.eye(12)[None, None]
    layer = of(eye, eye, queries=[(3, 5)])
    assert layer.received.numpy() == pytest.approx(1, abs=1e-6)
    assert layer.entropy.item() == layer.distance.item() == 0  # e^-2887 is 0
    assert layer.queries[0, 0, 0].nonzero().tolist() == [[1, 2]]


def test_all_at_one_neighbour():
    """Every pixel at the one to its right, the last of a row at itself: 2 pixels of the picture, but for those."""
    right = [[min(j + 1, 3) + 4 * i for j in range(4)] for i in range(3)]
    q = 100 * torch.eye(12)[torch.tensor(right).flatten()][None, None]
    layer = of(q, 100 * torch.eye(12)[None, None])
    assert layer.distance.item() == pytest.approx(2 * 9 / 12)
    assert layer.received[0, 0].tolist() == [[0, 1, 1, 2]] * 3


def test_networks_without_attention():
    net = PhotoConfig(widths=(8, 8), groups=4, embedding=8).build()
    assert asked(net, pictures())[1] == []


def test_nothing_stays_behind():
    """Also after an error inside."""
    net, x, before = checkpoint(ADM_NET).prior.net, pictures(), F.scaled_dot_product_attention

    def fails():
        net(x, torch.zeros(2))
        raise KeyError("inside")

    with pytest.raises(KeyError), torch.no_grad():
        attention(net, fails, size=SIZE)
    for module in net.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert F.scaled_dot_product_attention is before
    assert torch.overrides._len_torch_function_stack() == 0


def test_half_precision_counts_in_float32():
    net, x = checkpoint(ADM_NET).prior.net, pictures()
    _, exact = asked(net, x)
    _, half = asked(net.bfloat16(), x.bfloat16())
    for a, b in zip(exact, half, strict=True):
        assert b.received.sum().item() == pytest.approx(b.received.numel(), rel=1e-5)  # rows sum to 1
        assert (a.entropy - b.entropy).abs().max() < 0.05  # q and k of 8 bits


def test_a_folder_of_diffusers(tmp_path):
    """As our own network, once loaded: the products have the same order, their matrices may lie elsewhere."""
    kept = checkpoint(DDPM_NET)
    export(kept, tmp_path / "out")
    _, ours = asked(kept.prior.net, pictures())
    _, found = asked(load(tmp_path / "out").prior.net, pictures())
    assert [layer.name for layer in ours] == [layer.name for layer in found]
    for a, b in zip(ours, found, strict=True):
        torch.testing.assert_close(a.received, b.received, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="no diffusers")
def test_their_own_network(tmp_path, diffusers):  # noqa: F811
    """UNet2DModel, from whose code nothing is known here, attends where ours does."""
    kept, x = checkpoint(ADM_NET), pictures()
    export(kept, tmp_path / "out")
    theirs = diffusers.UNet2DModel.from_pretrained(tmp_path / "out" / "unet").eval()
    with torch.no_grad():
        _, found = attention(theirs, lambda: theirs(x, torch.full((2,), 300.0)), size=SIZE)
    _, ours = asked(kept.prior.net, x)
    assert len(found) == len(ours) and all(a.name != b.name for a, b in zip(ours, found, strict=True))
    for a, b in zip(ours, found, strict=True):
        torch.testing.assert_close(a.received, b.received, rtol=1e-3, atol=1e-4)


def test_refused():
    q = torch.zeros(1, 1, 12, 5)
    with pytest.raises(ValueError, match="outside the picture of 6x8"):
        of(q, q, queries=[(6, 0)])
    with pytest.raises(ValueError, match="attends from 12 to 7 places"):
        net, x = Given(q, torch.zeros(1, 1, 7, 5)), torch.zeros(1, 2, 1, 7)
        attention(net, lambda: net(x), size=(6, 8))
