"""What it costs to give memory back between two calls of a network: CPU time, page faults, peak memory.

    python benchmarks/allocator.py [--sides 256,1024] [--rounds 5]

The prior `photo` on one picture. Every setting of the C library's allocator has a process of its own: `default`, and
`kept` as `undiffuse` sets it (undiffuse.app.machine.keep_freed). They take turns; a row is the median of the rounds,
each the median of some calls, in CPU seconds of OMP_NUM_THREADS threads (default 1). Only glibc is concerned. Writes
benchmarks/results/allocator.json, and beside it the table (.md).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from undiffuse.app.machine import SAID

RESULTS = Path(__file__).parent / "results" / "allocator.json"
SETTINGS: dict[str, dict[str, str]] = {
    "default": {"GLIBC_TUNABLES": ""},  # keep_freed leaves alone whoever has said something
    "kept": {},
}
PIXELS = 2**21  # in the calls of a round, about


def child(side: int) -> dict[str, float]:
    """Seconds and page faults of a call, and the peak of this process."""
    import torch

    from undiffuse.app.priors import open_prior

    torch.set_grad_enabled(False)
    denoise = open_prior("photo").denoise
    x, sigma = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)), torch.tensor(0.3)
    denoise(x, sigma)
    denoise(x, sigma)
    seconds, faults = [], resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(max(3, PIXELS // side**2)):
        began = time.process_time()
        denoise(x, sigma)
        seconds.append(time.process_time() - began)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": median(seconds),
        "faults": (used.ru_minflt - faults) / len(seconds),
        "peak_mib": used.ru_maxrss / 2**10,
    }


def measured(side: int, rounds: int) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    bare = {name: value for name, value in os.environ.items() if name not in SAID}
    for _ in range(rounds):
        for name, told in SETTINGS.items():
            command = [sys.executable, __file__, "--child", str(side)]
            done = subprocess.run(command, env=bare | told, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout))
    return [
        {"side": side, "setting": name} | {key: median(one[key] for one in all_of) for key in all_of[0]}
        for name, all_of in found.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    head = "| picture | allocator | CPU ms a call | to default | page faults a call | peak MiB |"
    lines = [head, "|---" * 6 + "|"]
    for row in rows:
        base = next(one for one in rows if one["side"] == row["side"] and one["setting"] == "default")
        lines.append(
            f"| {row['side']}x{row['side']} | {row['setting']} | {row['seconds'] * 1e3:.1f} | "
            f"{row['seconds'] / base['seconds']:.2f} | {row['faults']:.0f} | {row['peak_mib']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", default="256,1024")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(child(given.child)))
        return
    rows = [row for side in given.sides.split(",") for row in measured(int(side), given.rounds)]
    RESULTS.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    text = table(rows)
    said = "What a call of the prior `photo` costs if the memory of the one before was given back, and if it was kept."
    RESULTS.with_suffix(".md").write_text(
        f"# The C library's allocator: `benchmarks/allocator.py`\n\n{said}\n\n{text}"
    )
    print(text)


if __name__ == "__main__":
    main()
