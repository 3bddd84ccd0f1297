"""The doctor's judgement, with invented machines; and that it gets to the end on this one."""

import ast
import json
import os
import re
from pathlib import Path

import pytest
import torch

from undiffuse.app import doctor
from undiffuse.app.doctor import hardware, software, speed
from undiffuse.app.doctor.examine import _call
from undiffuse.app.doctor.finding import Finding, gigabytes, times
from undiffuse.app.events import Done, Progress
from undiffuse.app.machine import Memory
from undiffuse.app.priors import Opened
from undiffuse.priors import Prior, scalings

CPU = torch.device("cpu")
SOURCE = Path(__file__).parents[2] / "src" / "undiffuse"


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """Measurements of three calls each."""
    monkeypatch.setattr(speed, "SECONDS", 0.0)


@pytest.fixture
def cores(monkeypatch):
    """A machine of given cores, threads, gain of threads, load and waiting policy."""

    def build(cores: int, threads: int, gain: float, load: float = 0.0, policy: str = "") -> None:
        monkeypatch.setattr(hardware.machine, "cores", lambda: cores)
        monkeypatch.setattr(hardware.machine, "threads", lambda: threads)
        monkeypatch.setattr(speed, "gain_of_threads", lambda: gain)
        monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)

    return build


def seconds(**measured: float | None):
    return lambda device, name: measured.get(name)


def verdicts(findings) -> dict[str, str]:
    return {f.name: f.verdict for f in findings}


@pytest.mark.parametrize(
    ("machine", "verdict", "advice"),
    [
        ((4, 4, 3.0), "ok", ""),
        ((4, 1, 1.0, 9.0), "ok", ""),
        ((4, 4, 0.02), "slow", "OMP_WAIT_POLICY=PASSIVE"),
        ((4, 4, 3.0, 5.0), "slow", "OMP_WAIT_POLICY=PASSIVE"),
        ((4, 4, 0.5, 5.0, "PASSIVE"), "slow", "OMP_NUM_THREADS=1"),
        ((4, 4, 2.0, 5.0, "passive"), "ok", ""),
        ((2, 16, 1.1), "slow", "OMP_NUM_THREADS=2"),
    ],
)
def test_threads(cores, machine, verdict, advice):
    cores(*machine)
    (found,) = hardware.threads()
    assert found.verdict == verdict and advice in found.advice and bool(advice) == bool(found.advice)


@pytest.mark.parametrize(("load", "verdict"), [(1.0, "ok"), (7.5, "slow")])
def test_cores(cores, load, verdict):
    cores(2, 2, 1.5, load)
    assert verdicts(hardware.processor())["cores"] == verdict


def test_precisions(monkeypatch):
    monkeypatch.setattr(speed, "convolution", seconds(fp32=0.001, bf16=0.05, fp16=0.0005))
    found = {f.name: f for f in hardware.precisions(CPU)}
    assert verdicts(found.values()) == {
        "cpu fp32": "ok", "cpu tf32": "missing", "cpu bf16": "slow", "cpu fp16": "ok",
    }  # fmt: skip
    assert "50 times slower than fp32" in found["cpu bf16"].value and "fp32" in found["cpu bf16"].advice
    assert "2.0 times as fast as fp32" in found["cpu fp16"].value


def test_warnings_for_a_run(monkeypatch, cores):
    cores(4, 4, 3.0)
    monkeypatch.setattr(speed, "convolution", seconds(fp32=0.001, bf16=0.05))
    monkeypatch.setattr(software.shutil, "which", lambda name: None)
    assert doctor.warnings_for(CPU, "fp32", False) == []
    (slow,) = doctor.warnings_for(CPU, "bf16", False)
    assert "50 times slower" in slow
    (missing,) = doctor.warnings_for(CPU, "fp16", False)
    assert "this device has none" in missing
    assert any("compiler" in text for text in doctor.warnings_for(CPU, "fp32", True))
    cores(4, 4, 0.1)
    (threads,) = doctor.warnings_for(CPU, "fp32", False)
    assert "10.0 times slower than one thread" in threads


@pytest.mark.parametrize(("available", "verdict"), [(None, "ok"), (2**40, "ok"), (2**20, "missing")])
def test_memory(monkeypatch, available, verdict):
    monkeypatch.setattr(
        hardware.machine, "memory", lambda device: Memory(*[None] * 3, available, None, None, None)
    )
    (found,) = hardware.memory()
    assert found.verdict == verdict and ("unknown free" in found.value) == (available is None)


def test_cpu_model(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware.sys, "platform", "linux")
    (tmp_path / "proc").mkdir()
    assert hardware.cpu_model(tmp_path) == hardware.platform.machine()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: A CPU @ 3 GHz\ncache\t: 1\n")
    assert hardware.cpu_model(tmp_path) == "A CPU @ 3 GHz"


def test_a_gpu_that_torch_does_not_see(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert next(hardware.accelerators(tmp_path)).verdict == "ok"
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 2024\nGCC\n")
    found = next(hardware.accelerators(tmp_path))
    assert found.verdict == "missing" and "550.54.15" in found.value and "CUDA" in found.advice


def test_packages(monkeypatch):
    monkeypatch.setattr(software, "version", lambda name: None if name in ("lmdb", "pillow") else "1.0")
    assert verdicts(software.packages()) == {"accelerate": "ok", "datasets": "ok", "lmdb": "missing"}
    assert "pip install pillow" in list(software.versions())[-1].advice
    assert list(software.versions())[-1].verdict == "broken"


def test_optional_packages_are_those_imported():
    """Every one listed is imported somewhere, inside a function."""
    inner: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            inner |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            inner |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
    assert set(software.OPTIONAL) <= inner


def test_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(software.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10**8}))
    (found,) = software.disk(tmp_path)
    assert found.verdict == "missing" and "0.1 GB" in found.value


@pytest.mark.parametrize(("cxx", "others", "advice"), [("", [], "install"), ("", ["clang++"], "CXX=clang++")])
def test_compiler(monkeypatch, cxx, others, advice):
    monkeypatch.setenv("CXX", cxx)
    monkeypatch.setattr(software.sys, "platform", "linux")
    monkeypatch.setattr(software.shutil, "which", lambda name: name if name in others else None)
    found = {f.name: f for f in software.compiler(CPU)}
    assert advice in found["C++ compiler"].advice and found["torch.compile"].value.startswith("not tried")


def test_a_compilation_that_fails_is_a_finding(monkeypatch):
    def refuse(function):
        raise RuntimeError("no\nlinker")

    monkeypatch.setattr(torch, "compile", refuse)
    found = {f.name: f for f in software.compiler(CPU, full=True)}["torch.compile"]
    assert found.verdict == "missing" and found.value == "RuntimeError: no linker"


@pytest.mark.slow
def test_compilation():
    found = {f.name: f for f in software.compiler(CPU, full=True)}
    assert found["torch.compile"].verdict == ("ok" if found["C++ compiler"].verdict == "ok" else "missing")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_measuring_leaves_the_threads_as_they_were(precision):
    before = torch.get_num_threads()
    measured = speed.convolution(CPU, precision)
    assert measured is None or measured > 0
    assert speed.gain_of_threads() > 0 and torch.get_num_threads() == before


def test_times():
    assert [times(r) for r in (0.01, 0.5, 1.0, 25)] == [
        "100 times slower than",
        "2.0 times slower than",
        "1.0 times as fast as",
        "25 times as fast as",
    ]
    assert gigabytes(None) == "unknown" and gigabytes(3 * 2**29) == "1.5 GB"


def test_events():
    events = list(doctor.examine())
    assert all(isinstance(event, Progress) for event in events[:-1]) and isinstance(events[-1], Done)
    assert all(bool(f.advice) <= (f.verdict != "ok") for f in events[-1].result)


def test_command(undiffuse):
    done = undiffuse("doctor", "--size", "33x20")
    assert done.code == 0 and "Traceback" not in done.err
    for text in (
        torch.__version__,
        "photo at 3x33x20",
        "cores",
        "free of",
        "accelerate",
        "torch.compile",
    ):
        assert text in done.out
    assert re.search(r"cpu bf16 .*(times (slower than|as fast as) fp32, as measured|has none)", done.out)


def test_command_json(undiffuse):
    done = undiffuse("doctor", "--json")
    findings = [Finding(**fields) for fields in json.loads(done.out)]
    assert done.code == 0 and "torch" in {f.name for f in findings}


@pytest.mark.parametrize("arguments", [["--prior", "phto"], ["--size", "big"], ["--prior", "/"]])
def test_mistakes(undiffuse, arguments):
    done = undiffuse("doctor", *arguments)
    assert done.code == 2 and done.err.count("\n") == 1


def test_a_broken_torch(undiffuse, monkeypatch):
    """Said in a line, and in the exit code; the rest is still examined."""

    def refuse(*arguments, **options):
        raise RuntimeError("could not create a primitive\ndescriptor")

    monkeypatch.setattr(torch.nn.functional, "conv2d", refuse)
    monkeypatch.setattr(speed, "conv2d", refuse)
    done = undiffuse("doctor")
    assert done.code == 1 and "Traceback" not in done.err + done.out
    assert "RuntimeError: could not create a primitive descriptor" in done.out and "lmdb" in done.out


@pytest.mark.parametrize(
    ("answer", "text"), [(lambda x, s: x * float("nan"), "wrong"), (lambda x, s: x[..., 1:], "wrong")]
)
def test_a_prior_that_answers_nonsense(answer, text):
    class Wrong(torch.nn.Module):
        def forward(self, x, sigma):
            return answer(x, sigma)

    (found,) = _call(Opened(Wrong(), "wrong"), (3, 8, 8), CPU)
    assert found.verdict == "broken" and text in found.value


def test_a_network_with_classes_and_a_condition():
    class Net(torch.nn.Module):
        def forward(self, x, noise, labels):
            assert x.shape == (1, 3, 8, 8) and labels.shape == (1,)
            return x[:, :1]

    prior = Prior(Net(), scalings.edm(), channels=1, num_classes=3, conditions=2)
    (found,) = _call(Opened(prior, "mine"), (1, 8, 8), CPU)
    assert found.verdict == "ok" and "mine at 1x8x8" in found.value
