"""DDRM's command line: the authors' options and files, a run that goes on, classes."""

import json
import re

import pytest
import torch
import yaml

from tests.app.test_ddrm_pictures import SIZE, store
from tests.networks.weights import seeded
from tests.small import CLASSES, changed, stored
from undiffuse.app.ddrm import pictures as layouts
from undiffuse.app.ddrm.folder import Results
from undiffuse.app.ddrm.pictures import fit, shuffled
from undiffuse.checkpoints import NoisyClassifierConfig, save_classifier
from undiffuse.config.ddrm import DdrmConfig
from undiffuse.core.images import read, to_bytes, to_unit

OURS = {
    "prior": "photo-gaussian",
    "size": SIZE,
    "batch": 2,
    "data": {"layout": "folder", "path": "datasets/ood", "fit": "centre"},
}


@pytest.fixture
def exp(tmp_path, monkeypatch):
    """An experiment folder with five pictures, and a config beside it."""
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "exp/datasets/ood", [f"0/orig_{i}.png" for i in range(5)], 20, 24)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/small.yml").write_text(yaml.safe_dump(OURS))
    return tmp_path / "exp"


COMMAND = "ddrm --config small.yml --doc imagenet --timesteps 4 --eta 0.85 --etaB 1 --deg sr4 --sigma_0 0.05 -i demo"


def names(exp):
    return {path.name for path in (exp / "image_samples/demo").iterdir()}


def numbered(numbers):
    found = {file for i in numbers for file in (f"orig_{i}.png", f"y0_{i}.png", f"{i}_-1.png")}
    return {*found, "ddrm.jsonl"}


@pytest.mark.parametrize("compat", [False, True])
def test_the_command_of_the_seeds(undiffuse, exp, compat):
    extra = ["--comment", "x", "--verbose", "debug", "--sample", "--seed", "7", "--exp", exp, "--ni"]
    done = undiffuse(*COMMAND.split(), *extra, *(["--compat"] if compat else []))
    assert done.code == 0, done.err
    assert "ignored, as it changes nothing here: --doc, --comment, --verbose, --sample" in done.err
    assert ("as published: the start is divided" in done.err) == compat
    assert names(exp) == numbered(range(5))
    out, order = exp / "image_samples/demo", shuffled(5, 7)
    found: list[float] = []
    for i in range(5):
        clean = read(exp / f"datasets/ood/0/orig_{order[i]}.png").pixels
        pixels = fit(torch.from_numpy(to_bytes(clean)).permute(2, 0, 1), "centre", SIZE)
        orig, y0, answer = (read(out / f"{name}.png").pixels for name in (f"orig_{i}", f"y0_{i}", f"{i}_-1"))
        assert torch.equal((to_unit(orig) * 255).round().to(torch.uint8), pixels)
        assert y0.shape == orig.shape == answer.shape
        assert (y0 - orig).square().mean() > 1e-4
        found.append(-10 * (to_unit(answer) - to_unit(orig)).square().mean().log10().item())
    printed = re.search(r"Total Average PSNR: ([\d.]+)\nNumber of samples: 5", done.out)
    # of floats, where the files are rounded to 255 levels: at 30 dB that is worth 0.03 dB
    assert printed and abs(float(printed[1]) - sum(found) / 5) < 0.05
    assert f"5 of 5: PSNR {printed[1]}" in done.err


def test_a_run_goes_on(undiffuse, exp):
    undiffuse(*COMMAND.split(), "--ni")
    out = exp / "image_samples/demo"
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()}
    again = undiffuse(*COMMAND.split())
    assert again.code == 0 and "5 of 5 are there already" in again.err
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.iterdir()} == before
    (out / "2_-1.png").unlink()
    with open(out / "ddrm.jsonl", "a") as file:
        file.write('{"index": 0, "pict')  # as a kill leaves it
    again = undiffuse(*COMMAND.split(), "--batch", "1")
    assert again.code == 0 and "4 of 5 are there already" in again.err
    assert (out / "2_-1.png").read_bytes() == before["2_-1.png"][0]  # the same pixels in another batch
    assert "5 of 5 are there already" in undiffuse(*COMMAND.split()).err


@pytest.mark.parametrize("batch", ["1", "2"])
def test_an_unreadable_picture_is_passed_over(undiffuse, exp, batch):
    """Told in a line and counted; all others keep their numbers and their pixels. Repaired, it is made up for."""
    assert undiffuse(*COMMAND.split()).code == 0
    out, bad = exp / "image_samples/demo", exp / "datasets/ood/0/orig_0.png"
    before = {path.name: path.read_bytes() for path in out.glob("*.png")}
    whole, number = bad.read_bytes(), shuffled(5, 1234).index(0)
    bad.write_bytes(whole[:200])
    command = COMMAND.replace("demo", "other").split()
    done = undiffuse(*command, "--batch", batch)
    assert done.code == 2 and "Number of samples: 4" in done.out
    assert re.search(r"(?m)^passed over 0/orig_0.png: .*orig_0.png", done.err)
    assert "error: 1 of 5 pictures passed over: 0/orig_0.png: " in done.err
    out = exp / "image_samples/other"
    kept = {name: data for name, data in before.items() if name not in numbered([number])}
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == kept
    bad.write_bytes(whole)
    again = undiffuse(*command)
    assert again.code == 0 and "4 of 5 are there already" in again.err
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == before


def test_no_readable_picture(undiffuse, exp):
    for path in (exp / "datasets/ood/0").iterdir():
        path.write_bytes(b"no picture")
    refused = undiffuse(*COMMAND.split(), "--ni")
    assert refused.code == 2 and "none of 5 pictures can be read" in refused.err
    assert not (exp / "image_samples").exists()


def test_an_exact_answer_is_null_in_the_record_and_kept(undiffuse, exp):
    command = COMMAND.replace("sr4 --sigma_0 0.05", "deno --sigma_0 0").split()
    for kept in (False, True):
        done = undiffuse(*command)
        assert done.code == 0 and "Total Average PSNR: inf" in done.out
        assert ("5 of them there already" in done.out) == kept
    lines = (exp / "image_samples/demo/ddrm.jsonl").read_text().splitlines()
    assert len(lines) == 6 and not any("Infinity" in line for line in lines)
    assert all(json.loads(line)["psnr"] is None for line in lines[1:])


def test_a_prior_of_a_plugin(undiffuse, exp, tmp_path):
    text = "from undiffuse.registry import PRIORS\nPRIORS.register('mine', summary='', example='')"
    (tmp_path / "mine.py").write_text(f"{text}(lambda: lambda x, sigma: x)")
    plugin = ("--plugin", tmp_path / "mine.py")
    done = undiffuse(*COMMAND.split(), "--prior", "mine", *plugin)
    assert done.code == 0 and "mine prior" in done.err
    for command in (("priors", "list", *plugin), ("priors", *plugin, "list"), ("priors", *plugin)):
        assert "\nmine" in undiffuse(*command).out


def test_subset_of_the_command(undiffuse, exp):
    done = undiffuse(*COMMAND.split(), "--subset_start", "2", "--subset_end", "4")
    assert done.code == 0 and names(exp) == numbered([2, 3])
    lines = [json.loads(line) for line in (exp / "image_samples/demo/ddrm.jsonl").read_text().splitlines()]
    assert {line["picture"] for line in lines[1:]} == {"0/orig_2.png", "0/orig_3.png"}
    more = undiffuse(*COMMAND.split(), "--subset_start", "4", "--subset_end", "5")
    assert more.code == 0 and names(exp) == numbered([2, 3, 4])  # beside what is there


def test_results_of_another_run_are_not_overwritten_in_silence(undiffuse, exp):
    undiffuse(*COMMAND.split())
    out = exp / "image_samples/demo"
    (out / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = COMMAND.replace("sr4", "sr2").split()
    refused = undiffuse(*other)
    assert refused.code == 2 and "nothing was changed" in refused.err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    agreed = undiffuse(*other, "--ni")
    assert agreed.code == 0 and (out / "notes.txt").read_text() == "mine"
    assert (out / "0_-1.png").read_bytes() != before["0_-1.png"]


def test_consent(tmp_path):
    asked: list[str] = []
    Results(tmp_path / "out", {"a": 1}, lambda question: bool(asked.append(question)))
    assert not asked  # an empty place needs none
    (tmp_path / "out/orig_0.png").touch()
    with pytest.raises(ValueError, match="nothing was changed"):
        Results(tmp_path / "out", {"a": 2}, lambda question: bool(asked.append(question)))
    assert asked == [f"'{tmp_path / 'out'}' holds 2 results of another run; overwrite them?"]
    Results(tmp_path / "out", {"a": 2}, lambda question: True)
    assert not (tmp_path / "out/orig_0.png").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--config", "none.yml"], "no config 'none.yml'"),
        (["--config", "celeba_hq.yml"], "no such folder"),
        (["-i", "../elsewhere"], "expected a name below exp/image_samples"),
        (["-i", "/elsewhere"], "expected a name below exp/image_samples"),
        (["--timesteps", "0"], "timesteps"),
        (["--deg", "sr3"], "no degradation|sr3|divi"),
        (["--deg", "nothing"], "no degradation named 'nothing'"),
        (["--prior", "256x256_diffusion_uncond"], "run undiffuse priors pull 256x256_diffusion_uncond"),
        (["--subset_start", "3", "--subset_end", "9"], "range 3:9"),
        (["--subset_start", "3"], "--subset_start 3 and --subset_end -1; expected both ends"),
        (["--subset_end", "3"], "--subset_start -1 and --subset_end 3; expected both ends"),
        (["--classifier", "256x256_classifier"], "run undiffuse priors pull 256x256_classifier"),
    ],
)
def test_errors(undiffuse, exp, given, said, monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(exp / "shelf"))
    refused = undiffuse(*COMMAND.split(), *given)
    assert refused.code == 2 and re.search(said, refused.err), refused.err
    assert refused.err.count("\n") <= 3 and not (exp / "image_samples").exists()


@pytest.fixture
def by_class(exp):
    """A class-conditional network and a classifier, in files."""
    same = {"in_channels": 3, "out_channels": 3}
    prior = stored(exp / "prior.safetensors", changed(CLASSES, same, channels=3, size=(SIZE, SIZE)))
    network = {
        "name": "classifier", "width": 16, "multipliers": [1], "blocks": 1, "attention": [0], "head_channels": 8,
        "groups": 4, "in_channels": 3, "num_classes": 3, "size": SIZE, "resblock_updown": False,
    }  # fmt: skip
    config = NoisyClassifierConfig(
        network=network, schedule="linear", channels=3, size=(SIZE, SIZE), num_classes=3
    )
    classifier = config.build()
    with torch.no_grad():
        seeded(classifier.net, 1)
    save_classifier(exp / "classifier.safetensors", classifier, config, {})
    return prior, exp / "classifier.safetensors"


def test_the_label_is_asked_for(undiffuse, exp, by_class):
    """A class-conditional network on pictures without classes."""
    refused = undiffuse(*COMMAND.split(), "--prior", by_class[0])
    assert refused.code == 2 and "give --label" in refused.err and not (exp / "image_samples").exists()
    assert undiffuse(*COMMAND.split(), "--prior", by_class[0], "--label", "1", "--ni").code == 0
    wrong = undiffuse(*COMMAND.split(), "--prior", by_class[0], "--label", "4", "--ni")
    assert wrong.code == 2 and re.search("label|class", wrong.err)


def test_what_is_wrong_removes_no_results(undiffuse, exp, by_class):
    """--ni lets results of another run go, but not for a run that cannot be."""
    prior, classifier = by_class
    assert undiffuse(*COMMAND.split(), "--ni").code == 0
    before = sorted((exp / "image_samples").rglob("*.png"))
    for given, said in (
        (["--prior", prior, "--label", "4"], "--label 4; the prior '.*' has the classes 0 .*, 1 .*, 2"),
        (["--label", "1"], "--label 1; the prior '.*' has no classes"),
        (["--label", "1", "--classifier", classifier], "has no classes, so that a label would mean nothing"),
    ):
        refused = undiffuse(*COMMAND.split(), "--ni", *given)
        assert refused.code == 2 and re.search(said, refused.err), refused.err
    assert before and sorted((exp / "image_samples").rglob("*.png")) == before


def test_classes_and_a_classifier_from_a_config(undiffuse, exp, by_class, monkeypatch):
    """As imagenet_256_cc.yml: labels by folder; guided at the current picture, or with --compat at the start."""
    monkeypatch.setattr(layouts, "CLASSES", 2)
    prior, classifier = map(str, by_class)
    store(exp / "datasets/imagenet/val", ["n00000001/a.JPEG", "n00000002/b.JPEG"])
    data = {"layout": "imagenet", "path": "datasets/imagenet", "fit": "centre"}
    config = {**OURS, "prior": prior, "classifier": classifier, "classifier_scale": 5.0, "data": data}
    answers: dict[str, bytes] = {}
    for name, scale, extra in (("plain", 0.0, []), ("guided", 5.0, []), ("published", 5.0, ["--compat"])):
        (exp.parent / "configs/small.yml").write_text(yaml.safe_dump({**config, "classifier_scale": scale}))
        done = undiffuse(*COMMAND.replace("demo", name).split(), *extra)
        assert done.code == 0, done.err
        out = exp / "image_samples" / name
        lines = [json.loads(line) for line in (out / "ddrm.jsonl").read_text().splitlines()[1:]]
        assert {(line["picture"], line["label"]) for line in lines} == {
            ("n00000001/a.JPEG", 0), ("n00000002/b.JPEG", 1),
        }  # fmt: skip
        answers[name] = (out / "0_-1.png").read_bytes()
        assert ("looks at the start at every step" in done.err) == (name == "published")
    assert len(set(answers.values())) == 3


def test_asked_defaults_are_the_authors():
    asked = DdrmConfig(config="a", deg="sr4", sigma_0=0.0)
    assert (asked.seed, asked.timesteps, asked.eta, asked.eta_b) == (1234, 1000, 0.85, 1.0)
    assert (asked.image_folder, str(asked.exp), asked.subset_start, asked.subset_end) == (
        "images",
        "exp",
        -1,
        -1,
    )
