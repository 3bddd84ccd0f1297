"""Files as others publish them: told by their tensors' names and shapes, and the same function as in their own code."""

import json
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.networks.weights import seeded
from undiffuse.checkpoints import NoisyClassifierConfig, load, load_classifier, parse_given, save
from undiffuse.checkpoints.formats import describe, fitted
from undiffuse.checkpoints.known import known
from undiffuse.checkpoints.weights import Weights, open_weights
from undiffuse.networks import ADMConfig, ClassifierConfig, DDPMConfig
from undiffuse.training.conditioning import enlarged

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = load_file(FOLDER / "published.safetensors")
ADM = load_file(FOLDER / "networks_adm.safetensors")
DDPM = load_file(FOLDER / "networks_ddpm.safetensors")
KEYS = {
    name: {key: tuple(shape) for key, shape in json.loads(zlib.decompress(packed.numpy().tobytes())).items()}
    for name, packed in load_file(FOLDER / "networks_keys.safetensors").items()
}
TINY = dict(width=32, multipliers=(1, 1, 2), blocks=1, attention=(1, 2), learned_variance=True)
UP = dict(in_channels=6, num_classes=5, heads=4)
PUBLISHED = {  # the network's own sizes, its seed, and what a user has to say of the file
    "guided.classes": (
        dict(num_classes=5, head_channels=16, resblock_updown=True, new_attention_order=True), 301,
        "head_channels=16,new_attention_order=true,schedule=cosine",
    ),
    "guided.strided": (dict(heads=2, learned_variance=False), 302, "heads=2,schedule=linear"),
    "guided.upsampler": (dict(resblock_updown=True, **UP), 303, "heads=4,schedule=linear,low_res=sr4"),
    "improved": (dict(heads=4), 304, "heads=4,schedule=cosine,timesteps=4000,time_scale=0.25"),
    "improved.added": (dict(heads=1, scale_shift=False), 305, "heads=1,schedule=linear"),
    "improved.upsampler": (dict(UP), 306, "heads=4,schedule=linear,timesteps=4000,low_res=sr4"),
}  # fmt: skip
TINY_DDPM = DDPMConfig(width=32, multipliers=(1, 1, 2), blocks=1, attention=(1,))


@torch.no_grad()
def written(path, config, seed):
    """A state dict with weights that anyone can draw again."""
    torch.save(seeded(config.build(), seed).state_dict(), path)
    return path


def check(found, expected):
    """Float32 sums in another order: 2e-6 of the norm."""
    assert (found - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_the_loaded_network_is_the_published_one(tmp_path, name):
    sizes, seed, options = PUBLISHED[name]
    path = written(tmp_path / "m.pt", ADMConfig(**{**TINY, **sizes}), seed)
    found = load(path, parse_given(options))
    x, labels = GOLDEN["x"], GOLDEN["labels"] if "num_classes" in sizes else None
    if "low_res" in options:
        assert found.prior.conditions == 3 and found.config.low_res == "sr4"
        x = torch.cat((x, enlarged(GOLDEN["low"], (3, 16, 16))), 1)
    assert found.prior.num_classes == sizes.get("num_classes") and found.prior.channels == 3
    check(found.prior.net(x, GOLDEN["t"], labels), GOLDEN[name])


@pytest.mark.parametrize("rescaled", [True, False])
@torch.no_grad()
def test_the_estimate_is_the_published_one_whatever_timesteps_the_network_is_told(tmp_path, rescaled):
    """x0 from x_t at 500 and 3000 of 4000 steps; x = x_t / sqrt(abar) here."""
    path = written(tmp_path / "m.pt", ADMConfig(**TINY, heads=4), 304)
    scale = 0.25 if rescaled else 1
    prior = load(path, parse_given(f"heads=4,schedule=cosine,timesteps=4000,time_scale={scale}")).prior
    abar = GOLDEN["improved.abar"].reshape(-1, 1, 1, 1)
    sigma, x = ((1 - abar) / abar).sqrt().float(), (GOLDEN["x"].double() / abar.sqrt()).float()
    found, expected = prior(x, sigma), GOLDEN[f"improved.x0_rescale{int(rescaled)}"]
    # x0 is a difference of terms of size sigma: their rounding is what is left. Their schedule is float64, cast late.
    assert (
        (found - expected).abs() < 1e-5 * (1 + sigma) * expected.abs().amax((1, 2, 3), keepdim=True)
    ).all()


@torch.no_grad()
def test_ddpm(tmp_path):
    path = written(tmp_path / "m.ckpt", TINY_DDPM, 201)
    check(load(path, parse_given("schedule=linear")).prior.net(DDPM["x"], DDPM["t"]), DDPM["out"])


@pytest.mark.parametrize(
    ("pool", "seed", "options"),
    [
        ("attention", 110, "heads=2,schedule=linear"),
        ("adaptive", 111, "head_channels=16,schedule=linear,size=16"),
        ("spatial", 112, "head_channels=16,schedule=linear,size=16"),
    ],
)
@torch.no_grad()
def test_classifiers(tmp_path, pool, seed, options):
    """Logits of the reference. The pool attends with as many heads as the last level."""
    sizes = dict(width=32, multipliers=(1, 2), blocks=1, attention=(1,), head_channels=16, size=16)
    path = written(tmp_path / "c.pt", ClassifierConfig(**sizes, pool=pool, num_classes=7), seed)
    if pool == "attention":
        with pytest.raises(ValueError, match="heads.*undiffuse priors convert"):
            load_classifier(path, parse_given("schedule=linear"))
        options = "head_channels=16,schedule=linear"
    classifier, config, _ = load_classifier(path, parse_given(options))
    assert isinstance(config, NoisyClassifierConfig) and config.num_classes == 7 and config.size == (16, 16)
    check(classifier.net(ADM["plain.x"], ADM["plain.t"]), ADM[f"classifier.{pool}"])
    with pytest.raises(ValueError, match="is a classifier"):
        load(path, parse_given(options))


@pytest.mark.parametrize("renamed", [False, True])
@pytest.mark.parametrize("name", KEYS)
def test_every_tensor_of_the_published_files_is_used(name, renamed):
    """Without an option: heads, order and schedule come from the table, by name or by shapes."""
    tensors = {key: torch.empty(shape, device="meta") for key, shape in KEYS[name].items()}
    weights = Weights(Path("mine.pt" if renamed else name), tensors)
    found = describe(weights, parse_given(None))
    assert not found.missing and found.config is not None
    assert set(found.tensors) == set(tensors)
    with torch.device("meta"):
        net = found.config.build_network()
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == KEYS[name]
    expected = next((file for file in known().values() if file.is_named(Path(name))), None)
    if expected is None:  # the table of shapes calls CIFAR-10's by another name
        assert name == "cifar10.ckpt"
        return
    for key, value in expected.network.items():
        assert found.config.network[key] == value
    assert found.config.schedule == expected.schedule and found.config.timesteps == expected.timesteps
    assert found.config.size == (expected.size, expected.size)
    assert ("known" in found.facts) != renamed


@pytest.mark.parametrize("name", known())
def test_every_known_file_is_told_by_its_own_shapes(name):
    file = known()[name]
    config = {"adm": ADMConfig, "ddpm": DDPMConfig, "classifier": ClassifierConfig}
    sizes = {key: tuple(v) if isinstance(v, list) else v for key, v in file.network.items() if key != "name"}
    kind = file.network.get("name", {"adm": "adm", "ho_ddpm": "ddpm"}[file.format])
    with torch.device("meta"):
        net = config[kind](**sizes).build()
    assert sum(value.numel() for value in net.parameters()) == file.parameters
    found = describe(Weights(Path(file.files[0]), dict(net.state_dict())), parse_given(None))
    assert found.config is not None and found.facts["known"] == name
    assert fitted(Path(name), found.config, found.tensors).config == net.config


WRAPPED = {
    "list": lambda raw, ema: [raw, {"state": {}, "param_groups": []}, 3, 100, ema],
    "list without average": lambda raw, ema: [ema, {"state": {}}, 3, 100],
    "module": lambda raw, ema: {f"module.{key}": value for key, value in ema.items()},
    "list of module": lambda raw, ema: [{f"module.{k}": v for k, v in raw.items()}, {}, 3, 100, ema],
    "ema": lambda raw, ema: {"step": 3, "model": raw, "ema": ema, "opt": {"state": {}}},
    "state_dict": lambda raw, ema: {"epoch": 3, "state_dict": {f"model.{k}": v for k, v in ema.items()}},
    "ema_pytorch": lambda raw, ema: {
        "step": 3,
        "ema": {
            "initted": torch.tensor(True),
            **{f"online_model.{k}": v for k, v in raw.items()},
            **{f"ema_model.{k}": v for k, v in ema.items()},
        },
    },
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapping", WRAPPED)
@torch.no_grad()
def test_averaged_weights_are_found_in_whatever_they_are_wrapped_in(tmp_path, wrapping, zipped):
    ema = seeded(TINY_DDPM.build(), 201).state_dict()
    raw = {key: torch.full_like(value, 0.0625) for key, value in ema.items()}
    torch.save(WRAPPED[wrapping](raw, ema), tmp_path / "m.ckpt", _use_new_zipfile_serialization=zipped)
    found = load(tmp_path / "m.ckpt", parse_given("schedule=linear"))
    check(found.prior.net(DDPM["x"], DDPM["t"]), DDPM["out"])
    if wrapping in ("list", "ema", "ema_pytorch"):
        other = load(tmp_path / "m.ckpt", parse_given("schedule=linear,weights=raw")).prior.net
        assert all((value == 0.0625).all() for value in other.state_dict().values())
        assert any("EMA" in line or "ema" in line for line in found.told)


def test_a_safetensors_file_of_others(tmp_path):
    from safetensors.torch import save_file

    save_file(seeded(TINY_DDPM.build(), 201).state_dict(), tmp_path / "m.safetensors")
    found = load(tmp_path / "m.safetensors", parse_given("schedule=linear,size=32"))
    assert found.config.size == (32, 32)
    save(tmp_path / "ours.safetensors", found.prior, found.config, found.facts)
    again = load(tmp_path / "ours.safetensors")
    assert again.config == found.config and list(again.facts["told"]) == list(found.told)
    for name, value in found.prior.net.state_dict().items():
        assert torch.equal(again.prior.net.state_dict()[name], value)


def test_half_precision_in_parts_is_float32_once_loaded(tmp_path):
    """As guided-diffusion's use_fp16 leaves them."""
    state = seeded(ADMConfig(**TINY, heads=4).build(), 304).state_dict()
    torch.save({k: v.half() if "blocks" in k else v for k, v in state.items()}, tmp_path / "m.pt")
    assert open_weights(tmp_path / "m.pt").dtypes == ("float16", "float32")
    prior = load(tmp_path / "m.pt", parse_given("heads=4,schedule=cosine")).prior
    assert {value.dtype for value in prior.net.parameters()} == {torch.float32}


def test_what_tensors_do_not_tell_has_to_be_said(tmp_path):
    path = written(tmp_path / "m.pt", ADMConfig(**TINY, heads=4), 304)
    for options, said in (
        (None, "heads=4, or head_channels=64"),
        ("heads=4", "schedule=linear"),
        ("heads=4,head_channels=16,schedule=linear", "give one of them"),
        ("heads=3,schedule=linear", "3 heads do not divide"),
        ("heads=4,schedule=linear,channels=2", "expected C or 2 C"),
        ("heads=4,schedule=linear,low_res=sr4", "leave it out"),
        ("heads=4,schedule=linear,blocks=3", "leave it out"),
        ("heads=4,schedule=lineal", "schedule"),
        ("heads=4,schedule", "expected key=value"),
        ("heads=4,heads=2", "each key once"),
        ("depth=3", "no option 'depth'"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            load(path, parse_given(options))
        assert "\n" not in str(error.value)


def test_options_of_a_file_of_ours_are_refused(tmp_path):
    found = load(written(tmp_path / "m.ckpt", TINY_DDPM, 201), parse_given("schedule=linear"))
    save(tmp_path / "a.safetensors", found.prior, found.config, {})
    with pytest.raises(ValueError, match="tells all itself"):
        load(tmp_path / "a.safetensors", parse_given("schedule=linear"))


def test_a_file_that_does_not_fit_is_compared_with_the_nearest_known_one(tmp_path):
    whole = {key: torch.empty(shape, device="meta") for key, shape in KEYS["cifar10.ckpt"].items()}
    other = {**whole, "conv_in.weight": torch.empty(128, 3, 5, 5, device="meta")}
    found = describe(Weights(Path("x.ckpt"), other), parse_given("schedule=linear"))
    with pytest.raises(
        ValueError, match="nearest known file is ema_cifar10: 327 of 328 tensors agree"
    ) as error:
        fitted(Path("x.ckpt"), found.config, found.tensors)
    assert "conv_in.weight is (128, 3, 5, 5), expected (128, 3, 3, 3)" in str(error.value)
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"of no known form: .*a\.weight"):
        load(tmp_path / "a.pt")


def test_what_is_given_goes_before_the_table():
    """And the rest is said to come from it."""
    tensors = {key: torch.empty(shape, device="meta") for key, shape in KEYS["256x256_diffusion.pt"].items()}
    found = describe(Weights(Path("mine.pt"), tensors), parse_given("heads=8,schedule=cosine"))
    assert found.config.network["heads"] == 8 and found.config.network.get("head_channels") is None
    assert found.config.schedule == "cosine" and "heads: 8 (given)" in found.told
    assert any("256x256_diffusion, which has the same shapes" in line for line in found.told)
