"""`undiffuse train` from outside: a folder that a stranger could read, killed and resumed, refused in one line."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.app.tiny_run import CONFIG, ROOT, go, rows, write
from undiffuse.app.events import Done, Note, Progress, Saved
from undiffuse.app.train.build import build
from undiffuse.app.train.targets import edges
from undiffuse.checkpoints import load, load_classifier, save
from undiffuse.config.train import read_train, read_yaml
from undiffuse.data import split
from undiffuse.registry import DATASETS


def test_what_a_run_leaves(place):
    events = go()
    assert isinstance(events[-1], Done) and events[-1].result == Path("run")
    log = rows("run/log.csv")
    assert [int(row["step"]) for row in log] == [2, 4, 6, 8, 10, 12]
    assert [int(row["images"]) for row in log] == [16, 32, 48, 64, 80, 96]
    assert all(float(row["loss"]) > 0 and float(row["images_per_second"]) > 0 for row in log)
    assert [row["stage"] for row in rows("run/memory.csv")][:1] == ["start"]
    assert sorted(p.name for p in Path("run/pictures").iterdir()) == ["00000006.png", "00000012.png"]
    assert read_train(Path("run/config.yaml")) == read_train(Path("tiny.yaml"))
    assert "44 to train on, 16 to validate" in Path("run/train.log").read_text()
    assert float(log[0]["rate"]) == pytest.approx(
        3e-3 * 9 / 16 * (0.5 + 0.5 * math.cos(math.pi / 12)), rel=1e-5
    )
    assert float(log[-1]["rate"]) > 0 and "8,068" in Path("run/report.html").read_text()
    saved = [event.path.name for event in events if isinstance(event, Saved)]
    assert saved.index("kept_00000012.safetensors") < len(saved) - 1 - saved[::-1].index("prior.safetensors")
    names = {p.name for p in Path("run").iterdir()}
    assert {"prior_1.safetensors", "prior_2.safetensors", "kept_00000006.safetensors"} <= names


def test_the_prior_of_a_run_is_its_average(place):
    go()
    found = load("run")
    stored = load_file("run/resume.safetensors")
    for name, value in found.prior.net.state_dict().items():
        assert torch.equal(value, stored[f"average.0.net.{name}"])
    assert found.config.num_classes == 2 and found.config.null_class and found.config.size == (8, 8)
    assert found.facts["steps"] == 12 and found.facts["licence"] == "not stated"
    assert found.facts["average"] == "half-life 40 images"
    later = load("run/prior_2.safetensors")
    assert later.facts["average"] == "power function, width 0.1"


@pytest.mark.parametrize("steps", [1, 12])
def test_a_dry_run_writes_nothing(place, steps):
    events = go(f"train.steps={steps}", "optimizer.clip=.inf", dry=True)
    assert sum(isinstance(event, Progress) for event in events) == 4
    assert any("images a second" in event.text for event in events if isinstance(event, Note))
    assert not Path("run").exists() and isinstance(events[-1], Done)


def test_validation_is_of_every_class(place):
    """Of sorted data the first images would be all of one class."""
    stored = np.load("data.npz")
    order = np.argsort(stored["labels"], kind="stable")
    np.savez("data.npz", images=stored["images"][order], labels=stored["labels"][order])
    held = build(read_train(Path("tiny.yaml"), ["train.validate_images=4"])).target.held
    assert len(held.clean) == 4 and set(held.labels.tolist()) == {0, 1}


@pytest.mark.parametrize("crop", ["random", "textured"])
def test_validation_is_of_crops_as_large_as_those_trained_on(place, crop):
    """Shrunk pictures would be sharper than what is learned: of stripes a pixel wide nothing would be left."""
    stripes = np.zeros((60, 24, 24, 3), np.uint8)
    stripes[:, ::2] = 255
    np.savez("data.npz", images=stripes, labels=np.arange(60) % 2)
    settings = [f"data.crop={crop}", "data.split_by=name"]
    first, again = (build(read_train(Path("tiny.yaml"), settings)).target.held.clean for _ in range(2))
    assert first.shape[1:] == (3, 8, 8) and set(first.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(first, again)


def test_bands_are_of_levels_that_the_model_knows():
    assert edges(0.002, 80.0) == [0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 80.0]
    assert edges(0.16, 20.0) == [0.16, 0.3, 1.0, 3.0, 10.0, 20.0]


def test_what_is_compiled_is_what_every_objective_calls(place):
    objective = "objective={prediction: eps, schedule: cosine, timesteps: 50, learned_variance: true}"
    model = build(read_train(Path("tiny.yaml"), [objective, "train.compile=true"])).objective.model
    assert model.net._compiled_call_impl is not None


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.stps=3", "no option 'train.stps'; did you mean 'steps'?"),
        ("trian.steps=3", "no section 'trian'; did you mean 'train'?"),
        ("train.steps=0", "option train.steps=0 .*greater than or equal to 1"),
        ("train.steps=many", "option train.steps='many'"),
        ("train.steps", "expected section.key=value"),
        ("network.wdths=[8]", "'photo' has no option 'wdths'; did you mean 'widths'?"),
        ("network.name=unet", "network.name: unet for prediction edm; choose from adm, ddpm, photo"),
        ("network.in_channels=3", "follow from data, conditioning and objective"),
        ("network.widths=[8,9]", "a level of 9 channels cannot be split"),
        ("conditioning.classes=3", "classes: 3, but the data has 2; write classes: 2"),
        ("data.source=npzz", "no dataset named 'npzz'; did you mean 'npz'?"),
        ("data.path=nowhere.npz", "nowhere.npz"),
        ("data.validation=0", "option data.validation=0"),
        ("objective.schedule=cosine", "prediction edm takes no schedule"),
        ("objective={prediction: eps}", "prediction eps needs a schedule"),
        ("network={name: ddpm, width: 8, groups: 8}", "told timesteps"),
        ("train.batch=7", None),
        ("optimizer.name=sgd", "'adam', 'adamw' or 'muon'"),
        ("train.start=nothing.safetensors", "no prior named 'nothing.safetensors'"),
        ("train.precision=fp16", "fp16 needs a CUDA device"),
        ("name=../away", "option name='../away'"),
        ("train.seed=9223372036854775808", "option train.seed=9223372036854775808"),
        ("train.batch=100000000000", "option train.batch=100000000000"),
        ("optimizer.clip=.nan", "option optimizer.clip=nan"),
        ("train.steps=2024-13-45", "--set train.steps=2024-13-45: the value cannot be read"),
        ("train.steps=!!int ''", "--set train.steps=!!int '': holds the tag tag:yaml.org,2002:int"),
        ("train={steps: 2, steps: 3, batch: 8}", "gives steps twice; keep one"),
        ("conditioning.augmentation=0.3", "augmentation is noise on a low_res picture"),
        ("objective={prediction: label, schedule: linear, weight: v}", "prediction label takes no weight"),
        ("train.start=photo-gaussian", "train.start: 'photo-gaussian' is no network"),
    ],
)
def test_a_wrong_setting_is_one_line_and_leaves_nothing(place, setting, said):
    if said is None:  # any batch will do for one process
        assert isinstance(go(setting, "train.steps=1")[-1], Done)
        return
    with pytest.raises(ValueError, match=said) as caught:
        go(setting)
    assert "\n" not in str(caught.value) and not Path("run").exists()


def test_validation_by_band_is_the_same_each_time(place):
    """Fixed images, fixed noise: two checks of the same weights agree, and a better prior has lower losses."""
    go("train.steps=120", "train.check_every=60", "train.pictures=0")
    found = rows("run/validation.csv")
    assert len(found) == 2 * 6 and {row["count"] for row in found} == {"16"}
    assert [float(row["high"]) for row in found[:6]] == [float(row["low"]) for row in found[1:6]] + [80.0]
    first, last = found[:6], found[6:]
    assert sum(float(row["v"]) for row in last) < sum(float(row["v"]) for row in first)
    for row in found:  # v is eps and x0 together: (1 + sigma^2) / sigma^2 = 1 / sigma^2 + 1
        assert float(row["v"]) == pytest.approx(float(row["eps"]) + float(row["x0"]), rel=1e-4)
    report = Path("run/report.html").read_text()
    assert "http://" not in report.replace("http://www.w3.org", "") and "tiny" in report


def test_a_super_resolution_prior(place):
    tree = {**CONFIG, "conditioning": {"low_res": 4, "augmentation": 0.2}}
    write(tree)
    go()
    found = load("run")
    assert found.config.low_res == "sr4" and found.prior.conditions == 4
    assert sorted(p.name for p in Path("run/pictures").iterdir()) == ["00000006.png", "00000012.png"]
    write({**tree, "conditioning": {"low_res": "jpeg:quality=20"}})
    with pytest.raises(ValueError, match="is not linear"):
        go(out="other")


def test_a_learned_variance(place):
    tree = {**CONFIG, "objective": {"prediction": "eps", "schedule": "cosine", "timesteps": 50}}
    tree["objective"]["learned_variance"] = True
    write(tree)
    go()
    prior = load("run").prior
    found = prior.predict(torch.zeros(1, 3, 8, 8), torch.tensor(1.0), torch.tensor([1]))
    assert found.variance is not None and found.variance.shape == (1, 3, 8, 8)
    write({**tree, "objective": {**tree["objective"], "log_sigma": [0, 1]}})
    with pytest.raises(ValueError, match="learned_variance takes the schedule's own levels"):
        go(out="other")


def test_a_classifier_of_noisy_images(place):
    tree = {**CONFIG, "objective": {"prediction": "label", "schedule": "linear", "timesteps": 100}}
    tree["network"] = {
        "name": "classifier", "width": 16, "multipliers": [1], "blocks": 1, "attention": [0], "head_channels": 8,
        "groups": 8,
    }  # fmt: skip
    write(tree)
    go("train.steps=60", "train.check_every=60", "optimizer.name=adamw")
    classifier, description, facts = load_classifier("run")
    assert description.num_classes == 2 and facts["steps"] == 60
    low, *_, high = rows("run/validation.csv")
    assert (
        float(low["accuracy"]) > 0.9
    )  # the two classes differ in brightness, plainly where there is little noise
    assert float(high["cross_entropy"]) > float(low["cross_entropy"])
    with pytest.raises(ValueError, match="is a classifier, no prior; give it with --classifier"):
        load("run")
    logits = classifier(torch.zeros(2, 3, 8, 8), torch.tensor(0.1))
    assert logits.shape == (2, 2)
    write({**tree, "network": CONFIG["network"]})
    with pytest.raises(ValueError, match="network.name: photo for prediction label; choose from classifier"):
        go(out="other")


def test_a_start_from_weights(place):
    go()
    go(
        "train.steps=1",
        "optimizer.rate=1e-12",
        "train.start=run",
        "train.ema=[]",
        "train.power_ema=[]",
        out="next",
    )
    mine, theirs = load("next").prior.net.state_dict(), load("run").prior.net.state_dict()
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-7) for name in mine)  # one step of 1e-12
    Path("run").rename("moved")  # and is not needed any more
    start = ["train.start=run", "optimizer.rate=1e-12", "train.ema=[]", "train.power_ema=[]"]
    go("train.steps=2", *start, out="next", resume=True)


def test_a_start_from_the_same_classes_under_other_numbers(place):
    from PIL import Image

    for folder, names in (("one", ("a_cat", "dog")), ("two", ("cat", "a_dog"))):
        for name in names:
            (Path(folder) / name).mkdir(parents=True)
            for i in range(10):
                Image.fromarray(np.full((8, 8, 3), 9 * i, np.uint8)).save(Path(folder, name, f"{i}.png"))
    data = {
        **CONFIG["data"],
        "source": "folder:classes=true",
        "path": "one",
        "split_by": "name",
        "validation": 0.4,
    }
    write({**CONFIG, "data": data})
    go("train.steps=2")
    Path("two/cat").rename("two/x")
    Path("two/a_dog").rename("two/a_cat")
    go("train.steps=2", "data.path=two", "train.start=run", out="other")  # other classes
    Path("two/a_cat").rename("two/dog")
    Path("two/x").rename("two/a_cat")
    go("train.steps=2", "data.path=two", "train.start=run", out="same")
    found = load("run")
    save("turned.safetensors", found.prior, found.config.model_copy(update={"classes": ("dog", "a_cat")}), {})
    with pytest.raises(ValueError, match="numbers its classes dog, a_cat, and the data a_cat, dog"):
        go("train.steps=2", "data.path=two", "train.start=turned.safetensors", out="turned")


def test_a_start_from_a_file_that_does_not_tell_all(place):
    network = {"name": "adm", "width": 32, "multipliers": [1, 1], "blocks": 1, "attention": [1], "heads": 2}
    objective = {"prediction": "eps", "schedule": "linear"}
    write({**CONFIG, "network": network, "objective": objective})
    go("train.steps=1")
    theirs = load("run").prior.net.state_dict()
    torch.save(theirs, "outside.pt")
    start = ["train.steps=1", "train.start=outside.pt", "optimizer.rate=1e-12", "train.ema=[]"]
    with pytest.raises(
        ValueError, match="'outside.pt' .* does not tell heads.* give it with train.start_options"
    ):
        go(*start, out="next")
    go(*start, "train.start_options='heads=2,schedule=linear'", out="next")
    mine = load("next").prior.net.state_dict()
    assert all(torch.allclose(mine[name], theirs[name], atol=1e-7) for name in mine)  # one step of 1e-12
    with pytest.raises(
        ValueError, match="train.start_options heads: 'run.*' is of undiffuse and tells all itself"
    ):
        go("train.start=run", "train.start_options=heads=2", out="other")
    with pytest.raises(ValueError, match="start_options: heads=2 is about a file; name it with train.start"):
        go("train.start_options=heads=2", out="other")


def test_a_size_that_does_not_divide(place):
    tree = {
        **CONFIG,
        "network": {"name": "ddpm", "width": 8, "groups": 8, "multipliers": [1, 1, 1], "blocks": 1},
    }
    tree["objective"] = {"prediction": "v", "schedule": "cosine", "timesteps": 50}
    write({**tree, "data": {**CONFIG["data"], "size": 6}})
    with pytest.raises(ValueError, match="data.size: 6 for a network of 4-pixel blocks"):
        go()
    write(tree)
    go("train.steps=2")
    assert load("run").config.prediction == "v"


def test_hostile_configurations(place):
    for text, said in {
        "a: &x [1]\nb: *x\n": "alias",
        "name: !!python/object/apply:os.system ['touch owned']\n": "holds the tag tag:yaml.org,2002:python/",
        "train: {steps: !!int '', batch: !!bool x}": "holds the tag tag:yaml.org,2002:int",
        "name: !!map [a]": "holds the tag tag:yaml.org,2002:map",
        "name: a\nname: b\n": "gives name twice",
        "- 1\n": "holds no mapping",
        "[" * 5000: "tiny.yaml",
        "name: " + "x" * 2**21: "longer than",
    }.items():
        Path("tiny.yaml").write_text(text)
        with pytest.raises(ValueError, match=said) as caught:
            go()
        assert "\n" not in str(caught.value) and not Path("owned").exists()


def test_a_configuration_of_many_keys_is_read_at_once(place):
    """Each key is counted once: compared by pairs, these would take a minute."""
    Path("many.yaml").write_text("{" + ",".join(f"a{i}:" for i in range(40_000)) + "}")
    began = time.process_time()
    assert len(read_yaml(Path("many.yaml"))) == 40_000 and time.process_time() - began < 20


def test_one_damaged_picture_among_many(place):
    from PIL import Image

    folder = Path("pictures")
    folder.mkdir()
    for i in range(150):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / f"{i:03}.png")
    (folder / "042.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    tree = {**CONFIG, "conditioning": {}, "data": {**CONFIG["data"], "source": "folder", "path": "pictures"}}
    write(tree)
    events = go("train.steps=20")
    assert [
        e.text for e in events if isinstance(e, Note) and "1 of 150 images so far cannot be used" in e.text
    ]
    assert "042.png" in Path("run/train.log").read_text()


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names of files are always text there")
def test_a_damaged_picture_whose_name_is_no_text(place):
    """Its bytes go into the log, and end no run."""
    from PIL import Image

    os.mkdir("pictures")
    for i in range(110):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(f"pictures/{i:03}.png")
    Path(os.fsdecode(b"pictures/bad\xff.png")).write_bytes(b"nonsense")
    data = {**CONFIG["data"], "source": "folder", "path": "pictures"}
    write({**CONFIG, "conditioning": {}, "data": data})
    go("train.steps=16")
    assert "bad\\udcff.png" in Path("run/train.log").read_text()


def test_a_damaged_picture_of_the_validation_set_is_one_of_all(place):
    """The share that is allowed is of all pictures, not of the few that are held out."""
    from PIL import Image

    folder = Path("pictures")
    folder.mkdir()
    for i in range(150):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / f"{i:03}.png")
    _, held_out = split(DATASETS["folder"]("pictures"), share=0.2, by="name")
    bad = folder / held_out.name(1)
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    write(
        {
            **CONFIG,
            "conditioning": {},
            "data": {**CONFIG["data"], "source": "folder", "path": "pictures", "split_by": "name"},
        }
    )
    events = go("train.steps=4")
    assert [
        e.text
        for e in events
        if isinstance(e, Note) and "to validate: 1 of 150" in e.text and bad.name in e.text
    ]


def test_pictures_without_eight_bits_are_counted_where_bytes_are_asked_for(place):
    from PIL import Image

    folder = Path("pictures")
    folder.mkdir()
    for i in range(150):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(folder / f"{i:03}.png")
    Image.fromarray(np.full((8, 8), 300, np.uint16)).save(folder / "deep.png")
    data = {**CONFIG["data"], "source": "folder:channels=1", "path": "pictures", "dequantise": True}
    write({**CONFIG, "conditioning": {}, "data": data})
    assert [e for e in go("train.steps=20") if isinstance(e, Note) and "deep.png: has no 8 bits" in e.text]


def test_behind_the_launcher_of_accelerate(place):
    """`accelerate launch -m undiffuse train ...`, as the documents say."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    launcher = [
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "-m",
        "undiffuse",
        "train",
        "tiny.yaml",
        "--out",
        "run",
    ]
    done = subprocess.run([sys.executable, *launcher], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert load("run").facts["steps"] == 12 and "the run is in run" in done.stdout
