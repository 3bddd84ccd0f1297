"""Folders of diffusers: what comes from there computes the same here, and what goes there computes the same there."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.small import prior_of
from undiffuse.checkpoints import PriorConfig, load
from undiffuse.checkpoints.diffusers import export
from undiffuse.checkpoints.diffusers.keys import to_ours, to_theirs
from undiffuse.checkpoints.diffusers.scheduler import schedule_of, scheduler_of
from undiffuse.checkpoints.diffusers.unet import network_of, unet_of
from undiffuse.checkpoints.facts import Given
from undiffuse.checkpoints.native import Checkpoint
from undiffuse.networks import ADMConfig, DDPMConfig

needs_diffusers = pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="no diffusers")
ROUNDING = 1e-5  # of answers of size 2 to 4 in float32; at t = 999 the sinusoids alone differ by 3e-5

DDPM = {"name": "ddpm", "width": 16, "multipliers": [1, 1.5], "blocks": 1, "attention": [1], "groups": 8}
ADM = {
    "name": "adm", "width": 16, "multipliers": [1, 2, 2], "blocks": 1, "attention": [0, 2], "groups": 8,
    "head_channels": 8, "new_attention_order": True,
}  # fmt: skip
NETWORKS = {
    "ddpm": DDPM,
    "ddpm, classes, variance": {
        **DDPM,
        "blocks": 2,
        "attention": [0],
        "learned_variance": True,
        "num_classes": 3,
    },
    "adm": {**ADM, "resblock_updown": True, "learned_variance": True},
    "adm, strided": {**ADM, "blocks": 2, "new_attention_order": False, "num_classes": 4, "null_class": True},
    "adm, one head": {**ADM, "head_channels": None, "heads": 1, "scale_shift": False},
}
# config.json as published: google/ddpm-celebahq-256, -church-256, -cat-256 and -bedroom-256 have one network.
PLAIN = {
    "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu", "attention_head_dim": None,
    "center_input_sample": False, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3,
    "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-6, "norm_num_groups": 32, "out_channels": 3,
    "time_embedding_type": "positional",
}  # fmt: skip
PUBLISHED = {
    256: {
        **PLAIN,
        "block_out_channels": [128, 128, 256, 256, 512, 512],
        "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
        "sample_size": 256,
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4],
    },
    32: {
        **PLAIN,
        "block_out_channels": [128, 256, 256, 256],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "sample_size": 32,
        "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    },
}
SCHEDULER = {
    "_class_name": "DDPMScheduler", "_diffusers_version": "0.1.1", "beta_end": 0.02, "beta_schedule": "linear",
    "beta_start": 0.0001, "clip_sample": True, "num_train_timesteps": 1000, "trained_betas": None,
    "variance_type": "fixed_large",
}  # fmt: skip


@pytest.fixture(scope="module")
def diffusers():
    """The package; a torchvision made for another torch is given the operators that it does not import without."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for op in ("nms", "qnms"):
            library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import diffusers as package
    from diffusers import DDPMPipeline, UNet2DModel  # noqa: F401

    package.utils.logging.set_verbosity_error()
    package.utils.logging.disable_progress_bar()
    return package


def checkpoint(network, seed=0, **values) -> Checkpoint:
    """A prior of random weights."""
    told = {"prediction": "eps", "schedule": "linear", "channels": 3, "size": (16, 16), **values}
    classes = {key: network[key] for key in ("num_classes", "null_class") if key in network}
    config = PriorConfig(network=network, **classes, **told)
    return Checkpoint(prior_of(config, seed), config, {"licence": "CC0", "steps": 3})


def labels_of(config, n):
    return None if config.num_classes is None else torch.arange(n) % config.num_classes


def folder_of(path: Path, unet, tensors, scheduler=SCHEDULER, name="diffusion_pytorch_model.safetensors"):
    """A bare model folder."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(unet))
    if scheduler is not None:
        (path / "scheduler_config.json").write_text(json.dumps(scheduler))
    if name.endswith(".bin"):
        torch.save(tensors, path / name)
    else:
        save_file(tensors, path / name)
    return path


@needs_diffusers
@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_the_exported_network_answers_the_same(tmp_path, diffusers, network):
    kept = checkpoint(network)
    export(kept, tmp_path / "out")
    theirs = diffusers.UNet2DModel.from_pretrained(tmp_path / "out" / "unet").eval()
    x, t = (
        torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0.0, 500, 999]),
    )
    labels = labels_of(kept.config, 3)
    with torch.no_grad():
        ours = kept.prior.net(x, t, labels)
        assert (theirs(x, t, class_labels=labels).sample - ours).abs().max() < ROUNDING
    assert ours.abs().max() > 1


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_import_is_the_inverse_of_export(tmp_path, network):
    """Bit by bit: their tensors always come back, and ours where q, k and v lie in the order of theirs."""
    kept = checkpoint(network)
    export(kept, tmp_path / "a")
    given = Given(null_class=True) if network.get("null_class") else None
    found = load(tmp_path / "a", given)
    export(found, tmp_path / "b")
    a, b = (load_file(tmp_path / x / "unet" / "diffusion_pytorch_model.safetensors") for x in "ab")
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    if network.get("new_attention_order", True):
        ours, again = kept.prior.net.state_dict(), found.prior.net.state_dict()
        assert ours.keys() == again.keys() and all(torch.equal(ours[key], again[key]) for key in ours)
    x, labels = torch.zeros(2, 3, 16, 16), labels_of(kept.config, 2)
    with torch.no_grad():  # the same products in the same order, but of matrices whose rows may lie elsewhere
        assert (
            found.prior(x + 1, torch.tensor(3.0), labels) - kept.prior(x + 1, torch.tensor(3.0), labels)
        ).abs().max() < 1e-5
    assert found.facts["licence"] == "CC0" and found.config.size == (16, 16)
    for part in ("scheduler/scheduler_config.json", "unet/config.json", "model_index.json"):
        assert (tmp_path / "a" / part).read_text() == (tmp_path / "b" / part).read_text()


@needs_diffusers
@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_the_pipeline_takes_the_steps_that_ours_takes(tmp_path, diffusers, prediction):
    """DDPMPipeline runs; and the mean of a step of theirs, without its noise, is that of our x0."""
    kept = checkpoint(DDPM, prediction=prediction)
    export(kept, tmp_path / "out")
    pipe = diffusers.DDPMPipeline.from_pretrained(tmp_path / "out")
    pipe.set_progress_bar_config(disable=True)
    pictures = pipe(batch_size=2, num_inference_steps=3, output_type="np").images
    assert pictures.shape == (2, 16, 16, 3)
    scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(1000)
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    for t in (0, 300, 999):
        sigma = kept.config.discrete().sigmas[t].float()
        with torch.no_grad():
            told = scheduler.step(pipe.unet(x, t).sample, t, x).pred_original_sample
            ours = kept.prior(x * (1 + sigma.square()).sqrt(), sigma)
        # their abar is float32: x0 = (x_t - sqrt(1 - abar) n) / sqrt(abar) magnifies its rounding by sigma, up to 157
        assert (told - ours).abs().max() < ROUNDING * max(1.0, 3 * float(sigma))


@needs_diffusers
@pytest.mark.parametrize("size", PUBLISHED)
def test_published_configurations(diffusers, size):
    """The network has the published number of parameters, and a place for each of diffusers' tensors."""
    sizes = network_of(PUBLISHED[size])
    with torch.device("meta"):
        net = DDPMConfig(**{key: value for key, value in sizes.items() if key != "name"}).build()
        theirs = diffusers.UNet2DModel.from_config(PUBLISHED[size]).state_dict()
    assert sum(p.numel() for p in net.parameters()) == {256: 113_673_219, 32: 35_746_307}[size]
    assert to_ours(net, theirs).keys() == net.state_dict().keys()
    back = unet_of(net, (size, size))
    for key, value in PUBLISHED[size].items():
        if key != "_diffusers_version":
            assert back[key] == value, key


THEIRS = {
    "examples": {},  # as examples/unconditional_image_generation makes it: every other setting is the class's default
    "resnet": {
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "downsample_type": "resnet", "upsample_type": "resnet", "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 8, "num_class_embeds": 3,
    },
    "published": {
        "attention_head_dim": None, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1,
        "norm_eps": 1e-6,
    },
}  # fmt: skip


@needs_diffusers
@pytest.mark.parametrize("settings", THEIRS.values(), ids=list(THEIRS))
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_what_diffusers_saves_answers_the_same_here(tmp_path, diffusers, settings, safe):
    given = {
        "sample_size": 16, "block_out_channels": (16, 32), "norm_num_groups": 8, "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    torch.manual_seed(0)
    net = diffusers.UNet2DModel(**{**given, **settings}).eval()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn_like(p)  # biases and gains are 0 and 1 otherwise
    scheduler = diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    diffusers.DDPMPipeline(net, scheduler).save_pretrained(tmp_path / "a", safe_serialization=safe)
    found = load(tmp_path / "a")
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([0.0, 500, 999])
    labels = torch.arange(3) if "num_class_embeds" in settings else None
    with torch.no_grad():
        ours, theirs = found.prior.net(x, t, labels), net(x, t, class_labels=labels).sample
    assert (ours - theirs).abs().max() < ROUNDING and theirs.abs().max() > 0.5
    assert found.config.schedule == "cosine" and found.config.num_classes == (None if labels is None else 3)


def test_older_names_and_pickles(tmp_path):
    """Attention was called query, key, value and proj_attn until version 0.15."""
    kept = checkpoint(ADM)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, value in to_theirs(kept.prior.net).items():
        for new, former in old.items():
            name = name.replace(f".{new}.", f".{former}.")
        tensors[name] = value
    assert any("proj_attn" in name for name in tensors)
    unet = unet_of(kept.prior.net, (16, 16))
    found = load(folder_of(tmp_path / "old", unet, tensors, name="diffusion_pytorch_model.bin"))
    ours = kept.prior.net.state_dict()
    assert all(torch.equal(value, ours[key]) for key, value in found.prior.net.state_dict().items())


SCHEDULERS = {
    "linear": {},
    "linear, other ends": {"beta_start": 0.0005, "beta_end": 0.01},
    "linear, 500": {"num_train_timesteps": 500},
    "scaled": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 400},
    "sigmoid": {"beta_schedule": "sigmoid", "beta_end": 0.01},
    "no signal": {
        "rescale_betas_zero_snr": True,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
    },
}


@needs_diffusers
@pytest.mark.parametrize("told", SCHEDULERS.values(), ids=list(SCHEDULERS))
def test_schedules(diffusers, told):
    """Levels of noise as diffusers has them, and back to a file that says the same."""
    given = dict(diffusers.DDPMScheduler(**told).config) | {"_class_name": "DDPMScheduler"}
    config = checkpoint(DDPM, **schedule_of(given)).config
    theirs = diffusers.DDPMScheduler(**told).alphas_cumprod.double()
    theirs = theirs[:-1] if told.get("rescale_betas_zero_snr") else theirs
    ours = config.discrete().alphas_cumprod
    # theirs are float32 products of T factors, each rounded by 6e-8; rescaled ones are differences of small numbers
    assert ((ours - theirs) / theirs).abs().max() < (2e-3 if told.get("rescale_betas_zero_snr") else 1e-4)
    assert schedule_of(scheduler_of(config, False)) == schedule_of(given)
    assert all(scheduler_of(config, False)[key] == pytest.approx(value) for key, value in told.items())


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"norm_eps": 1e-5}, "norm_eps = 1e-05"),
        ({"flip_sin_to_cos": True}, "flip_sin_to_cos"),
        ({"attention_head_dim": 8}, "attention_head_dim = 8"),
        ({"downsample_padding": 1}, "downsample_padding"),
        ({"center_input_sample": True}, "center_input_sample"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type"),
        ({"mid_block_scale_factor": 1.4142}, "mid_block_scale_factor"),
        ({"mid_block_type": None}, "mid_block_type = null"),
        ({"add_attention": False}, "add_attention"),
        ({"act_fn": "gelu"}, "act_fn"),
        ({"class_embed_type": "timestep"}, "class_embed_type"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ({"out_channels": 4}, "out_channels"),
        ({"in_channels": 1e9}, "in_channels"),
        ({"block_out_channels": "128"}, "block_out_channels"),
        ({"block_out_channels": [128] * 5}, "down_block_types"),
        ({"down_block_types": ["KDownBlock2D"] * 6}, "KDownBlock2D"),
        ({"down_block_types": ["SkipDownBlock2D"] * 6}, "SkipDownBlock2D"),
        ({"down_block_types": [*["ResnetDownsampleBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"]}, "conv and resnet"),
        ({"up_block_types": ["UpBlock2D"] * 6}, "up_block_types"),
        ({"downsample_type": "fir"}, "fir"),
        ({"time_embedding_dim": 128}, "time_embedding_dim"),
        ({"encoder_hid_dim": 3}, "encoder_hid_dim"),
        ({"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_what_cannot_be_had_exactly_is_refused_by_name(tmp_path, setting, said):
    folder = folder_of(tmp_path / "a", {**PUBLISHED[256], **setting}, {"conv_in.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=said) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_a_middle_without_normalisation_is_refused():
    """With scale_shift and no attn_norm_num_groups diffusers leaves a normalisation out, and says so nowhere."""
    with torch.device("meta"):
        told = unet_of(ADMConfig(**{key: ADM[key] for key in ADM if key != "name"}).build(), None)
    assert told["attn_norm_num_groups"] == 8 and network_of(told)["groups"] == 8
    with pytest.raises(ValueError, match="attn_norm_num_groups = null"):
        network_of({**told, "attn_norm_num_groups": None})


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"_class_name": "ScoreSdeVeScheduler"}, "ScoreSdeVeScheduler"),
        ({"_class_name": None}, "_class_name"),
        ({"beta_schedule": "laplace"}, "laplace"),
        ({"beta_schedule": ["linear"]}, "beta_schedule"),
        ({"prediction_type": "flow_prediction"}, "flow_prediction"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas"),
        ({"num_train_timesteps": 10**9}, "timesteps"),
        ({"beta_end": 1.5}, "beta_end"),
    ],
)
def test_schedulers_that_are_not_known(tmp_path, setting, said):
    unet = unet_of(prior_of(checkpoint(DDPM).config).net, None)
    folder = folder_of(tmp_path / "a", unet, to_theirs(checkpoint(DDPM).prior.net), {**SCHEDULER, **setting})
    with pytest.raises(ValueError, match=said):
        load(folder)


def test_without_a_scheduler_the_user_says_it(tmp_path):
    kept = checkpoint(DDPM)
    folder = folder_of(tmp_path / "a", unet_of(kept.prior.net, None), to_theirs(kept.prior.net), None)
    with pytest.raises(ValueError, match="schedule=linear"):
        load(folder)
    assert load(folder, Given(schedule="cosine", prediction="v")).config.prediction == "v"
    with_one = folder_of(tmp_path / "b", unet_of(kept.prior.net, None), to_theirs(kept.prior.net))
    with pytest.raises(ValueError, match="tells it itself"):
        load(with_one, Given(schedule="cosine"))


def test_broken_folders(tmp_path):
    kept = checkpoint(DDPM)
    unet, tensors = unet_of(kept.prior.net, (16, 16)), to_theirs(kept.prior.net)
    for name, spoilt, said in (
        ("missing", {key: value for key, value in tensors.items() if "mid_block" not in key}, "mid_block"),
        ("more", {**tensors, "extra.weight": torch.zeros(2)}, "extra.weight"),
        ("shape", {**tensors, "conv_out.bias": torch.zeros(4)}, "conv_out.bias"),
        (
            "turned",
            {**tensors, "conv_in.weight": tensors["conv_in.weight"].transpose(0, 1).contiguous()},
            "conv_in",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            load(folder_of(tmp_path / name, unet, spoilt))
    folder = folder_of(tmp_path / "json", unet, tensors)
    for text, said in (("[" * 100_000, "no JSON"), ("[]", "no object"), (" " * 2**21, "more than")):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=said):
            load(folder)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match="no weights"):
        load(folder)
    (folder / "config.json").unlink()
    (folder / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="unet/config.json"):
        load(folder)


@pytest.mark.parametrize(
    ("network", "values", "said"),
    [
        ({**ADM, "head_channels": None, "heads": 2}, {}, "attention_head_dim"),
        ({**ADM, "multipliers": [0.5, 1, 1]}, {}, "first level has 8"),
        (DDPM, {"schedule": None, "prediction": "edm"}, "prediction edm"),
        (DDPM, {"schedule": "cos6"}, "cos6"),
        (DDPM, {"time_scale": 0.25}, "time_scale"),
        ({"name": "photo", "widths": [8, 8], "blocks": 1, "groups": 4, "embedding": 8}, {"prediction": "edm"}, "photo"),
    ],
)  # fmt: skip
def test_what_diffusers_cannot_say_is_not_exported(tmp_path, network, values, said):
    kept = checkpoint(network, **values)
    with pytest.raises(ValueError, match=said):
        export(kept, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(ValueError, match="not empty"):
        export(checkpoint(DDPM), tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "kept"


HOSTILE = (
    [],
    {},
    [[]] * 3,
    "x",
    "",
    -1,
    0,
    True,
    None,
    10**30,
    -0.5,
    float("nan"),
    float("inf"),
    [10**9] * 40,
)


@pytest.mark.parametrize(
    "name", [*PUBLISHED[256], "dropout", "num_class_embeds", "upsample_type", "downsample_type"]
)
def test_any_value_of_any_setting_is_taken_or_refused(tmp_path, name):
    """With the right tensors beside it, so that nothing else is wrong."""
    folder = folder_of(tmp_path / "a", PUBLISHED[256], {"conv_in.weight": torch.zeros(1)})
    for value in HOSTILE:
        (folder / "config.json").write_text(json.dumps({**PUBLISHED[256], name: value}))
        with pytest.raises(ValueError) as error:
            load(folder)
        assert "\n" not in str(error.value) and len(str(error.value)) < 1000


@pytest.mark.parametrize("name", [*SCHEDULER, "prediction_type", "rescale_betas_zero_snr", "predict_epsilon"])
def test_any_value_of_any_setting_of_a_scheduler(tmp_path, name):
    kept = checkpoint(DDPM)
    folder = folder_of(tmp_path / "a", unet_of(kept.prior.net, (16, 16)), to_theirs(kept.prior.net))
    for value in HOSTILE:
        (folder / "scheduler_config.json").write_text(json.dumps({**SCHEDULER, name: value}))
        try:
            load(folder)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000
