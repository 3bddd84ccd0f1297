"""What the documents tell a reader to type, typed."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.pictures import photograph
from undiffuse import cli
from undiffuse.contracts.operator import check
from undiffuse.contracts.restorer import IsotropicGaussian, run
from undiffuse.core.images import write
from undiffuse.core.noise import SeededNoise
from undiffuse.operators import LinearOperator
from undiffuse.operators.build import build
from undiffuse.registry import OPERATORS, PRIORS, RESTORERS, SAMPLERS
from undiffuse.restore import Problem

ROOT = Path(__file__).parents[1]
README, CONTRIBUTING = ((ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))
COMMANDS = re.findall(r"^undiffuse .*$", README, re.M) + re.findall(r"`(undiffuse [^`<>]*)`", README)
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
    write(photograph(96, 96), tmp_path / "blurred.png")
    np.save(tmp_path / "k.npy", np.full((3, 3), 1 / 9))
    write(photograph(5, 5)[:1] * 0 + 1, tmp_path / "k.png")
    monkeypatch.chdir(tmp_path)


def test_there_are_commands():
    assert len(COMMANDS) >= 6 and len(python(README)) >= 1 and len(python(CONTRIBUTING)) == 4


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme(command, desk, monkeypatch):
    monkeypatch.setattr(sys, "argv", shlex.split(command))
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
    from undiffuse.core import karras, last, sample

    start = 80 * SeededNoise([0])(prior.mean)
    sigmas = karras(50)
    assert (last(sample(step, start, sigmas)).x - prior.mean).abs().max() < 1
