"""A 12-megapixel photograph through `undiffuse restore`: seconds and peak memory of the whole process.

    python benchmarks/large.py

The photograph is the bundled one, tiled to 4000 x 3000. Writes benchmarks/results/large.json and prints a table.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

from undiffuse.core.images import read, write

CLOSED = ["--prior", "photo-gaussian"]  # a network of this size waits for windows
CASES = [
    ["--degrade", "deblur_gauss", "--noise", "0.02", *CLOSED],
    ["--degrade", "sr4", "--noise", "0.02", *CLOSED],
    ["--degrade", "deblur_gauss", "--noise", "0.02", "--algorithm", "ddrm", "--steps", "4", *CLOSED],
]


def child(arguments: list[str]) -> dict[str, float | str]:
    """In a process of its own, so that the peak is that of one run."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "undiffuse", "restore", *arguments], capture_output=True, text=True
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    if done.returncode:
        raise SystemExit(done.stderr)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_gib": round(peak, 2),
        "said": done.stdout.strip(),
    }


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(child(sys.argv[1:])))
        return
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        big = read(str(files("undiffuse.assets") / "dog.jpg")).pixels.repeat(1, 6, 7)[:, :3000, :4000]
        write(big, Path(folder) / "big.png")
        for options in CASES:
            command = [sys.executable, __file__, f"{folder}/big.png", *options, "--out", f"{folder}/out"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({"options": " ".join(options), **json.loads(done.stdout)})
            print(rows[-1], flush=True)
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    result = {"pixels": "4000 x 3000 x 3", "threads": threads, "rows": rows}
    (Path(__file__).parent / "results" / "large.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
