"""What the documents tell a reader to type, typed."""

import re
import shlex
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.networks.weights import seeded
from tests.pictures import photograph
from undiffuse import cli
from undiffuse.checkpoints import NoisyClassifierConfig, save_classifier
from undiffuse.contracts.operator import check
from undiffuse.contracts.restorer import IsotropicGaussian, run
from undiffuse.contracts.step import step_contract
from undiffuse.core.images import write
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics.inception import Inception
from undiffuse.networks import ADMConfig
from undiffuse.operators import LinearOperator
from undiffuse.operators.build import build
from undiffuse.registry import OPERATORS, PRIORS, RESTORERS, SAMPLERS
from undiffuse.restore import Problem, measure

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = ((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
DOCUMENTS = (README, *(path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))))
COMMANDS = [
    command
    for text in DOCUMENTS
    for pattern in (r"^undiffuse .*$", r"`(undiffuse [^`<>]* [^`<>]*)`")
    for command in re.findall(pattern, text, re.M)
]
TABLES = (OPERATORS, SAMPLERS, RESTORERS, PRIORS)


def python(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


@pytest.fixture
def registries():
    """Tables as they were before the test."""
    before = [dict(table._entries) for table in TABLES]
    yield
    for table, entries in zip(TABLES, before, strict=True):
        table._entries.clear()
        table._entries.update(entries)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with the files that the documents name."""
    write(photograph(64, 96), tmp_path / "photo.jpg")
    write(photograph(64, 96), tmp_path / "old.jpg")
    write(photograph(96, 96), tmp_path / "blurred.png")
    write(blurred(photograph(256, 256), "blur:gaussian,std=2.5"), tmp_path / "old.png")
    write(blurred(photograph(256, 256), "blur:disk,taps=9"), tmp_path / "unfocused.png")
    scratches = np.full((64, 96), 255, np.uint8)
    scratches[30:33] = 0
    Image.fromarray(scratches).save(tmp_path / "scratches.png")
    (tmp_path / "scans").mkdir()
    for name in ("first.png", "second.png"):
        write(photograph(64, 96), tmp_path / "scans" / name)
    np.save(tmp_path / "k.npy", np.full((3, 3), 1 / 9))
    write(photograph(5, 5)[:1] * 0 + 1, tmp_path / "k.png")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "photos").mkdir()
    for i in range(24):
        write(photograph(140, 130 + i).roll(7 * i, 2), tmp_path / f"photos/{i}.png")
    (tmp_path / "samples").mkdir()
    for i in range(12):
        write(photograph(60 + i, 64).roll(5 * i, 1), tmp_path / f"samples/{i:05}.png")
    fashion(tmp_path / "fashion")
    published(tmp_path)
    experiment(tmp_path / "exp")
    shelf = tmp_path / "shelf/256x256_diffusion/256x256_diffusion.pt"  # pulled before: nothing is downloaded
    shelf.parent.mkdir(parents=True)
    shelf.write_bytes(b"PK\x03\x04 in place of two gigabytes")
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "shelf"))
    monkeypatch.chdir(tmp_path)


@torch.no_grad()
def published(folder):
    """Networks in the form of guided-diffusion's files."""
    sizes = dict(width=32, multipliers=(1, 1), blocks=1, attention=(1,), heads=4)
    kinds = {"model": {}, "classes": dict(num_classes=5), "upsampler": dict(in_channels=6, num_classes=5)}
    for name, more in kinds.items():
        torch.save(seeded(ADMConfig(**sizes, **more).build(), 0).state_dict(), folder / f"{name}.pt")
    write(photograph(8, 8), folder / "small.png")
    network = {"name": "classifier", **sizes, "head_channels": None, "num_classes": 5, "pool": "adaptive"}
    told = NoisyClassifierConfig(network=network, schedule="linear", channels=3, size=(64, 64), num_classes=5)
    classifier = told.build()
    seeded(classifier.net, 0)
    save_classifier(folder / "classifier.safetensors", classifier, told, {})


def blurred(x, by):
    """With little noise."""
    A = build(by, tuple(x.shape)).float()
    return measure(A, x[None], 0.02, SeededNoise([0]))[0]


def experiment(exp):
    """One picture of ImageNet's thousand, in the folders of DDRM's authors."""
    folder = exp / "datasets/imagenet/imagenet"
    folder.mkdir(parents=True)
    write(photograph(260, 280), folder / "ILSVRC2012_val_00000293.jpeg")
    (exp / "imagenet_val_1k.txt").write_text("ILSVRC2012_val_00000293 0\n")


def fashion(folder):
    """Forty pictures as Fashion-MNIST keeps its own."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (40, 28, 28), dtype=np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 10
    for name, values in {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels}.items():
        head = struct.pack(f">{1 + values.ndim}I", 2048 + values.ndim, *values.shape)
        (folder / name).write_bytes(head + values.tobytes())


def shortened(command):
    """Training for two steps, on the desk's data."""
    if "undiffuse distil" in command:
        where = "photos" if "photos128" in command else "fashion"
        few = ("train.steps=2", "train.batch=2", "train.pictures=4", f"data.path={where}")
        return shlex.split(command) + [word for setting in few for word in ("--set", setting)]
    if "undiffuse train" not in command:
        return shlex.split(command)
    here = [
        "train.steps=2",
        "train.batch=2",
        "train.check_every=2",
        "train.pictures=4",
        "data.validation=0.3",
    ]
    if "fashion_mnist" in command:
        here.append("data.path=fashion")
    elif "data.path=photos" not in command:
        here.append("data.path=photos")
    return shlex.split(command) + [word for setting in here for word in ("--set", setting)]


def earlier(command):
    """What the documents have done before it."""
    if "train configs/train/photos128" in command:
        return ["undiffuse train configs/train/photos64.yaml"]
    before = re.search(
        r"runs/(?!students)(\w+)", command.replace("runs/students/fashion_mnist", "runs/fashion_mnist")
    )
    first = [f"undiffuse train configs/train/{before[1]}.yaml"] if before else []
    if "runs/students/fashion_mnist" in command:
        first.append("undiffuse distil runs/fashion_mnist --method progressive --to-steps 4 --from-steps 8")
    if "analyse restore out/photo" in command:
        first.append(
            "undiffuse restore photo.jpg --degrade sr4 --algorithm ddrm --steps 4 --draws 3 --noise 0.02"
        )
    return first


def test_there_are_commands():
    assert len(COMMANDS) >= 6 and len(python(README)) >= 1 and len(python(CONTRIBUTING)) == 4


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_commands_of_the_documents(command, desk, monkeypatch):
    first = earlier(command)
    if "pt_inception" in command:  # drawn at random: what the numbers mean is not tested here
        torch.save(Inception().state_dict(), "pt_inception-2015-12-05-6726825d.pth")
    for text in (*first, command):
        monkeypatch.setattr(sys, "argv", shortened(text))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 0


@pytest.mark.parametrize("text", python(README))
def test_python_of_the_readme(text):
    exec(compile(text, "README.md", "exec"), {})


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README + CONTRIBUTING, re.M):
        assert f"\n{target}:" in makefile


def rows(path, *columns):
    """The rows of a table by their first cells, as the numbers of these columns are written."""
    found = {}
    for line in (ROOT / path).read_text().splitlines():
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) > max(columns) and re.fullmatch(r"0(\.\d+)?", cells[1]):
            found[cells[0], float(cells[1])] = [cells[column] for column in columns]
    return found


def test_few_calls_are_those_of_the_results():
    told = rows("docs/restore_algorithms.md", *range(2, 9))
    measured = rows("benchmarks/results/few_calls.md", 2, 3, 4, 6, 7, 8, 9)
    assert told == measured and len(told) == 12
    assert min(float(row[2]) - float(row[0]) for row in told.values()) > 0.3  # dpir 5 above ddrm 20


def slug(heading):
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(path):
    text = re.sub(r"`[^`]*`", "", re.sub(r"```.*?```", "", (ROOT / path).read_text(), flags=re.S))
    for link in re.findall(r"\]\(([^)]*)\)", text):
        name, _, anchor = link.partition("#")
        if not link.startswith("http"):
            place = (ROOT / path).parent / name if name else ROOT / path
            assert place.exists(), link
            headings = re.findall(r"^#+ (.*)", place.read_text(), re.M) if anchor else []
            assert not anchor or anchor in map(slug, headings), link


def test_recipes(registries):
    """The four extensions of CONTRIBUTING.md do what they say, and pass the contracts."""
    for text in python(CONTRIBUTING):
        exec(compile(text, "CONTRIBUTING.md", "exec"), {})
    shape = (3, 9, 12)
    fade = OPERATORS["fade"](shape)
    assert isinstance(fade, LinearOperator)
    check(fade)
    grey = PRIORS["grey"]()
    problem = Problem(build("fade", shape), photograph(9, 12)[None].double(), 0.1)
    x = run(RESTORERS["backprojection"], grey, problem, [0])
    assert (fade(x) - problem.y).abs().mean() < problem.y.abs().mean()
    prior = IsotropicGaussian(photograph(9, 12)[None].double(), 0.1)
    step = SAMPLERS["ab2"](prior, SeededNoise([0]))
    step_contract(SAMPLERS["ab2"])
    from undiffuse.core import karras, last, sample

    start = 80 * SeededNoise([0])(prior.mean)
    sigmas = karras(50)
    assert (last(sample(step, start, sigmas)).x - prior.mean).abs().max() < 1
