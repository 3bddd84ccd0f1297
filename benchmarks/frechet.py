"""The Frechet distance of 2048 features: ours against scipy.linalg.sqrtm and against general eigenvalues.

    python benchmarks/frechet.py [--features 2048] [--repeats 2] [--threads 1,2]

Each thread count runs in a process of its own, with the same two covariances: of 4 D draws whose deviations fall as
1 / i, along other axes for the two. Seconds are the least of the repeats, of the trace of the root alone; CPU seconds
stand beside them, as other programs may share the cores. Writes benchmarks/results/frechet.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "frechet.md"
METHODS = {
    "ours": "Cholesky, symmetric eigenvalues (torch)",
    "sqrtm": "scipy.linalg.sqrtm, as pytorch-fid",
    "eigvals": "general eigenvalues (torch), as torchmetrics",
}


def gaussians(features: int) -> list[Any]:
    """Two covariances with D eigenvalues from 1 down to 1 / D^2, each in directions of its own."""
    import torch

    from undiffuse.metrics import moments

    draws = torch.Generator().manual_seed(0)
    found = []
    for _ in range(2):
        x = torch.randn(4 * features, features, generator=draws, dtype=torch.float64)
        turn, _ = torch.linalg.qr(torch.randn(features, features, generator=draws, dtype=torch.float64))
        deviations = torch.arange(1, features + 1, dtype=torch.float64) ** -1
        found.append(moments(x * deviations @ turn)[1])
    return found


def methods(s: Any, t: Any) -> dict[str, Callable[[], float]]:
    """Each gives the squared distance of zero-mean Gaussians."""
    import torch
    from scipy.linalg import sqrtm

    from undiffuse.metrics import frechet

    zero = torch.zeros(len(s), dtype=torch.float64)
    traces = (s.trace() + t.trace()).item()
    return {
        "ours": lambda: frechet(zero, s, zero, t),
        "sqrtm": lambda: traces - 2 * sqrtm(s.numpy() @ t.numpy()).trace().real,
        "eigvals": lambda: traces - 2 * torch.linalg.eigvals(s @ t).sqrt().real.sum().item(),
    }


def worker(features: int, repeats: int) -> dict[str, Any]:
    """Seconds, CPU seconds and value of each method in this process."""
    found: dict[str, Any] = {}
    calls = methods(*gaussians(features))
    for _ in range(repeats):
        for name, call in calls.items():
            began, busy = time.perf_counter(), time.process_time()
            value = call()
            spent = time.perf_counter() - began, time.process_time() - busy
            before = found.get(name, {"seconds": spent[0], "cpu": spent[1]})
            found[name] = {
                "seconds": min(before["seconds"], spent[0]),
                "cpu": min(before["cpu"], spent[1]),
                "value": value,
            }
    return found


def measured(features: int, repeats: int, threads: int) -> dict[str, Any]:
    """A process with so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    command = [sys.executable, __file__, "--worker", "--features", str(features), "--repeats", str(repeats)]
    environment = os.environ | dict.fromkeys(names, str(threads)) | {"OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(features: int, results: dict[int, dict[str, Any]]) -> str:
    """Markdown."""
    import numpy
    import scipy
    import torch

    lines = [
        "# The Frechet distance: `benchmarks/frechet.py`",
        "",
        f"{features} features, float64, {platform.machine()}, torch {torch.__version__}, numpy {numpy.__version__}, "
        f"scipy {scipy.__version__}; mean of a minute's load at the end: {os.getloadavg()[0]:.1f}",
        "",
        "| threads | method | seconds | CPU seconds | times ours | CPU, times ours | distance | relative difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for threads, rows in results.items():
        ours = rows["ours"]
        for name, row in rows.items():
            ratio, busy = row["seconds"] / ours["seconds"], row["cpu"] / ours["cpu"]
            difference = abs(row["value"] - ours["value"]) / ours["value"]
            lines.append(
                f"| {threads} | {METHODS[name]} | {row['seconds']:.2f} | {row['cpu']:.2f} | {ratio:.1f} | {busy:.1f} "
                f"| {row['value']:.10f} | {difference:.1e} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--worker", action="store_true")
    asked = parser.parse_args()
    if asked.worker:
        print(json.dumps(worker(asked.features, asked.repeats)))
        return
    counts = [int(part) for part in asked.threads.split(",")]
    results = {count: measured(asked.features, asked.repeats, count) for count in counts}
    text = table(asked.features, results)
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
