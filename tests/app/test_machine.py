"""Cores and memory from invented /proc and cgroup files."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from undiffuse.app import machine

GB = 2**30
CPU = torch.device("cpu")
STATUS = "Name:\tpython\nVmPeak:\t 9000 kB\nVmHWM:\t    4000 kB\nVmRSS:\t    3000 kB\nThreads:\t1\n"
MEMINFO = f"MemTotal:  {16 * GB // 1024} kB\nMemFree:  12 kB\nMemAvailable:  {10 * GB // 1024} kB\n"
V1 = "4:memory:/box/inner\n3:cpu,cpuacct:/box/inner\n0::/\n"
V2 = "0::/box/inner\n"


def tree(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n" if not isinstance(content, str) else content)
    return root


@pytest.fixture
def linux(tmp_path):
    """A machine of 16 GB, 10 available, without containers."""
    return tree(tmp_path, {"proc/self/status": STATUS, "proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n"})


@pytest.fixture
def eight(monkeypatch):
    """An affinity of eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def test_without_containers(linux):
    found = machine.memory(CPU, linux)
    assert found == (3000 * 1024, 4000 * 1024, 16 * GB, 10 * GB, None, None, None)


def test_unknown_is_none_and_not_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.sys, "platform", "win32")
    assert set(machine.memory(CPU, tmp_path)) == {None}


@pytest.mark.parametrize("where", ["box/inner", "box", ""])
def test_cgroup_v2_limit_anywhere_above(linux, where):
    top = f"sys/fs/cgroup/{where}"
    tree(linux, {"proc/self/cgroup": V2, "sys/fs/cgroup/box/inner/memory.max": "max\n"})
    tree(linux, {f"{top}/memory.max": 4 * GB, f"{top}/memory.current": 3 * GB})
    tree(linux, {f"{top}/memory.stat": f"anon 5\ninactive_file {GB}\nactive_file 7\n"})
    found = machine.memory(CPU, linux)
    assert (found.total, found.available) == (4 * GB, 2 * GB)


def test_cgroup_v1_limit(linux):
    top = "sys/fs/cgroup/memory/box/inner"
    tree(linux, {"proc/self/cgroup": V1, f"{top}/memory.limit_in_bytes": 2 * GB})
    tree(linux, {f"{top}/memory.usage_in_bytes": 5 * GB, f"{top}/memory.stat": "total_inactive_file 1\n"})
    found = machine.memory(CPU, linux)
    assert (found.total, found.available) == (2 * GB, 0)


def test_limits_that_are_none(linux):
    tree(linux, {"proc/self/cgroup": V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": 2**63 - 4096})
    tree(linux, {"sys/fs/cgroup/memory/memory.usage_in_bytes": GB, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1})
    found = machine.memory(CPU, linux)
    assert (found.total, found.available) == (16 * GB, 10 * GB)


def test_a_limit_above_the_machine(linux):
    tree(linux, {"sys/fs/cgroup/memory.max": 99 * GB, "sys/fs/cgroup/memory.current": GB})
    found = machine.memory(CPU, linux)
    assert (found.total, found.available) == (16 * GB, 10 * GB)


@pytest.mark.parametrize(
    ("quota", "expected"), [("max", 8), ("300000", 3), ("350000", 3), ("50000", 1), ("6400000", 8)]
)
def test_cores_by_quota(linux, eight, quota, expected):
    tree(linux, {"proc/self/cgroup": V2, "sys/fs/cgroup/box/cpu.max": f"{quota} 100000\n"})
    assert machine.cores(linux) == expected


def test_cores_by_quota_v1(linux, eight):
    top = "sys/fs/cgroup/cpu,cpuacct/box"
    tree(
        linux, {"proc/self/cgroup": V1, f"{top}/cpu.cfs_quota_us": 250000, f"{top}/cpu.cfs_period_us": 50000}
    )
    assert machine.cores(linux) == 5


def test_here():
    found = machine.memory(CPU)
    assert machine.cores() >= 1 and machine.threads() == torch.get_num_threads()
    if Path("/proc/self/status").exists():
        assert found.resident and found.resident_peak and found.total and found.available
        assert found.resident <= found.resident_peak and found.available <= found.total


@pytest.mark.parametrize("name", ["gpu", "cuda:", "CPU", "", "cuda:99"])
def test_devices_refused(name):
    with pytest.raises(ValueError, match="device"):
        machine.device(name)


def test_auto_is_never_mps(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert machine.device("auto") == CPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_of_a_gpu():
    cuda = torch.device("cuda")
    before = machine.memory(cuda)
    x = torch.empty(2**22, device=cuda)
    after = machine.memory(cuda)
    assert before.device_allocated is not None and after.device_allocated is not None and after.device_total
    assert after.device_allocated - before.device_allocated == x.numel() * 4


KEEPING = """
import torch
from undiffuse.app.machine import keep_freed, memory
keep_freed()
def resident():
    return memory(torch.device("cpu")).resident
torch.ones(1)
before = resident()
parts = [torch.ones(2**21) for _ in range(5)]
held = resident()
del parts
print(held - before, resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives back at once")
@pytest.mark.parametrize("told", [{}, {"MALLOC_TRIM_THRESHOLD_": "65536"}])
def test_freed_memory_is_kept_unless_the_environment_says_otherwise(told):
    """40 MB, freed: still resident, or not.

    Faults, which are what it is for, cannot be counted: a huge page, where the system has one, takes one for 512.
    """
    bare = {name: value for name, value in os.environ.items() if name not in machine.SAID}
    command = [sys.executable, "-c", KEEPING]
    done = subprocess.run(command, env=bare | told, capture_output=True, text=True, check=True)
    held, left = map(int, done.stdout.split())
    assert held > 30 * 2**20  # the system's count lags by some pages of each thread
    assert left < 10 * 2**20 if told else left > 30 * 2**20
