"""What every network must hold."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from tests.networks.weights import seeded
from undiffuse.config import from_term, parse_term, validated
from undiffuse.networks import ADMConfig, ClassifierConfig, DDPMConfig, PhotoConfig
from undiffuse.priors import DiscreteSchedule, Prior, scalings, schedules
from undiffuse.registry import NETWORKS

SHARED = dict(in_channels=4, learned_variance=True, num_classes=3, null_class=True, dropout=0.2, groups=4)
LEVELS = dict(width=16, multipliers=(1, 2), blocks=1, attention=(1,))
CONFIGS = {
    "adm": ADMConfig(**SHARED, **LEVELS, heads=2, resblock_updown=True),
    "adm_plain": ADMConfig(**SHARED, **LEVELS, head_channels=8, scale_shift=False, new_attention_order=True),
    "ddpm": DDPMConfig(**SHARED, **LEVELS),
    "photo": PhotoConfig(**SHARED, widths=(16, 24), blocks=1, embedding=16),
    "photo_pixel": PhotoConfig(**SHARED, widths=(16, 24), blocks=1, embedding=16, norm="pixel"),
    "photo_none": PhotoConfig(
        **SHARED, widths=(16, 24), blocks=1, embedding=16, norm="none", told="timestep"
    ),
}
CLASSIFIERS = {
    pool: ClassifierConfig(
        width=16,
        multipliers=(1, 2),
        blocks=1,
        attention=(1,),
        head_channels=8,
        groups=4,
        num_classes=3,
        pool=pool,
        size=16,
    )
    for pool in ("attention", "adaptive", "spatial")
}
EVERY = CONFIGS | CLASSIFIERS
ZERO = {  # what starts at zero: the last layer of each residual branch, and the answer
    "adm": ("out_layers.3", "proj_out", "out.2"),
    "adm_plain": ("out_layers.3", "proj_out", "out.2"),
    "ddpm": ("conv2", "proj_out", "conv_out"),
    "photo": ("conv2", "conv_out"),
    "photo_pixel": ("conv2", "conv_out"),
    "photo_none": ("conv2", "conv_out"),
    "attention": ("out_layers.3", "proj_out"),
    "adaptive": ("out_layers.3", "proj_out", "out.3"),
    "spatial": ("out_layers.3", "proj_out"),
}

every = pytest.mark.parametrize("name", EVERY)
unets = pytest.mark.parametrize("name", CONFIGS)


def inputs(name, batch=2, dtype=torch.float32):
    """x, noise and, for a U-Net, labels."""
    draws = torch.Generator().manual_seed(5)
    config = EVERY[name]
    x = torch.randn(batch, config.in_channels, 16, 16, generator=draws).to(dtype)
    noise = torch.linspace(-1.2, 0.9, batch) if name.startswith("photo") else torch.linspace(7, 803, batch)
    labels = torch.arange(batch) % 3
    return (x, noise.to(dtype)) if name in CLASSIFIERS else (x, noise.to(dtype), labels)


def error(found, expected):
    return (found - expected).norm() / expected.norm()


@every
def test_starts_at_zero(name):
    net = EVERY[name].build().eval()
    zeros = {
        key.rpartition(".")[0]
        for key, value in net.named_parameters()
        if key.endswith("weight") and not value.any()
    }
    assert zeros and all(key.endswith(ZERO[name]) for key in zeros)
    assert (net(*inputs(name)) == 0).all() == (name not in ("attention", "spatial"))


@every
def test_gradients_reach_every_parameter(name):
    """All but the bias of keys: softmax does not change when all scores of a query move alike."""
    net = seeded(EVERY[name].build(), 1)
    net(*inputs(name)).square().sum().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 1e-6 or key.endswith(".k.bias"), key


@every
@torch.no_grad()
def test_images_do_not_see_each_other(name):
    """To rounding: a convolution may sum in another order for another batch."""
    net = seeded(EVERY[name].build(), 1)
    batch = inputs(name, 3)
    alone = torch.cat([net(*(value[i : i + 1] for value in batch)) for i in range(3)])
    assert error(net(*batch), alone) < 1e-5


@every
@torch.no_grad()
def test_eval_is_deterministic_and_training_drops(name):
    net = seeded(EVERY[name].build(), 1)
    assert torch.equal(net(*inputs(name)), net(*inputs(name)))
    if name in CONFIGS:
        net.train()
        assert not torch.equal(net(*inputs(name)), net(*inputs(name)))


@every
@torch.no_grad()
def test_channels_last(name):
    """The same sums in another order."""
    net = seeded(EVERY[name].build(), 1)
    expected = net(*inputs(name))
    x, *rest = inputs(name)
    net.to(memory_format=torch.channels_last)
    assert error(net(x.to(memory_format=torch.channels_last), *rest), expected) < 1e-5


@every
@torch.no_grad()
def test_precisions(name):
    """float64 agrees with float32 to rounding; bfloat16, 3 digits a layer and some 20 layers, to 5 %."""
    net = seeded(EVERY[name].build(), 1)
    expected = net(*inputs(name))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net(*inputs(name))
    assert mixed.isfinite().all()
    assert error(mixed.float(), expected) < 0.05
    if name in CONFIGS:
        assert mixed.dtype == torch.float32  # the answer itself is not rounded
    assert error(net.double()(*inputs(name, dtype=torch.float64)), expected.double()) < 2e-5
    x, noise, *labels = inputs(name)
    low = net.bfloat16()(x.bfloat16(), noise, *labels)
    assert low.dtype == torch.bfloat16
    assert error(low.float(), expected) < 0.05


@every
@torch.no_grad()
def test_compiles_in_one_graph(name):
    """fullgraph refuses a break; the tracer's own backend, as generating code takes a minute a network."""
    net = seeded(EVERY[name].build(), 1)
    torch._dynamo.reset()
    traced = torch.compile(net, backend="aot_eager", fullgraph=True)
    assert error(traced(*inputs(name)), net(*inputs(name))) < 1e-5
    with torch.autocast("cpu", torch.bfloat16):
        assert error(traced(*inputs(name)).float(), net(*inputs(name)).float()) < 0.05


@unets
@torch.no_grad()
def test_sizes_and_channels(name):
    """Not square; input and output channels on their own; twice the channels with a variance."""
    net = seeded(CONFIGS[name].build(), 1)
    x, noise, labels = inputs(name)
    x = torch.cat((x, x[..., :8]), 3)
    assert net(x, noise, labels).shape == (2, 6, 16, 24)
    plain = dataclasses.replace(CONFIGS[name], out_channels=2, learned_variance=False).build()
    assert plain(x, noise, labels).shape == (2, 2, 16, 24)


@unets
@torch.no_grad()
def test_labels(name):
    net = seeded(CONFIGS[name].build(), 1)
    x, noise, labels = inputs(name)
    assert torch.equal(net(x, noise), net(x, noise, torch.full((2,), 3)))  # 3: the null class
    assert error(net(x, noise, labels), net(x, noise)) > 1e-2
    with pytest.raises(ValueError, match="give labels"):
        dataclasses.replace(CONFIGS[name], null_class=False).build()(x, noise)
    with pytest.raises(ValueError, match="network without classes"):
        dataclasses.replace(CONFIGS[name], null_class=False, num_classes=None).build()(x, noise, labels)


@unets
@torch.no_grad()
def test_as_a_prior(name):
    config = dataclasses.replace(CONFIGS[name], in_channels=3)
    scaling = scalings.eps(DiscreteSchedule.from_betas(schedules.linear()))
    prior = Prior(seeded(config.build(), 1), scaling, channels=3, num_classes=3)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    said = prior.predict(x, torch.tensor(0.7), torch.tensor([0, 2]))
    assert said.x0.shape == x.shape and said.variance.shape == x.shape
    torch.testing.assert_close(prior(x, torch.tensor(0.0)), x)


@every
def test_wrong_inputs(name):
    net = EVERY[name].build()
    x, noise, *labels = inputs(name)
    with pytest.raises(ValueError, match=rf"takes \(B, {x.shape[1]}, H, W\)"):
        net(x[:, :2], noise, *labels)
    with pytest.raises(ValueError, match="one level an image"):
        net(x, noise[:1], *labels)
    if not name.startswith("photo"):
        with pytest.raises(ValueError, match="sides that 2 divides"):
            net(x[..., :15], noise, *labels)
    if name == "attention":
        with pytest.raises(ValueError, match="takes 16 x 16"):
            net(x[..., :8], noise)


@every
def test_configuration_survives_a_file(name):
    """As JSON, through the registry, and it can be a key."""
    kind = {ADMConfig: "adm", DDPMConfig: "ddpm", PhotoConfig: "photo", ClassifierConfig: "classifier"}
    entry = NETWORKS[kind[type(EVERY[name])]]
    options = json.loads(json.dumps(dataclasses.asdict(EVERY[name])))
    again = entry(**validated(entry, options))
    assert again == EVERY[name] and hash(again) == hash(EVERY[name])
    assert isinstance(again.build(), nn.Module)


@pytest.mark.parametrize("name", NETWORKS)
def test_examples(name):
    written, first, given = parse_term(NETWORKS[name].example)
    assert written == name
    with torch.device("meta"):
        assert isinstance(NETWORKS[name](**from_term(NETWORKS[name], first, given)).build(), nn.Module)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ADMConfig(width=0), "width = 0; expected a whole number"),
        (lambda: ADMConfig(width=48), "48 channels cannot be split into 32 groups; set groups to 16"),
        (lambda: ADMConfig(multipliers=()), "no level"),
        (lambda: ADMConfig(multipliers=(1, 0)), "level of 0 channels"),
        (lambda: ADMConfig(attention=(4,)), r"attention at level 4; expected 0 \(the finest\) to 3"),
        (lambda: ADMConfig(head_channels=48), "head_channels = 48 does not divide a level of 512"),
        (lambda: ADMConfig(heads=5), "5 heads do not divide"),
        (lambda: ADMConfig(heads_up=7), "7 heads do not divide"),
        (lambda: ADMConfig(dropout=1.0), "dropout = 1.0; expected 0 <= dropout < 1"),
        (lambda: ADMConfig(null_class=True), "null_class without classes"),
        (lambda: ADMConfig(num_classes=0), "num_classes = 0"),
        (lambda: ClassifierConfig(pool="max"), "no pool named 'max'; choose from adaptive"),
        (lambda: ClassifierConfig(size=60), "size = 60; expected a multiple of 8"),
        (lambda: DDPMConfig(width=2, groups=1), "width = 2; expected at least 4"),
        (lambda: DDPMConfig(blocks=1.5), "blocks = 1.5; expected a whole number"),
        (lambda: DDPMConfig(out_channels=-1), "out_channels = -1"),
        (lambda: PhotoConfig(widths=(60,)), "60 channels cannot be split into 8 groups"),
        (lambda: PhotoConfig(norm="batch"), "no norm named 'batch'"),
        (lambda: PhotoConfig(told="sigma"), "told = 'sigma'"),
        (lambda: PhotoConfig(stem=True), "stem = True"),
    ],
)
def test_wrong_configurations(make, message):
    with pytest.raises(ValueError, match=message):
        make()
