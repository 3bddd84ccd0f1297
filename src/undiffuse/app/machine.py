"""What this process may use: device, cores, memory. Read from the system; None where it does not say."""

import ctypes
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path("/")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
SAID = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
LARGEST_KEPT, KEPT = 2**27, 2**29  # bytes of a block, and in all
_UNLIMITED = 2**60  # cgroup v1 writes "no limit" as a number of pages near 2^63


class Memory(NamedTuple):
    """Bytes. None: not known, or, of the device, on the CPU. Total and available obey the container's limit."""

    resident: int | None
    resident_peak: int | None
    total: int | None
    available: int | None
    device_allocated: int | None
    device_peak: int | None
    device_total: int | None


def device(name: str) -> torch.device:
    """A device by name, or the best one for 'auto'. ValueError if there is no such, or none here."""
    if name == "auto":  # never mps: it has no float64, and what it costs is not measured
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d{1,3})?", name):
        raise ValueError(f"no device '{name}'; choose from auto, cpu, cuda, cuda:1 (and so on), mps")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device '{name}' cannot be used here; use auto or cpu") from error
    return torch.device(name)


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what went wrong: torch's own error for it is a RuntimeError."""
    said = re.search("out of memory|can't allocate memory|_STATUS_ALLOC_FAILED", str(error))
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said is not None)


def release(device: torch.device) -> None:
    """Give back what torch keeps of the device's memory for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def keep_freed() -> None:
    """Let the C library keep memory that is freed for the next call of the network, where it is glibc.

    It gives large blocks back to the system at once, and takes them again page by page at the next call, at a fault
    each: a quarter to two fifths of the time of a network on a CPU (benchmarks/allocator.py). Whoever has said through
    the environment how it should be is left alone. Blocks of more than 128 MB, such as a large photograph, go back.
    """
    if platform.libc_ver()[0] == "glibc" and not any(name in os.environ for name in SAID):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def memory(device: torch.device, root: Path = ROOT) -> Memory:
    """Now. Cheap enough for every step of a run: it reads a few small files and does not wait for the device."""
    resident, peak = _process(root)
    total, available = _system(root)
    return Memory(resident, peak, total, available, *_device(device))


def cores(root: Path = ROOT) -> int:
    """Cores this process may run on: the affinity, and the container's quota rounded down, at least 1."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    usable = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([usable, *(int(quota) for quota in _quotas(root))]))


def threads() -> int:
    """Threads torch computes with: OMP_NUM_THREADS, or torch's choice, which knows no container quota."""
    return torch.get_num_threads()


def _process(root: Path) -> tuple[int | None, int | None]:
    status = _table(root / "proc/self/status")
    peak = status.get("VmHWM")
    if peak is None and sys.platform == "darwin":
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes there, kB on Linux
    return status.get("VmRSS"), peak


def _system(root: Path) -> tuple[int | None, int | None]:
    """The machine's, or the tightest of the containers around this process."""
    table = _table(root / "proc/meminfo")
    total, available = table.get("MemTotal"), table.get("MemAvailable")
    if total is None and sys.platform == "darwin":
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, left in _limits(root):
        total = limit if total is None else min(total, limit)
        if left is not None:
            available = left if available is None else min(available, left)
    return total, available


def _device(device: torch.device) -> tuple[int | None, int | None, int | None]:
    if device.type == "cuda":
        allocated, peak = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
        return allocated, peak, torch.cuda.get_device_properties(device).total_memory
    if device.type == "mps":
        return torch.mps.current_allocated_memory(), None, torch.mps.recommended_max_memory()
    return None, None, None


def _table(path: Path) -> dict[str, int]:
    """Lines such as 'VmRSS:  1784 kB' in bytes; empty where there is no such file."""
    return {name: int(kb) * 1024 for name, kb in re.findall(r"^(\w+):\s+(\d+) kB$", _text(path) or "", re.M)}


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    """An integer alone in a file; None for 'max' or no file."""
    text = (_text(path) or "").strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control group and those around it: v1 (one tree for each controller) and v2.

    A container may see its own group as the top: folders that are not there are passed over.
    """
    mount = root / "sys/fs/cgroup"
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        number, controllers, inside = line.split(":", 2)
        if number == "0" and not controllers:
            trees = [mount, mount / "unified"]
        elif controller in controllers.split(","):
            trees = [mount / controllers, mount / controller]
        else:
            continue
        parts = [part for part in inside.split("/") if part not in ("", "..")]
        for tree in trees:
            yield from (tree.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _limits(root: Path) -> Iterator[tuple[int, int | None]]:
    """(limit, what is left of it) of every group that has one. Cache of files that can be dropped is left."""
    for group in _groups(root, "memory"):
        for maximum, current, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(group / maximum), _number(group / current)
            if limit is None or not 0 <= limit < _UNLIMITED:
                continue
            kept = re.search(rf"^{cache} (\d+)$", _text(group / "memory.stat") or "", re.M)
            dropped = int(kept[1]) if kept else 0
            yield limit, None if used is None else max(0, limit - max(0, used - dropped))


def _quotas(root: Path) -> Iterator[float]:
    """Cores' worth of time allowed to every group that has a quota."""
    for group in _groups(root, "cpu"):
        match = re.fullmatch(r"(\d+) (\d+)\s*", _text(group / "cpu.max") or "")
        if match:
            yield int(match[1]) / int(match[2])
        quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            yield quota / period
