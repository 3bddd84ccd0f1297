"""Versions, packages, the compiler, the disk."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from undiffuse.app.doctor.finding import Finding, gigabytes
from undiffuse.core.devices import has_float64
from undiffuse.registry import entry_points, load_entry_point

NEEDED = ("numpy", "pillow", "tifffile", "imagecodecs", "pydantic", "pyyaml", "safetensors", "jinja2", "rich")
OPTIONAL = {
    "accelerate": "`undiffuse train` needs it; pip install accelerate",
    "datasets": "training data from the Hugging Face hub needs it; pip install datasets",
    "lmdb": "training data in LSUN's format needs it; pip install lmdb",
}
LITTLE_DISK = 2 * 2**30  # bytes: a few states of a network of 50 million weights


def version(package: str) -> str | None:
    """As installed, without importing it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> Iterator[Finding]:
    """What everything is built on."""
    yield Finding("undiffuse", version("undiffuse") or "not installed as a package")
    yield Finding("Python", f"{platform.python_version()} on {platform.platform()}")
    yield Finding("torch", torch.__version__)
    yield Finding("numpy", version("numpy") or "none")
    gone = [package for package in NEEDED if version(package) is None]
    if gone:
        names = " ".join(gone)
        yield Finding("dependencies", f"{names} not installed", "broken", f"pip install {names}")


def packages() -> Iterator[Finding]:
    """Those that only some commands need."""
    for package, purpose in OPTIONAL.items():
        found = version(package)
        yield Finding(package, found) if found else Finding(package, "not installed", "missing", purpose)


def plugins() -> Iterator[Finding]:
    """Installed ones, imported here: they may register the prior to try."""
    for point in entry_points():
        try:
            yield Finding("plugin", load_entry_point(point))
        except ValueError as error:
            value, _, advice = " ".join(str(error).split()).rpartition("; ")
            yield Finding("plugin", value, "broken", f"every command imports it; {advice}")


def torch_works() -> Iterator[Finding]:
    """What all of ours rests on, with known answers: convolution, float64 Fourier transform, numpy arrays."""
    x = torch.ones(1, 2, 5, 5)
    right = torch.nn.functional.conv2d(x, x[..., :3, :3]).eq(18).all().item()
    y = torch.linspace(0, 1, 15, dtype=torch.float64).reshape(3, 5)
    back = torch.fft.irfft2(torch.fft.rfft2(y), s=y.shape)
    right = right and torch.allclose(back, y, atol=1e-12) and abs(float(y.numpy().sum()) - 7.5) < 1e-12
    value = "convolution, Fourier transform, numpy arrays"
    if right:
        yield Finding("arithmetic", f"right: {value}")
    else:
        yield Finding("arithmetic", f"wrong: {value}", "broken", "reinstall torch and numpy for this machine")


def compiler(device: torch.device, *, full: bool = False) -> Iterator[Finding]:
    """What torch.compile needs. full: try it, which takes about 20 seconds."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")  # as torch chooses
    path, other = shutil.which(name), shutil.which("clang++")
    if path:
        yield Finding("C++ compiler", path)
    else:
        advice = "torch.compile needs it; " + ("set CXX=clang++" if other else f"install {name}")
        yield Finding("C++ compiler", f"no {name}", "missing", advice)
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        yield Finding("Python.h", "not there", "missing", "torch.compile needs it; install python3-dev")
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        yield Finding(
            "triton", "not installed", "missing", "torch.compile on CUDA needs it; pip install triton"
        )
    elif device.type == "cuda":
        yield Finding("triton", version("triton") or "there, version unknown")
    if not full:
        yield Finding("torch.compile", "not tried; --full does")
        return
    shift = time.time()  # a constant in the code: nothing compiled before can serve
    began = time.perf_counter()
    try:
        dtype = torch.float64 if has_float64(device) else torch.float32
        got = torch.compile(lambda x: torch.sin(x) + shift)(torch.zeros(8, device=device, dtype=dtype))
    except Exception as error:  # of the compiler, of torch, of the linker: all are facts about this machine
        first = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        yield Finding("torch.compile", first, "missing", "leave train.compile off")
        return
    if got.cpu().eq(torch.tensor(shift, dtype=got.dtype)).all():
        yield Finding("torch.compile", f"works on {device}: {time.perf_counter() - began:.0f} s for one line")
    else:
        yield Finding("torch.compile", "computes a wrong sum", "missing", "leave train.compile off")


def disk(folder: Path = Path()) -> Iterator[Finding]:
    """Where results go unless --out says otherwise."""
    free = shutil.disk_usage(folder).free
    value = f"{gigabytes(free)} free in this folder"
    if not os.access(folder, os.W_OK):
        yield Finding("disk", "this folder cannot be written to", "missing", "go to another, or use --out")
    elif free < LITTLE_DISK:
        yield Finding(
            "disk", value, "missing", "states of a training run take gigabytes; make room or use --out"
        )
    else:
        yield Finding("disk", value)
