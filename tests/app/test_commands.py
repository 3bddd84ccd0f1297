"""The other commands, plugins, and what the command line promises."""

import subprocess
import sys

import pytest

from undiffuse.registry import OPERATORS, RESTORERS, SAMPLERS

PLUGIN = """
from undiffuse.operators import LinearOperator
from undiffuse.registry import OPERATORS

class Wrong(LinearOperator):
    def forward(self, x):
        return x.flip(-1) * 2
    def adjoint(self, y):
        return y

@OPERATORS.register("NAME", summary="an adjoint that is none", example="NAME")
def wrong(shape, /):
    return Wrong(shape, shape)
"""


MIXED = """def __init__(self, a, b):
        import torch

        super().__init__(a, b)
        self.m = torch.eye(8, dtype=torch.float64).flip(0) + 1

"""


@pytest.fixture
def forget():
    """Take out of the registry what a test put in."""
    before = dict(OPERATORS._entries)
    yield
    OPERATORS._entries.clear()
    OPERATORS._entries.update(before)


def test_nothing_heavy_is_imported_for_help():
    code = (
        "import sys, undiffuse.cli; print([m for m in ('torch', 'numpy', 'PIL', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", [[], ["restore"], ["demo"], ["degradations"], ["check", "operator"]])
def test_help_has_an_example(undiffuse, command):
    done = undiffuse(*command, "--help")
    assert done.code == 0
    assert not command or "Example" in done.out


@pytest.mark.parametrize(
    ("command", "table"), [("degradations", OPERATORS), ("algorithms", RESTORERS), ("samplers", SAMPLERS)]
)
def test_lists_name_everything_with_an_example(undiffuse, command, table):
    done = undiffuse(command)
    assert done.code == 0
    for name in table:
        assert f"\n{name}\n" in "\n" + done.out
        assert table[name].example in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("restore", "", "--degrade", "sr4"),
        ("sample", "--out", ""),
        ("restore", "a.png", "--out="),
    ],
)
def test_an_empty_argument_is_refused(undiffuse, tmp_path, monkeypatch, arguments):
    """A variable that is not set, as in "$FILE": as a path it would be the current folder, with all its pictures."""
    monkeypatch.chdir(tmp_path)
    found = undiffuse(*arguments)
    before = "restore a.png --out=" if "--out=" in arguments else " ".join(arguments[: arguments.index("")])
    assert found.code == 2 and f"empty argument after 'undiffuse {before}'" in found.err
    assert found.err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [["restor"], ["restore"], ["restore", "a.png", "--degrde", "x"], ["check"]]
)
def test_usage_errors_are_one_line(undiffuse, arguments):
    done = undiffuse(*arguments)
    assert done.code == 2 and done.err.count("\n") == 1 and "--help" in done.err


@pytest.mark.parametrize("name", ["deblur_gauss", "sr4", "inp", "color", "deblur_aniso", "sr_bicubic4"])
def test_check_operator(undiffuse, name):
    done = undiffuse("check", "operator", name, "--size", "97x64" if "bicubic" not in name else "96x64")
    assert done.code == 0 and "FAILED" not in done.out
    for word in ("adjoint", "SVD", "pseudo-inverse", "gain", "direct"):
        assert word in done.out


def test_a_chain_is_checked_as_far_as_its_search_comes(undiffuse):
    """The least singular values of a blur that is sampled are out of reach of 500 steps: a fact, not a fault."""
    done = undiffuse("check", "operator", "inp:box . blur:gaussian,std=2 . sr2", "--size", "32x32")
    assert done.code == 0 and "FAILED" not in done.out and "pseudo-inverse" in done.out


def test_a_tensor_that_is_no_buffer_fails_its_check(undiffuse, tmp_path, forget):
    text = PLUGIN.replace("NAME", "plain_tensor").replace("def forward", MIXED + "    def forward")
    text = text.replace("x.flip(-1) * 2", "x @ self.m").replace("return y\n", "return y @ self.m.mT\n")
    (tmp_path / "mine.py").write_text(text)
    done = undiffuse("check", "operator", "plain_tensor", "--size", "9x8", "--plugin", tmp_path / "mine.py")
    failed = [line for line in done.out.splitlines() if "FAILED" in line]
    assert done.code == 1 and len(failed) == 1 and failed[0].startswith("float32")


def test_demo(undiffuse, tmp_path):
    done = undiffuse("demo", "--out", tmp_path / "demo")
    assert done.code == 0
    for name in ("sr4", "deblur_gauss", "inp"):
        assert (tmp_path / "demo" / f"{name}.png").stat().st_size > 10_000
        assert (tmp_path / "demo" / name / "dog_restored.png").exists()
        assert f"dog, {name}: PSNR" in done.out
    assert (tmp_path / "demo" / "report.html").read_text().count('class="compare"') == 3


def test_a_wrong_operator_fails_its_check(undiffuse, tmp_path, forget):
    (tmp_path / "mine.py").write_text(PLUGIN.replace("NAME", "wrong_file"))
    done = undiffuse("check", "operator", "wrong_file", "--size", "9x8", "--plugin", tmp_path / "mine.py")
    assert done.code == 1 and "FAILED" in done.out


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with an entry point in the group undiffuse.plugins, as pip would leave it."""

    def install(name: str, text: str) -> None:
        (tmp_path / f"{name}_package.py").write_text(text)
        info = tmp_path / f"{name}_package-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-package\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[undiffuse.plugins]\n{name} = {name}_package\n")
        monkeypatch.syspath_prepend(tmp_path)

    return install


def test_an_installed_plugin_is_found(undiffuse, installed, forget):
    installed("wrong", PLUGIN.replace("NAME", "wrong_package"))
    done = undiffuse("degradations")
    assert done.code == 0 and "wrong_package" in done.out


@pytest.mark.parametrize("text", ["1 / 0", "exit(3)"])
def test_an_installed_plugin_that_fails_is_named(undiffuse, installed, text):
    installed("broken", text)
    done = undiffuse("degradations")
    assert done.code == 2 and done.err.count("\n") == 1
    for part in ("plugin 'broken'", "package 'broken-package'", "pip uninstall broken-package"):
        assert part in done.err


def test_the_doctor_finds_an_installed_plugin_that_fails(undiffuse, installed, forget):
    """The others are imported, and the rest is examined."""
    installed("broken", "1 / 0")
    installed("wrong", PLUGIN.replace("NAME", "wrong_package"))
    done = undiffuse("doctor", "--size", "9x8")
    assert done.code == 1 and "plugin            ok       wrong" in done.out and "arithmetic" in done.out
    assert "plugin            broken   the installed plugin 'broken'" in done.out
    assert "ZeroDivisionError" in done.out and "uninstall it: pip uninstall broken-package" in done.out


def test_the_doctor_is_asked_for_the_prior_of_an_installed_plugin_that_fails(undiffuse, installed):
    installed("broken", "1 / 0")
    done = undiffuse("doctor", "--prior", "broken")
    assert done.code == 2 and done.err.count("\n") == 1 and "no prior named 'broken'" in done.err
    assert (
        "the installed plugin 'broken' of the package 'broken-package' failed: ZeroDivisionError" in done.err
    )
    assert "pip uninstall broken-package" in done.err


def test_a_plugin_that_fails(undiffuse, tmp_path):
    (tmp_path / "bad.py").write_text("1 / 0")
    done = undiffuse("degradations", "--plugin", tmp_path / "bad.py")
    assert done.code == 2 and "ZeroDivisionError" in done.err and done.err.count("\n") == 1


def test_a_plugin_given_twice_is_loaded_twice(undiffuse, tmp_path, forget):
    (tmp_path / "mine.py").write_text(PLUGIN.replace("NAME", "mine"))
    plugin = ("--plugin", tmp_path / "mine.py")
    done = undiffuse("degradations", *plugin, *plugin)
    assert done.code == 0 and done.out.count("\nmine\n") == 1
