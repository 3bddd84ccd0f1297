"""--classifier: guidance of priors with classes, in restore and sample."""

import json

import numpy as np
import pytest
import torch
import yaml

from tests.networks.weights import seeded
from tests.pictures import photograph
from tests.small import CLASSES, PHOTO, changed, stored
from undiffuse.app.priors import denoiser, guided_by, open_prior
from undiffuse.checkpoints import NoisyClassifierConfig, load_classifier, save_classifier
from undiffuse.core.images import read, write
from undiffuse.priors import classifier_guided

JUDGE = NoisyClassifierConfig(
    network={
        "name": "classifier", "width": 8, "multipliers": [1, 2], "blocks": 1, "attention": [1], "groups": 4,
        "head_channels": 8, "in_channels": 1, "num_classes": 3, "size": 8,
    },
    schedule="linear",
    channels=1,
    size=(8, 8),
    num_classes=3,
)  # fmt: skip


def judge(path, config=JUDGE):
    classifier = config.build()
    with torch.no_grad():
        seeded(classifier.net, 3)
    save_classifier(path, classifier, config, {})
    return path


@pytest.fixture
def files(tmp_path):
    """A prior with classes, its classifier, a grey picture."""
    write(photograph(8, 8)[:1], tmp_path / "p.png")
    return stored(tmp_path / "a.safetensors", CLASSES), judge(tmp_path / "c.safetensors"), tmp_path / "p.png"


def test_restore_is_guided_and_says_so(undiffuse, tmp_path, files):
    prior, classifier, picture = files

    def restored(name, *more):
        out = tmp_path / name
        done = undiffuse(
            "restore", picture, "--degrade", "sr2", "--noise", 0.1, "--prior", prior, "--label", "bag",
            "--algorithm", "ddrm", "--steps", 3, "--out", out, *more,
        )  # fmt: skip
        assert done.code == 0, done.err
        return read(out / "p_restored.png").pixels, json.loads((out / "p.json").read_text()), done.err

    plain, record, _ = restored("plain")
    assert "classifier" not in record["prior"]
    nothing, *_ = restored("none", "--classifier", classifier, "--classifier-scale", 0)
    assert torch.equal(plain, nothing)
    guided, record, said = restored("guided", "--classifier", classifier, "--classifier-scale", 30)
    assert not torch.equal(plain, guided)
    assert record["prior"]["classifier"]["scale"] == 30 and len(record["prior"]["classifier"]["sha256"]) == 64
    assert "classifier" in said and "at scale 30" in said


def test_the_gradient_is_taken_at_the_current_picture(files):
    prior, path, _ = files
    opened = guided_by(open_prior(str(prior)), str(path), 2.0)
    classifier = load_classifier(path)[0].eval()
    x, sigma, labels = torch.linspace(-2, 2, 128).reshape(2, 1, 8, 8), torch.tensor(0.7), torch.tensor([1, 1])
    expected = classifier_guided(opened.prior.given(labels), classifier.log_prob(labels), 2.0)
    for now in (x, 0.5 * x):  # nothing is remembered of an earlier picture
        assert torch.equal(denoiser(opened, 1)(now, sigma), expected(now, sigma))


def test_a_folder_is_done_again_for_another_scale(undiffuse, tmp_path, files):
    prior, classifier, picture = files
    (tmp_path / "in").mkdir()
    picture.rename(tmp_path / "in" / "p.png")
    command = (
        "restore", tmp_path / "in", "--degrade", "sr2", "--noise", 0.1, "--prior", prior, "--label", 0, "--steps", 2,
        "--algorithm", "ddrm", "--out", tmp_path / "out", "--classifier", classifier, "--classifier-scale",
    )  # fmt: skip
    assert "1 restored" in undiffuse(*command, 1).out
    assert "0 restored, 1 were there already" in undiffuse(*command, 1).out
    assert "1 restored" in undiffuse(*command, 2).out


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "ancestral"])
def test_sample_is_guided(undiffuse, tmp_path, files, sampler):
    prior, classifier, _ = files
    command = ("sample", prior, "--n", 2, "--steps", 3, "--sampler", sampler, "--label", "1,2")

    def drawn(name, *more):
        done = undiffuse(*command, "--out", tmp_path / name, *more)
        assert done.code == 0, done.err
        return torch.stack([read(tmp_path / name / f"0000{i}.png").pixels for i in (0, 1)])

    plain = drawn("plain")
    assert torch.equal(plain, drawn("none", "--classifier", classifier, "--classifier-scale", 0))
    assert not torch.equal(plain, drawn("guided", "--classifier", classifier, "--classifier-scale", 20))


@pytest.mark.parametrize(
    "prior, more, said",
    [
        ("photo", (), "has no classes"),
        ("a.safetensors", ("--label", "bag", "--classifier", "b.safetensors"), "classes of pictures of"),
        ("a.safetensors", (), "give it with --label"),
        ("wide.safetensors", ("--label", "bag"), "sees 8x8 alone"),
        ("a.safetensors", ("--label", "bag", "--classifier", "a.safetensors"), "is a prior, no classifier"),
        ("a.safetensors", ("--label", "bag", "--classifier", "missing.pt"), "missing.pt"),
        (
            "a.safetensors",
            ("--label", "bag", "--classifier", "turned.safetensors"),
            "has class 1 for coat, and the prior",
        ),
    ],
)
def test_what_cannot_be_guided_is_refused(undiffuse, tmp_path, monkeypatch, files, prior, more, said):
    monkeypatch.chdir(tmp_path)
    stored(tmp_path / "wide.safetensors", changed(CLASSES, size=(16, 16)))
    stored(tmp_path / "small.safetensors", PHOTO)
    other = JUDGE.model_copy(update={"num_classes": 5, "network": {**JUDGE.network, "num_classes": 5}})
    judge(tmp_path / "b.safetensors", other)
    judge(tmp_path / "turned.safetensors", changed(JUDGE, classes=("ankle boot", "coat", "bag")))
    if prior == "photo":
        write(photograph(8, 8), tmp_path / "p.png")
    command = ("restore", "p.png", "--degrade", "sr2", "--prior", prior, "--steps", 2, "--out", "out")
    done = undiffuse(*command, "--classifier", "c.safetensors", *more)
    assert done.code == 2 and said in done.err.splitlines()[-1] and not (tmp_path / "out").exists()


def test_a_scale_without_a_classifier_is_refused(undiffuse, files):
    done = undiffuse(
        "restore", files[2], "--degrade", "sr2", "--prior", files[0], "--label", 0, "--classifier-scale", 2
    )
    assert done.code == 2 and "give it with --classifier" in done.err


def test_one_that_was_trained_makes_pictures_of_its_class(undiffuse, tmp_path, monkeypatch):
    """Dark and bright pictures. The prior's own labels say nothing about them, the classifier's do: it decides."""
    monkeypatch.chdir(tmp_path)
    generator, bright = np.random.default_rng(0), np.arange(60) % 2
    values = (60 + 120 * bright[:, None, None, None] + generator.normal(0, 20, (60, 8, 8, 1))).clip(0, 255)
    judged = {k: v for k, v in JUDGE.network.items() if k not in ("in_channels", "num_classes", "size")}
    photo = {"name": "photo", "widths": [16, 16], "blocks": 1, "embedding": 16}
    for name, labels, network, prediction, steps in (
        ("judge", bright, judged, {"prediction": "label", "schedule": "linear"}, 300),
        ("prior", np.arange(60) // 2 % 2, photo, {"prediction": "edm"}, 300),
    ):
        np.savez(f"{name}.npz", images=values.astype(np.uint8), labels=labels)
        data = {"source": "npz:labels=labels", "path": f"{name}.npz", "size": 8, "crop": "none", "workers": 1}
        tree = {"name": name, "data": data, "network": network, "objective": prediction}
        tree |= {"conditioning": {"classes": 2}, "optimizer": {"name": "adamw", "rate": 4e-3}}
        tree["train"] = {"steps": steps, "batch": 16, "check_every": steps, "pictures": 2, "ema": [1000]}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(tree))
        done = undiffuse("train", f"{name}.yaml", "--out", name)
        assert done.code == 0, done.err

    def share_of_bright(label, scale):
        out = tmp_path / f"{label}_{scale}"
        given = (
            "--n",
            24,
            "--steps",
            8,
            "--label",
            label,
            "--classifier",
            "judge",
            "--classifier-scale",
            scale,
        )
        done = undiffuse("sample", "prior", *given, "--out", out)
        assert done.code == 0, done.err
        pictures = [read(out / f"{i:05}.png").pixels for i in range(24)]
        return sum(picture.mean().item() > 0 for picture in pictures) / 24

    # of 24 pictures a share of 1/2 is known to 0.1; differences are to be 3 or more of 0.14
    assert abs(share_of_bright(1, 0) - share_of_bright(0, 0)) < 0.3
    assert share_of_bright(1, 3) - share_of_bright(0, 3) > 0.45
