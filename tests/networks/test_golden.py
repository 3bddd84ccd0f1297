"""The networks against the published code (tests/golden/README.md)."""

import json
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.networks.weights import seeded
from undiffuse.networks import ADMConfig, ClassifierConfig, DDPMConfig
from undiffuse.networks.blocks import timestep_embedding

FOLDER = Path(__file__).parents[1] / "golden"
ADM = load_file(FOLDER / "networks_adm.safetensors")
DDPM = load_file(FOLDER / "networks_ddpm.safetensors")
SINUSOIDS = load_file(FOLDER / "networks_embeddings.safetensors")
KEYS = {
    name: {key: tuple(shape) for key, shape in json.loads(zlib.decompress(packed.numpy().tobytes())).items()}
    for name, packed in load_file(FOLDER / "networks_keys.safetensors").items()
}

TINY = dict(width=32, multipliers=(1, 1, 2), blocks=1, attention=(1, 2), resblock_updown=True)
HEADS = {
    "out": dict(head_channels=16),
    "out_new_attention_order": dict(head_channels=16, new_attention_order=True),
    "out_num_heads4": dict(heads=4),
    "out_num_heads4_upsample2": dict(heads=4, heads_up=2),
}

MULTIPLIERS = {
    64: (1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    256: (1, 1, 2, 2, 4, 4),
    512: (0.5, 1, 1, 2, 2, 4, 4),
}


def published(size, /, **sizes):
    """What all of OpenAI's files have in common: attention at 32, 16 and 8 pixels."""
    attention = tuple((size // pixels).bit_length() - 1 for pixels in (32, 16, 8))
    return dict(multipliers=MULTIPLIERS[size], attention=attention, resblock_updown=True) | sizes


def adm(size, **sizes):
    wide = published(size, width=256, head_channels=64, learned_variance=True)
    return ADMConfig(**wide | sizes)


def classifier(size, blocks):
    return ClassifierConfig(**published(size, width=128, blocks=blocks, size=size))


CHECKPOINTS = {  # with the parameters that the files hold
    "64x64_diffusion.pt": (
        adm(64, width=192, blocks=3, new_attention_order=True, num_classes=1000),
        295_904_454,
    ),
    "128x128_diffusion.pt": (adm(128, heads=4, head_channels=None, num_classes=1000), 421_529_606),
    "256x256_diffusion.pt": (adm(256, num_classes=1000), 553_838_086),
    "256x256_diffusion_uncond.pt": (adm(256), 552_814_086),
    "lsun_bedroom.pt": (adm(256, dropout=0.1), 552_814_086),
    "512x512_diffusion.pt": (adm(512, num_classes=1000), 558_997_638),
    "64x64_classifier.pt": (classifier(64, 4), 65_438_568),
    "128x128_classifier.pt": (classifier(128, 2), 42_568_040),
    "256x256_classifier.pt": (classifier(256, 2), 54_096_360),
    "512x512_classifier.pt": (classifier(512, 2), 54_448_360),
    "celeba_hq.ckpt": (DDPMConfig(multipliers=(1, 1, 2, 2, 4, 4), attention=(4,)), 113_673_219),
    "cifar10.ckpt": (DDPMConfig(), 35_746_307),
}


def check(found, expected):
    """Float32 sums in another order: 2e-6 of the norm here, as much as the reference differs between machines."""
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_every_checkpoint_is_listed():
    assert set(CHECKPOINTS) == set(KEYS)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_published_state_dicts_load(name):
    """Key for key, shape for shape and in the same order (an optimiser's state goes by position)."""
    config, parameters = CHECKPOINTS[name]
    with torch.device("meta"):
        net = config.build()
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert shapes == KEYS[name]
    assert list(shapes) == list(KEYS[name])
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_adm(name):
    net = seeded(ADMConfig(**TINY, **HEADS[name], learned_variance=True).build(), 101)
    check(net(ADM["x"], ADM["t"]), ADM[name])


@torch.no_grad()
def test_adm_with_added_noise_and_strided_convolutions():
    sizes = dict(width=64, multipliers=(0.5, 1), attention=(1,), heads=2, scale_shift=False)
    net = seeded(ADMConfig(**sizes, num_classes=5).build(), 103)
    check(net(ADM["plain.x"], ADM["plain.t"], ADM["plain.labels"]), ADM["plain.out"])


@pytest.mark.parametrize(("pool", "seed"), [("attention", 110), ("adaptive", 111), ("spatial", 112)])
@torch.no_grad()
def test_classifier(pool, seed):
    sizes = dict(width=32, multipliers=(1, 2), blocks=1, attention=(1,), head_channels=16, size=16)
    net = seeded(ClassifierConfig(**sizes, pool=pool, num_classes=7).build(), seed)
    check(net(ADM["plain.x"], ADM["plain.t"]), ADM[f"classifier.{pool}"])


@torch.no_grad()
def test_ddpm():
    config = DDPMConfig(width=32, multipliers=(1, 1, 2), blocks=1, attention=(1,))
    check(seeded(config.build(), 201)(DDPM["x"], DDPM["t"]), DDPM["out"])


@pytest.mark.parametrize(
    ("name", "noise", "convention"),
    [
        ("adm.emb32_int", "adm.t_int", "adm"),
        ("adm.emb33_int", "adm.t_int", "adm"),
        ("adm.emb32_float", "adm.t_float", "adm"),
        ("ddpm.emb32", "ddpm.t", "ddpm"),
        ("ddpm.emb33", "ddpm.t", "ddpm"),
        ("ddpm.emb128", "ddpm.t", "ddpm"),
    ],
)
def test_timestep_embedding(name, noise, convention):
    """An ulp in a rate moves the sine of an angle near 999 by 6e-5; here the rates agree to the last bit."""
    expected = SINUSOIDS[name]
    found = timestep_embedding(SINUSOIDS[noise], expected.shape[1], convention)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (found - expected).norm() < 1e-5 * expected.norm()
