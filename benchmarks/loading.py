"""What loading a published checkpoint takes: memory, bytes from the disk and seconds, beside the usual way.

    python benchmarks/loading.py [--folder FOLDER]

A file of the size and shapes of 256x256_diffusion.pt is made of random numbers (2.2 GB in FOLDER, removed afterwards).
Each row is a process of its own that starts with the file out of the system's cache. Memory: the largest resident set
beyond that after importing, mapped pages of the file included; the weights are all looked at once, as a network's first
call does. Writes benchmarks/results/loading.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from undiffuse.app.priors import open_prior
from undiffuse.checkpoints import load
from undiffuse.checkpoints.found import network_of
from undiffuse.checkpoints.known import known
from undiffuse.networks import ADM, ADMConfig

NAME = "256x256_diffusion"
RESULT = Path(__file__).parent / "results" / "loading.md"


def network(device: str) -> ADM:
    sizes = network_of(known()[NAME])
    with torch.device(device):
        return ADMConfig(**{key: value for key, value in sizes.items() if key != "name"}).build()


def usual(path: str) -> torch.nn.Module:
    """As scripts do: a network with weights of its own, and the file read into others."""
    net = network("cpu")
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return net


WAYS = {
    "undiffuse.checkpoints.load": lambda path: load(path).prior.net,
    "app.open_prior: with the SHA-256 of the file": lambda path: open_prior(path).prior.net,
    "torch.load and load_state_dict": usual,
}


def status(field: str) -> int:
    """Bytes, from /proc/self/status."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def from_disk() -> int:
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


def child(way: str, path: str) -> dict[str, float]:
    before, disk, began = status("VmRSS"), from_disk(), time.perf_counter()
    net = WAYS[way](path)
    loaded = time.perf_counter() - began
    at_load = status("VmHWM") - before
    total = sum(value.double().sum().item() for value in net.parameters())
    assert total == total  # no NaN: the file was read
    return {
        "seconds": loaded,
        "seconds_touched": time.perf_counter() - began,
        "peak_loaded": at_load,
        "peak": status("VmHWM") - before,
        "disk": from_disk() - disk,
    }


def cold(path: Path) -> None:
    """Out of the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def make(folder: Path) -> Path:
    path = folder / f"{NAME}.pt"
    draws = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(value.shape, generator=draws)
        for name, value in network("meta").state_dict().items()
    }
    torch.save(state, path)
    return path


def table(size: int, rows: dict[str, dict[str, float]]) -> str:
    lines = [
        "# Loading a published checkpoint",
        "",
        f"A file with the tensors of {NAME}.pt, random numbers, {size / 1e6:,.0f} MB, out of the system's cache,",
        "by `benchmarks/loading.py`. Memory is the largest resident set beyond that before, mapped pages of the",
        "file included: until the network is there, and once every weight was looked at. MB are 10^6 bytes.",
        "Seconds of wall time on a CPU that others use, too; most are those of the disk.",
        "",
        "| way | MB until loaded | MB in all | beyond the file | MB from disk | seconds to load | and all weights |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for way, row in rows.items():
        peak, disk = row["peak"] / 1e6, row["disk"] / 1e6
        lines.append(
            f"| {way} | {row['peak_loaded'] / 1e6:,.0f} | {peak:,.0f} | {peak - size / 1e6:+,.0f} | {disk:,.0f} "
            f"| {row['seconds']:.1f} | {row['seconds_touched']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(child(*asked.child)))
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        path, rows = make(Path(folder)), {}
        for way in WAYS:
            cold(path)
            command = [sys.executable, __file__, "--child", way, str(path)]
            rows[way] = json.loads(
                subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            )
            print(way, rows[way])
        RESULT.write_text(table(path.stat().st_size, rows))


if __name__ == "__main__":
    main()
