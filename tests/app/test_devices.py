"""Every command on a device that is not the CPU: the same pictures and figures as on it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from tests.accelerator import DEVICE, Accelerator
from tests.app.test_classifier import judge
from tests.app.tiny_run import CONFIG, go, prepare, rows, write
from tests.metrics.weights import filled
from tests.small import CLASSES, PHOTO, changed, prior_of, stored
from undiffuse.app import machine
from undiffuse.app.distil import run as distil
from undiffuse.checkpoints import save
from undiffuse.config.distil import DistilConfig
from undiffuse.metrics.dinov2 import DINOv2

PRIOR = "prior.safetensors"
QUICK = ("train.steps=3", "train.batch=4", "train.check_every=3", "train.pictures=2")


@pytest.fixture(params=[False, True], ids=["float32 only", "float64"])
def both(request, monkeypatch, tmp_path, undiffuse):
    """Run a command here and there; the two results."""
    monkeypatch.chdir(tmp_path)
    device = machine.device

    def run(*arguments, out=("--out", "{}")):
        place = [one.format("here") for one in out]
        here = undiffuse(*arguments, *place, "--device", "cpu")
        assert here.code == 0, here.err
        with Accelerator(request.param), monkeypatch.context() as patch:
            patch.setattr(machine, "device", lambda name: DEVICE if name == "cuda" else device(name))
            place = [one.format("there") for one in out]
            there = undiffuse(*arguments, *place, "--device", "cuda")
        assert there.code == 0, there.err
        return Path("here"), Path("there")

    return run


def alike(here, there):
    """Pictures, to the rounding of sums: on a CPU the layers of a network are packed."""
    names = sorted(path.relative_to(here) for path in here.rglob("*.png"))
    assert names
    for name in names:
        a, b = (np.asarray(Image.open(folder / name).convert("RGB")).astype(int) for folder in (here, there))
        assert abs(a - b).max() <= 1, name


def pictures(size, count=1, folder="pictures"):
    Path(folder).mkdir()
    for i in range(count):
        x = np.random.default_rng([i, *folder.encode()]).integers(0, 255, (size, size, 3), np.uint8)
        Image.fromarray(x).save(f"{folder}/{i}.png")
    return folder


CLOSED = ("--prior", "photo-gaussian", "--algorithm")


@pytest.mark.parametrize("degradation", ["sr4", "blur:motion,taps=5"])
@pytest.mark.parametrize(
    "more",
    [(), ("--draws", 2), ("--noise", 0), ("--algorithm", "dps", "--steps", 3), (*CLOSED, "exact"), (*CLOSED, "dpir")],
)  # fmt: skip
def test_restore(both, more, degradation):
    alike(*both("restore", f"{pictures(48)}/0.png", "--degrade", degradation, *more))


def test_restore_a_folder(both, tmp_path):
    folder, lpips = pictures(48, 3), tmp_path / "alex.safetensors"
    save_file(filled("alex").state_dict(), lpips)
    alike(*both("restore", folder, "--degrade", "inp", "--draws", 2, "--algorithm", "ddrm", "--lpips", lpips))


def test_restore_in_half_precision(both):
    given = (
        "--prior",
        stored(Path(PRIOR), PHOTO),
        "--precision",
        "bf16",
        "--algorithm",
        "ddrm",
        "--steps",
        3,
    )
    both("restore", f"{pictures(24)}/0.png", "--degrade", "sr4", *given)


def test_restore_in_windows(both):
    """Of a prior that is for one size."""
    config = changed(CLASSES, {"in_channels": 3, "out_channels": 3}, channels=3)
    stored(Path(PRIOR), config)
    given = ("--prior", PRIOR, "--label", "bag", "--guidance", 2, "--algorithm", "ddrm", "--steps", 3)
    alike(*both("restore", f"{pictures(20)}/0.png", "--degrade", "deblur_gauss", *given))


@pytest.mark.parametrize("algorithm", ["ddrm", "diffpir"])
def test_analyse_restore(both, algorithm):
    given = ("--degrade", "deblur_gauss", "--draws", 2, "--algorithm", algorithm, "--steps", 3)
    both("restore", f"{pictures(24)}/0.png", *given)
    both("analyse", "restore", "here/0", "--exact", 1, out=("--out", "{}/report"))


SAMPLED = {
    "guided": ("--n", 3, "--sampler", "ancestral", "--label", "coat", "--guidance", 2, "--guidance-interval", "0.3,5"),
    "autoguided": ("--label", "all", "--autoguidance", "weaker.safetensors", "--guidance", 2),
    "by a classifier": ("--label", "coat", "--classifier", "judge.safetensors", "--classifier-scale", 3),
    "from a picture": ("--label", "bag", "--start", "grey.png"),
    "to its noise and back": ("--label", "bag", "--invert", "grey.png", "--sampler", "ddim"),
    "between two": ("--label", "bag", "--interpolate", "1,2", "--path", "strip"),
}  # fmt: skip


@pytest.mark.parametrize("way", SAMPLED)
def test_sample(both, way):
    stored(Path(PRIOR), CLASSES)
    save(Path("weaker.safetensors"), prior_of(CLASSES, seed=1), CLASSES, {})
    judge(Path("judge.safetensors"))
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save("grey.png")
    alike(*both("sample", PRIOR, "--steps", 4, *SAMPLED[way]))


def test_sample_from_a_low_resolution(both):
    stored(Path(PRIOR), changed(PHOTO, {"in_channels": 7}, low_res="sr2", augmentation=0.2))
    alike(*both("sample", PRIOR, "--low-res", f"{pictures(4)}/0.png", "--n", 2, "--steps", 3))


def test_likelihood(both):
    stored(Path(PRIOR), PHOTO)
    both("likelihood", PRIOR, "--data", pictures(8), "--steps", 4)


def test_compare(both):
    stored(Path(PRIOR), PHOTO)
    both("compare", PRIOR, "--samplers", "ddim:3,dpmpp:3", "--n", 2, "--fine", 5)


def test_bench(both):
    algorithms = ("--algorithms", "ddrm,dpir", "--baselines", "bicubic,wiener,tv", "--calls", 3, "--size", 32)
    here, there = both(
        "bench", "--data", pictures(48), "--tasks", "sr4", *algorithms, "--noise", "0,0.05", "--size", 32
    )
    for one, other in zip(rows(here / "bench.csv"), rows(there / "bench.csv"), strict=True):
        assert float(one["psnr"]) == pytest.approx(float(other["psnr"]), abs=1e-3)  # rounding of sums


def test_tune(both):
    given = ("--prior", stored(Path(PRIOR), PHOTO), "--calls", 2, "--size", 16, "--rounds", 1)
    both("tune", "sr4", "--data", pictures(48, 4), *given, out=("--out", "{}/preset.json"))


def test_ddrm(both):
    stored(Path(PRIOR), PHOTO)
    folder = pictures(24, 2)
    for place in ("here", "there"):
        shutil.copytree(folder, f"{place}/datasets/ood")
    data = {"layout": "folder", "path": "datasets/ood", "fit": "centre"}
    Path("configs").mkdir()
    Path("configs/small.yml").write_text(
        yaml.safe_dump({"prior": PRIOR, "size": 16, "batch": 2, "data": data})
    )
    given = "--config small.yml --doc ood --timesteps 4 --deg sr4 --sigma_0 0.05 -i demo --ni"
    alike(*(folder / "image_samples" for folder in both("ddrm", *given.split(), out=("--exp", "{}"))))


def test_analyse(both):
    stored(Path(PRIOR), CLASSES)
    save(Path("student.safetensors"), prior_of(CLASSES, seed=1), CLASSES, {})
    given = (
        "--data",
        pictures(8, 4),
        "--steps",
        6,
        "--scales",
        "1,3",
        "--classifier",
        judge(Path("judge.safetensors")),
    )
    both("analyse", "all", PRIOR, "student.safetensors", *given)


def test_pareto(both):
    stored(Path(PRIOR), PHOTO)
    both("pareto", PRIOR, "--tasks", "sr4", "--data", pictures(48, 4))


def test_evaluate(both):
    given = (pictures(16, 6, "samples"), "--reference", pictures(16, 6, "real"))
    folders = both("evaluate", *given, "--features", "pixels", "--metrics", "fid,kid,prdc")
    here, there = (json.loads((folder / "result.json").read_text())["metrics"] for folder in folders)
    for one in (here, there):
        one |= one.pop("kd")
    assert here == pytest.approx(there, rel=1e-6)


def test_evaluate_by_a_network(both):
    torch.save(DINOv2(64, 2, 256, 3).state_dict() | {"mask_token": torch.zeros(1, 64)}, "dinov2.pth")
    given = (pictures(16, 6, "samples"), "--reference", pictures(16, 6, "real"), "--metrics", "fid")
    both("evaluate", *given, "--features", "dinov2", "--weights", "dinov2.pth")


def test_a_measured_picture_blind(both):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).resize(
        (128, 128)
    )
    picture.save("blurred.png")
    given = ("--measured", "--degrade", "blur:gaussian", "--blind", "--noise", "auto")
    alike(*both("restore", "blurred.png", *given))


@pytest.fixture(params=[False, True], ids=["float32 only", "float64"])
def trained(request, monkeypatch, tmp_path):
    """Runs of the tiny configuration here and there: its two folders."""
    monkeypatch.chdir(tmp_path)
    prepare()

    def run(make):
        make("here")
        with Accelerator(request.param), monkeypatch.context() as patch:
            patch.setattr("accelerate.Accelerator.device", property(lambda self: DEVICE))
            patch.setattr(machine, "device", lambda name: DEVICE)
            make("there")

    return run


def same(a, b):
    """Weights and curves of training, to rounding: here and there add up in the same order, but for the averages."""
    for name in ("log.csv", "validation.csv"):
        for one, other in zip(rows(Path(a) / name), rows(Path(b) / name), strict=True):
            for key in one.keys() - {"seconds", "images_per_second"}:
                assert float(one[key]) == pytest.approx(float(other[key]), rel=1e-4), (name, key, one, other)


@pytest.mark.parametrize("settings", [(), ("objective.prediction=v", "objective.schedule=linear")])
def test_train(trained, settings):
    trained(
        lambda out: (
            go("train.steps=4", *settings, out=out),
            go("train.steps=6", *settings, out=out, resume=True),
        )
    )
    same("here", "there")


LEARNED = {"prediction": "eps", "schedule": "cosine", "timesteps": 50, "learned_variance": True}
JUDGE = {
    "name": "classifier", "width": 16, "multipliers": [1], "blocks": 1, "attention": [0], "head_channels": 8,
    "groups": 8,
}  # fmt: skip
OTHERS = {
    "from a low resolution": {"conditioning": {"low_res": 4, "augmentation": 0.2}},
    "of a variance": {"objective": LEARNED},
    "a classifier": {
        "objective": {"prediction": "label", "schedule": "linear", "timesteps": 100}, "network": JUDGE,
        "optimizer": {"name": "adamw"},
    },
}  # fmt: skip


@pytest.mark.parametrize("way", OTHERS)
def test_train_others(trained, way):
    write({**CONFIG, **OTHERS[way]})
    trained(lambda out: go("train.steps=4", "train.check_every=2", "train.part=4", out=out))
    same("here", "there")


def test_distil_to_restore(trained):
    write({**CONFIG, "conditioning": {}, "data": {**CONFIG["data"], "source": "npz"}})
    go("train.steps=4", out="teacher")
    given = {"method": "restore", "tasks": ("sr2", "deblur_gauss"), "to_steps": 2, "settings": QUICK}
    trained(lambda out: list(distil(DistilConfig(teacher="teacher", out=Path(out), **given))))


def test_distil(trained):
    go("train.steps=4", out="teacher")

    def students(out):
        progressive = {"method": "progressive", "to_steps": 2, "from_steps": 4}
        for name, more in {
            "sizes": {"sizes": (0.5,)},
            "few": progressive,
            "one": {"method": "consistency", "to_steps": 1},
        }.items():
            list(distil(DistilConfig(teacher="teacher", settings=QUICK, out=Path(out) / name, **more)))

    trained(students)
