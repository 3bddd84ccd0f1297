"""Cores, memory, devices, and the precisions that are fast on them."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from undiffuse.app import machine
from undiffuse.app.doctor import speed
from undiffuse.app.doctor.finding import Finding, gigabytes, times

LITTLE_MEMORY = 2**30  # bytes
OTHERS = ("tf32", "bf16", "fp16")
SPINNING = (
    "a thread that waits keeps its core busy, so that with other programs on the cores several threads can be "
    "10 to 100 times slower than one; set OMP_WAIT_POLICY=PASSIVE or OMP_NUM_THREADS=1 before the start"
)


def devices() -> list[torch.device]:
    """The CPU and every accelerator that torch sees."""
    found = [torch.device("cpu"), *(torch.device("cuda", i) for i in range(torch.cuda.device_count()))]
    return found + [torch.device("mps")] * torch.backends.mps.is_available()


def processor() -> Iterator[Finding]:
    """What the CPU is, and how much of it is ours."""
    capability = torch.backends.cpu.get_cpu_capability()
    sets = ", ".join(sorted(_half_precision_sets())) or "none"
    yield Finding("CPU", f"{cpu_model()}; torch uses {capability}; instructions for half precision: {sets}")
    value = f"{machine.cores()}; programs that want one, mean of a minute: {_load():.1f}"
    if _crowded():
        yield Finding(
            "cores", value, "slow", "everything here shares them; stop or wait for the other programs"
        )
    else:
        yield Finding("cores", value)


def threads() -> Iterator[Finding]:
    """Whether torch's threads help or wait for each other. Measured, where there is more than one."""
    count, cores = machine.threads(), machine.cores()
    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    value = (
        f"{count}; OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')}, OMP_WAIT_POLICY {policy}"
    )
    if count == 1:
        more = f"; {cores} cores are there" if cores > 1 else ""
        yield Finding("threads", value + more)
        return
    gain = speed.gain_of_threads()
    value += f"; {times(gain)} one thread"
    if count > cores:
        yield Finding("threads", value, "slow", f"more threads than cores; set OMP_NUM_THREADS={cores}")
    elif policy.lower() != "passive" and (gain < 0.9 or _crowded()):
        yield Finding("threads", value, "slow", SPINNING)
    elif gain < 0.9:
        yield Finding("threads", value, "slow", "other programs use the cores; set OMP_NUM_THREADS=1")
    else:
        yield Finding("threads", value)


def _load() -> float:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # not on Windows


def _crowded() -> bool:
    return _load() > machine.cores()


def cpu_model(root: Path = machine.ROOT) -> str:
    """Its name, from /proc or sysctl; else the architecture."""
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    path = root / "proc/cpuinfo"
    found = re.search(r"^model name\s*: (.+)$", path.read_text() if path.exists() else "", re.M)
    return found[1] if found else platform.machine()


def _half_precision_sets() -> list[str]:
    read = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.9
    return [
        name for name, has in (read() if read else {}).items() if has is True and re.search("bf16|fp16", name)
    ]


def memory() -> Iterator[Finding]:
    """Of the machine or its container."""
    m = machine.memory(torch.device("cpu"))
    value = f"{gigabytes(m.available)} free of {gigabytes(m.total)}; this process has {gigabytes(m.resident)}"
    if m.available is not None and m.available < LITTLE_MEMORY:
        advice = "a network with its gradients needs gigabytes; close other programs"
        yield Finding("memory", value, "missing", advice)
    else:
        yield Finding("memory", value)


def accelerators(root: Path = machine.ROOT) -> Iterator[Finding]:
    """GPUs that torch sees, and one that it should see."""
    version = root / "proc/driver/nvidia/version"
    match = re.search(r"Kernel Module\D*([\d.]+)", version.read_text()) if version.exists() else None
    driver = match[1] if match else "unknown"
    for i in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(i)
        free, total = torch.cuda.mem_get_info(i)
        value = f"{torch.cuda.get_device_name(i)}, capability {major}.{minor}, "
        value += f"{gigabytes(free)} free of {gigabytes(total)}, driver {driver}, "
        value += f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
        yield Finding(f"cuda:{i}", value)
    if not torch.cuda.device_count() and match:
        advice = "torch does not see the GPU of this driver; install a torch with CUDA (pytorch.org)"
        yield Finding("GPU", f"none for torch {torch.__version__}; NVIDIA driver {driver}", "missing", advice)
    elif not torch.cuda.device_count():
        yield Finding("GPU", "none")
    if torch.backends.mps.is_available():
        yield Finding(
            "mps",
            "used only if named: what needs float64, which it has not, is done on the CPU",
        )


def precisions(device: torch.device, names: tuple[str, ...] = OTHERS) -> Iterator[Finding]:
    """Against fp32, on the same convolution."""
    try:
        base = speed.convolution(device, "fp32")
    except torch.OutOfMemoryError:
        yield Finding(f"{device}", "no memory left", "missing", "another program has it; use another device")
        return
    assert base is not None  # every device has fp32, or raises
    yield Finding(f"{device} fp32", f"{base * 1e3:.2f} ms for a small convolution")
    for name in names:
        seconds = speed.convolution(device, name)
        if seconds is None:
            advice = "" if name == "tf32" else "use fp32"  # nobody has to ask for tf32
            yield Finding(f"{device} {name}", "this device has none", "missing", advice)
        elif base / seconds < 0.8:  # what is asked for speed and gives none
            value = f"{times(base / seconds)} fp32, as measured"
            yield Finding(f"{device} {name}", value, "slow", "no fast instructions for it here; use fp32")
        else:
            yield Finding(f"{device} {name}", f"{times(base / seconds)} fp32, as measured")
