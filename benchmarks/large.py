"""Large photographs through `undiffuse restore`: processor seconds and peak memory of the whole process.

    python benchmarks/large.py [network|closed]

The photograph is the bundled one, tiled. `network`: the prior `photo` on 1, 3 and 12 megapixels in two steps, which
shows the peak, for every step needs the same memory, and the cost of a step. `closed`: the prior `photo-gaussian`
on 12 megapixels. Rows replace those of the same picture and options in benchmarks/results/large.json, with a table
in large.md. Processor seconds, user and system: they do not depend on what else the machine does, as long as one
thread runs.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from undiffuse.core.images import read, write

RESULTS = Path(__file__).parent / "results"
NETWORK = ["--noise", "0.02", "--prior", "photo", "--steps", "2"]
CLOSED = ["--noise", "0.02", "--prior", "photo-gaussian"]
Case = tuple[tuple[int, int], list[str]]
CASES: dict[str, list[Case]] = {
    "network": [
        ((1000, 1000), ["--degrade", "sr4", *NETWORK]),
        ((1500, 2000), ["--degrade", "sr4", *NETWORK]),
        ((3000, 4000), ["--degrade", "sr4", *NETWORK]),
        ((3000, 4000), ["--degrade", "deblur_gauss", *NETWORK]),
        ((3000, 4000), ["--degrade", "inp", *NETWORK]),
    ],
    "closed": [
        ((3000, 4000), ["--degrade", "deblur_gauss", *CLOSED]),
        ((3000, 4000), ["--degrade", "sr4", *CLOSED]),
        ((3000, 4000), ["--degrade", "deblur_gauss", *CLOSED, "--algorithm", "ddrm", "--steps", "4"]),
    ],
}


def child(image: str, out: str, arguments: list[str]) -> dict[str, Any]:
    """In a process of its own, so that the peak is that of one run."""
    command = [sys.executable, "-m", "undiffuse", "restore", image, *arguments, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_gib": round(used.ru_maxrss / 2**20, 2),
        "notes": re.findall(r"the prior sees \d+ windows of \d+x\d+", done.stderr)[:1],
        "said": done.stdout.strip(),
    }


def measured(size: tuple[int, int], options: list[str]) -> dict[str, Any]:
    """One row of the results."""
    tile = read(str(files("undiffuse.assets") / "dog.jpg")).pixels
    repeats = [-(-n // m) for n, m in zip(size, tile.shape[1:], strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "big.png"
        write(tile.repeat(1, *repeats)[:, : size[0], : size[1]], image)
        command = [sys.executable, __file__, "child", str(image), f"{folder}/out", *options]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row = {"picture": f"{size[0]}x{size[1]}", "options": " ".join(options)}
    return {**row, "threads": os.environ.get("OMP_NUM_THREADS", "default"), **json.loads(done.stdout)}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "# Large photographs",
        "",
        "The whole of `undiffuse restore`, by `benchmarks/large.py`: reading, restoring, judging, writing the report.",
        "With the prior `photo` two steps were run. More steps need no more memory; a step costs at most half of the",
        "seconds shown, so 20 steps at most ten times them.",
        "",
        "| picture | options | prior sees | CPU seconds | per megapixel | peak GiB |",
        "|---|---|---|---:|---:|---:|",
    ]
    for row in rows:
        height, width = (int(n) for n in row["picture"].split("x"))
        windows = next((n for n in row["notes"] if "windows of" in n), "the whole picture")
        each = row["cpu_seconds"] / (height * width / 1e6)
        lines.append(
            f"| {row['picture']} | `{row['options']}` | {windows.removeprefix('the prior sees ')} "
            f"| {row['cpu_seconds']:.0f} | {each:.1f} | {row['peak_gib']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        print(json.dumps(child(sys.argv[2], sys.argv[3], sys.argv[4:])))
        return
    path = RESULTS / "large.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": []}
    rows: list[dict[str, Any]] = found["rows"]
    chosen = sys.argv[1:] or list(CASES)
    for size, options in [case for name in chosen for case in CASES[name]]:
        row = measured(size, options)
        print(row, flush=True)
        rows = [r for r in rows if (r["picture"], r["options"]) != (row["picture"], row["options"])] + [row]
        path.write_text(json.dumps({**found, "rows": rows}, indent=1) + "\n")
        (RESULTS / "large.md").write_text(table(rows))


if __name__ == "__main__":
    main()
