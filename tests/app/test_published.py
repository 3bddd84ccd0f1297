"""Published files from the command line: inspected, converted, restored with and drawn from."""

import json

import pytest
import torch

from tests.networks.weights import seeded
from tests.pictures import photograph
from undiffuse.app.priors import open_prior
from undiffuse.checkpoints import load, load_classifier, parse_given, save
from undiffuse.core.images import read, write
from undiffuse.metrics import psnr
from undiffuse.networks import ADMConfig, ClassifierConfig, DDPMConfig

ADM = ADMConfig(width=32, multipliers=(1, 1), blocks=1, attention=(1,), heads=2, learned_variance=True)
UPSAMPLER = ADMConfig(
    width=32, multipliers=(1, 1), blocks=1, attention=(1,), in_channels=6, num_classes=3, heads=2
)
CLASSIFIER = ClassifierConfig(
    width=32, multipliers=(1, 1), blocks=1, attention=(1,), head_channels=16, size=16, num_classes=3
)
SAID = "heads=2,schedule=linear"


@torch.no_grad()
def published(path, config, seed=1):
    torch.save(seeded(config.build(), seed).state_dict(), path)
    return path


def test_inspect_says_what_is_known_and_what_is_missing(undiffuse, tmp_path):
    path = published(tmp_path / "ema_0.9999_100.pt", ADM)
    done = undiffuse("priors", "inspect", path)
    assert done.code == 0
    for line in (
        "form: ADM", "width 32 times 1 1, 1 blocks a level", "channels: 3", "answers with: noise and its variance",
        "classes: none", "averaged (EMA), by the file's name", "float32", "sha256 ",
        "missing, for --prior-options: heads=4, or head_channels=64; schedule=linear",
    ):  # fmt: skip
        assert line in done.out
    done = undiffuse("priors", "inspect", path, "--prior-options", SAID)
    assert done.code == 0 and "missing" not in done.out and "heads: 2 (given)" in done.out
    done = undiffuse("priors", "inspect", __file__)
    assert done.code == 2 and done.err.count("\n") == 1 and "cannot be read" in done.err


@pytest.mark.parametrize("config", [ADM, UPSAMPLER])
def test_inspect_finds_what_does_not_fit_before_options_are_given(undiffuse, tmp_path, config):
    path = published(tmp_path / "m.pt", config)
    assert "missing, for --prior-options: heads" in undiffuse("priors", "inspect", path).out
    state = torch.load(path)
    del state["middle_block.0.in_layers.2.bias"]
    torch.save(state, path)
    done = undiffuse("priors", "inspect", path)
    assert done.code == 2 and "middle_block.0.in_layers.2.bias is missing, expected (32,)" in done.err


def test_priors_and_classifiers_of_ours_are_told_apart(undiffuse, tmp_path):
    prior, judge = tmp_path / "p.safetensors", tmp_path / "c.safetensors"
    for made, config in ((prior, ADM), (judge, CLASSIFIER)):
        said = "schedule=linear," + ("heads=2" if made == prior else "head_channels=16")
        path = published(tmp_path / f"{made.stem}.pt", config)
        assert undiffuse("priors", "convert", path, made, "--prior-options", said).code == 0
    with pytest.raises(ValueError, match="is a classifier, no prior; give it with --classifier"):
        load(judge)
    with pytest.raises(ValueError, match="is a prior, no classifier; give it with --prior"):
        load_classifier(prior)


def test_inspect_refuses_a_schedule_that_is_none(undiffuse, tmp_path):
    path = published(tmp_path / "m.pt", ADM)
    for said in ("heads=2,schedule=cosine,beta_start=0.1", "heads=2,schedule=linear,timesteps=10"):
        done = undiffuse("priors", "inspect", path, "--prior-options", said)
        assert done.code == 2 and "beta" in done.err and "sha256" not in done.out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_converted_file_needs_no_options(undiffuse, tmp_path, precision):
    path, out = published(tmp_path / "m.pt", ADM), tmp_path / "m.safetensors"
    command = ("priors", "convert", path, out, "--prior-options", SAID + ",size=16", "--precision", precision)
    assert undiffuse(*command).code == 0
    found, expected = load(out), torch.load(path)
    for name, value in found.prior.net.state_dict().items():
        kept = expected[name] if precision == "fp32" else expected[name].bfloat16().float()
        assert torch.equal(value, kept)
    assert found.config.size == (16, 16) and found.config.network["heads"] == 2
    assert found.facts["source"] == "m.pt" and len(found.facts["source_sha256"]) == 64
    assert "learned_variance True" in undiffuse("priors", "inspect", out).out
    again = undiffuse(*command)
    assert again.code == 2 and "exists already" in again.err


def test_a_converted_file_goes_into_a_folder(undiffuse, tmp_path):
    command = ("priors", "convert", published(tmp_path / "m.pt", ADM), tmp_path / "new")
    refused = undiffuse(*command)
    assert refused.code == 2 and not (tmp_path / "new").exists()
    assert undiffuse(*command, "--prior-options", SAID).code == 0
    assert load(tmp_path / "new" / "m.safetensors").config.network["heads"] == 2
    again = undiffuse(*command, "--prior-options", SAID)
    assert again.code == 2 and "exists already" in again.err


def test_names_are_inspected_and_converted(undiffuse, tmp_path, monkeypatch):
    """Built in, or pulled. A file of that name goes first, as with --prior."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "shelf"))
    assert "form: undiffuse prior 1" in undiffuse("priors", "inspect", "photo-small").out
    done = undiffuse("priors", "convert", "photo-small", "new")
    assert done.code == 0 and load("new/photo-small.safetensors").config == open_prior("photo-small").config
    done = undiffuse("priors", "inspect", "celeba_hq")
    assert done.code == 2 and "run undiffuse priors pull celeba_hq" in done.err
    (tmp_path / "shelf/celeba_hq").mkdir(parents=True)
    published(tmp_path / "shelf/celeba_hq/celeba_hq.ckpt", ADM)
    for command in (("inspect", "celeba_hq"), ("convert", "celeba_hq", "new")):
        done = undiffuse("priors", *command, "--prior-options", SAID)
        assert done.code == 0 and "celeba_hq" in done.out
    assert (tmp_path / "new/celeba_hq.safetensors").is_file()
    published(tmp_path / "celeba_hq", UPSAMPLER)
    assert "low_res=sr4, what made the small picture" in undiffuse("priors", "inspect", "celeba_hq").out
    for name, said in (("photo-gaussian", "without a file of weights"), ("phto", "no prior at 'phto'")):
        done = undiffuse("priors", "inspect", name)
        assert done.code == 2 and said in done.err


def test_diffusers_go_into_a_new_or_empty_folder(undiffuse, tmp_path):
    command = ("priors", "convert", published(tmp_path / "m.pt", ADM), tmp_path / "out", "--to", "diffusers")
    command += ("--prior-options", SAID + ",size=16")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    refused = undiffuse(*command)
    assert refused.code == 2 and "exists already" in refused.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    (tmp_path / "out" / "mine").unlink()
    done = undiffuse(*command)
    assert done.code == 0, done.err
    assert load(tmp_path / "out").config.network["head_channels"] == 16  # 32 channels in two heads


def test_a_classifier_is_converted_too(undiffuse, tmp_path):
    path, out = published(tmp_path / "c.pt", CLASSIFIER), tmp_path / "c.safetensors"
    done = undiffuse("priors", "convert", path, out, "--prior-options", "head_channels=16,schedule=cosine")
    assert done.code == 0 and "new_attention_order: no (not told by the file; as usual)" in done.err
    classifier, config, _ = load_classifier(out)
    assert config.num_classes == 3 and config.schedule == "cosine"
    assert torch.equal(
        classifier.net.state_dict()["out.2.c_proj.weight"], torch.load(path)["out.2.c_proj.weight"]
    )
    assert undiffuse("priors", "inspect", out).code == 0


def test_convert_refuses_before_it_writes(undiffuse, tmp_path):
    path = published(tmp_path / "m.pt", ADM)
    for out, extra, said in (
        ("a.safetensors", (), "heads=4"),
        ("a.pt", ("--prior-options", SAID), "ends in .safetensors"),
        ("a.safetensors", ("--prior-options", SAID, "--to", "onnx"), "'undiffuse' or 'diffusers'"),
        ("a.safetensors", ("--prior-options", SAID, "--precision", "int8"), "'fp32', 'bf16' or 'fp16'"),
    ):
        done = undiffuse("priors", "convert", path, tmp_path / out, *extra)
        assert done.code == 2 and done.err.splitlines()[-1].startswith("error: ") and said in done.err
        assert not (tmp_path / out).exists()


@pytest.mark.parametrize(("precision", "value"), [("fp16", 1e5), ("bf16", 3.4e38)])
def test_numbers_that_a_precision_cannot_hold_are_refused(undiffuse, tmp_path, precision, value):
    path, out = published(tmp_path / "m.pt", ADM), tmp_path / "m.safetensors"
    state = torch.load(path)
    state["out.2.bias"][1] = -value
    state["input_blocks.0.0.bias"][0] = float("inf")  # is so in the file already
    torch.save(state, path)
    command = ("priors", "convert", path, out, "--prior-options", SAID, "--precision")
    done = undiffuse(*command, precision)
    assert done.code == 2 and not out.exists()
    assert f"--precision {precision} cannot hold {value:g}, which is in out.2.bias; use" in done.err
    assert undiffuse(*command, done.err.split()[-1]).code == 0 and load(out).prior.net is not None


def test_a_size_that_the_network_cannot_be_shown_is_refused(undiffuse, tmp_path):
    path, out = published(tmp_path / "m.pt", ADM), tmp_path / "out.safetensors"
    for options in (f"{SAID},size=15", f"{SAID},size=16x15"):
        for command in (("inspect", path), ("convert", path, out)):
            done = undiffuse("priors", *command, "--prior-options", options)
            assert (
                done.code == 2 and "x15; expected sides that 2 divides" in done.err and str(path) in done.err
            )
    assert not out.exists()
    found = load(path, parse_given(f"{SAID},size=16"))
    save(out, found.prior, found.config.model_copy(update={"size": (15, 16)}), {})
    with pytest.raises(ValueError, match=r"out.safetensors.*size 15x16; expected sides that 2 divides"):
        open_prior(str(out))


def test_restoring_with_a_published_file(undiffuse, tmp_path):
    """The facts that were given are said, recorded, and decide whether a folder is done."""
    (tmp_path / "in").mkdir()
    write(photograph(16, 16), tmp_path / "in" / "p.png")
    path, out = published(tmp_path / "m.pt", ADM), tmp_path / "out"
    command = ("restore", tmp_path / "in", "--degrade", "sr2", "--prior", path, "--steps", 2, "--out", out)
    refused = undiffuse(*command)
    assert refused.code == 2 and "heads=4" in refused.err and not out.exists()
    done = undiffuse(*command, "--save", "restored,record", "--prior-options", SAID)
    assert done.code == 0 and "heads: 2 (given)" in done.err
    record = json.loads(next(out.rglob("*.json")).read_text())
    assert (
        record["prior"]["config"]["network"]["heads"] == 2
        and "heads: 2 (given)" in record["prior"]["facts"]["told"]
    )
    first = read(out / "p_restored.png").pixels
    kept = undiffuse(*command, "--save", "restored,record", "--prior-options", SAID)
    assert kept.code == 0 and "1 were there already" in kept.out
    other = undiffuse(*command, "--save", "restored,record", "--prior-options", "heads=4,schedule=linear")
    assert other.code == 0 and "already" not in other.out
    assert not torch.equal(read(out / "p_restored.png").pixels, first)


def test_an_upsampler_enlarges_a_picture(undiffuse, tmp_path):
    path = published(tmp_path / "up.pt", UPSAMPLER)
    write(photograph(8, 8), tmp_path / "small.png")
    said = ("--prior-options", SAID + ",low_res=sr2", "--label", "1", "--steps", 2, "--n", 1)
    done = undiffuse("sample", path, "--low-res", tmp_path / "small.png", "--out", tmp_path / "o", *said)
    assert done.code == 0 and read(tmp_path / "o" / "00000.png").pixels.shape == (3, 16, 16)
    for extra, text in (
        (("--low-res", tmp_path / "small.png", "--noise", 0.1), "without noise only"),
        ((), "give the picture with --low-res"),
        (("--low-res", tmp_path / "small.png", "--size", "32x32"), "gives"),
    ):
        done = undiffuse("sample", path, "--out", tmp_path / "p", *said, *extra)
        assert done.code == 2 and text in done.err


def test_an_upsampler_is_not_given_a_large_picture_by_mistake(undiffuse, tmp_path):
    path = published(tmp_path / "up.pt", UPSAMPLER)
    write(photograph(16, 16), tmp_path / "large.png")
    given = ("--prior-options", SAID + ",low_res=sr2,size=16", "--label", "1", "--steps", 2, "--n", 1)
    command = ("sample", path, "--low-res", tmp_path / "large.png", "--out", tmp_path / "o", *given)
    done = undiffuse(*command)
    assert done.code == 2 and "reduce the picture, or say --size 32x32" in done.err
    assert undiffuse(*command, "--size", "32x32").code == 0


def test_an_upsampler_of_no_known_degradation_is_not_converted(undiffuse, tmp_path):
    path, out = published(tmp_path / "up.pt", UPSAMPLER), tmp_path / "up.safetensors"
    for low_res, code in (("banana", 2), ("sr2", 0)):
        done = undiffuse(
            "priors", "convert", path, out, "--prior-options", f"{SAID},size=16,low_res={low_res}"
        )
        assert done.code == code and out.exists() == (code == 0), done.err
        assert ("no degradation named 'banana'" in done.err) == (code == 2)


def test_an_upsampler_sees_the_picture_bilinearly_enlarged(tmp_path):
    from undiffuse.app.sample.plan import plan
    from undiffuse.config import SampleConfig

    path = published(tmp_path / "up.pt", UPSAMPLER)
    write(photograph(8, 8), tmp_path / "small.png")
    config = SampleConfig(
        prior=str(path), prior_options=SAID + ",low_res=sr2", low_res=tmp_path / "small.png", label="1"
    )
    small = read(tmp_path / "small.png").pixels[None]
    expected = torch.nn.functional.interpolate(small, scale_factor=2, mode="bilinear")
    assert torch.equal(plan(config).cond, expected)


def test_a_pretrained_ddpm_of_the_list_form(undiffuse, tmp_path):
    config = DDPMConfig(width=32, multipliers=(1, 1), blocks=1, attention=(1,))
    state = seeded(config.build(), 1).state_dict()
    torch.save([{k: v * 0 for k, v in state.items()}, {}, 3, 100, state], tmp_path / "ckpt.pth")
    done = undiffuse(
        "sample", tmp_path / "ckpt.pth", "--prior-options", "schedule=linear,size=16", "--n", 1, "--steps", 2,
        "--out", tmp_path / "o",
    )  # fmt: skip
    assert done.code == 0 and "averaged (EMA) weights: item 5 (ema) of the file; item 1 left out" in done.err


def test_half_precision_restores_as_well(undiffuse, tmp_path):
    """Within 0.05 dB, which nobody sees; a network rounded in its last layer would lose decibels."""
    write(photograph(64, 64), tmp_path / "p.png")
    clean, found = read(tmp_path / "p.png").pixels, {}
    for precision in ("fp32", "bf16", "fp16"):
        out = tmp_path / precision
        done = undiffuse(
            "restore", tmp_path / "p.png", "--degrade", "sr2", "--noise", 0.02, "--precision", precision,
            "--prior", "photo", "--algorithm", "dpir", "--steps", 5, "--out", out,
        )  # fmt: skip
        assert done.code == 0
        found[precision] = psnr(read(out / "p_restored.png").pixels[None], clean[None]).item()
    assert max(found.values()) - min(found.values()) < 0.05


@pytest.mark.parametrize(
    "config", [ADM, DDPMConfig(width=32, multipliers=(1, 1), blocks=1, attention=(1,))], ids=["adm", "ddpm"]
)
def test_half_precision_halves_the_weights_and_keeps_first_and_last_layers(tmp_path, config):
    path = published(tmp_path / "m.pt", config)
    options = SAID if isinstance(config, ADMConfig) else "schedule=linear"
    whole, half = (open_prior(str(path), options, precision) for precision in ("fp32", "bf16"))
    types = {name: value.dtype for name, value in half.prior.net.named_parameters()}
    for name, kind in types.items():
        wide = name.split(".")[0] in ("time_embed", "temb", "out", "norm_out", "conv_out")
        assert kind == (torch.float32 if wide else torch.bfloat16)
    x, sigma = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor(0.5)
    with torch.no_grad():
        a, b = whole.prior(x, sigma), half.prior(x, sigma)
    assert a.dtype == b.dtype == torch.float32
    assert 0 < (a - b).norm() < 0.02 * a.norm()  # 8 bits, 2^-8, through some ten layers
    assert whole.mark != half.mark


def test_a_folder_of_mixed_pictures_in_half_precision(undiffuse, tmp_path):
    (tmp_path / "in").mkdir()
    write(photograph(16, 16), tmp_path / "in" / "colour.png")
    write(photograph(16, 16)[:1], tmp_path / "in" / "grey.png")
    done = undiffuse(
        "restore",
        tmp_path / "in",
        "--degrade",
        "sr2",
        "--precision",
        "bf16",
        "--steps",
        2,
        "--out",
        tmp_path / "o",
    )
    assert done.code == 0 and "2 restored" in done.out


def test_what_has_no_network_has_no_precision(undiffuse, tmp_path):
    write(photograph(16, 16), tmp_path / "p.png")
    for extra, said in (
        (("--prior", "photo-gaussian", "--precision", "bf16"), "is no network"),
        (("--prior", "photo", "--precision", "fp8"), "precision"),
        (("--prior", "photo", "--prior-options", "heads=4"), "'photo' has no options"),
    ):
        done = undiffuse("restore", tmp_path / "p.png", "--degrade", "sr2", "--out", tmp_path / "o", *extra)
        assert done.code == 2 and said in done.err and done.err.count("\n") == 1
