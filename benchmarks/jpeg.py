"""Old JPEGs restored: decibels above the picture as it was stored, and whether the answer is what was stored.

    python benchmarks/jpeg.py FILE [FILE ...] [--qualities 10 30 60 85 95] [--side 256]

Centre crops of the files, which nobody compressed before, are written by Pillow with each quality, with whole and with
halved colours (4:4:4 and 4:2:0), and read back as `undiffuse restore --measured --degrade jpeg` does: steps and
colours are the file's. Beside the calls that it takes, twenty from sigma 2, where `dpir` begins with other
degradations. Writes benchmarks/results/jpeg.json and the table, .md, where --output says: means over the pictures with
their 95 % intervals, and the verdicts of the certificate.
"""

import argparse
import json
import math
import tempfile
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from undiffuse.app.bench.summary import interval
from undiffuse.app.priors import Opened
from undiffuse.app.restore.task import Task, prepare
from undiffuse.config import RestoreConfig
from undiffuse.core.images import read, to_bytes
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.restore import certify
from undiffuse.restore.dpir import levels

SAMPLING = {"4:4:4": 0, "4:2:0": 2}  # as Pillow counts it
RESULTS = Path(__file__).parent / "results" / "jpeg.json"


def crop(path: Path, side: int) -> Tensor:
    """(1, 3, side, side), the centre, in whole levels of 8 bits."""
    pixels = read(path).pixels[None, :3]
    top, left = (max(0, n - side) // 2 for n in pixels.shape[2:])
    return pixels[:, :, top : top + side, left : left + side]


def restored(task: Task, sigmas: Tensor) -> Tensor:
    """The answer on these levels."""
    noise = SeededNoise([task.seed(0)])
    with torch.inference_mode():
        step = task.method.step(task.denoiser(), task.problem, noise)
        x = task.method.start(task.problem, sigmas[0], noise)
        return last(sample(step, x, sigmas)).x.clamp(-1, 1)


def cell(pictures: list[Tensor], quality: int, sampling: str, priors: dict[str, Opened]) -> dict[str, Any]:
    """One line of the table."""
    stored: list[float] = []
    ours: list[float] = []
    long: list[float] = []
    verdicts: Counter[str] = Counter()
    calls: set[int] = set()
    with tempfile.TemporaryDirectory() as folder:
        for x in pictures:
            path = Path(folder) / "picture.jpg"
            Image.fromarray(to_bytes(x[0])).save(path, quality=quality, subsampling=SAMPLING[sampling])
            task = prepare(RestoreConfig(image=path, measured=True, degrade="jpeg"), priors)
            sigmas = task.method.sigmas.float()
            answer = restored(task, sigmas)
            twenty = restored(task, levels(20, task.problem.sigma_y).float())
            y = task.problem.y
            stored.append(psnr(y, x).item())
            ours.append(psnr(answer, x).item() - stored[-1])
            long.append(psnr(twenty, x).item() - stored[-1])
            found = certify(task.problem, answer, sigma_error=task.measurement.sigma_error)
            verdicts[found[0].verdict] += 1
            calls.add(len(sigmas) - 1)
    assert len(calls) == 1
    spread = interval(ours)
    return {
        "quality": quality, "colours": sampling, "stored": mean(stored), "calls": calls.pop(),
        "gain": mean(ours), "+-": spread.half if spread else math.nan, "least": min(ours), "gain of twenty": mean(long),
        "verdicts": dict(verdicts),
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """As Markdown."""
    verdicts = ("consistent", "close", "inconsistent")
    lines = [
        "# Old JPEGs: `benchmarks/jpeg.py`", "",
        f"{len(found['pictures'])} pictures, {found['side']} x {found['side']} centre crops: "
        f"{', '.join(found['pictures'])}. Decibels; gains are above the picture as it was stored. Certificates: "
        "consistent, close, inconsistent.", "",
        "| quality | colours | stored | calls | gain | least | gain of twenty from sigma 2 | certificates |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {row['quality']} | {row['colours']} | {row['stored']:.2f} | {row['calls']} | {row['gain']:+.2f} "
        f"+-{row['+-']:.2f} | {row['least']:+.2f} | {row['gain of twenty']:+.2f} | "
        f"{', '.join(str(row['verdicts'].get(verdict, 0)) for verdict in verdicts)} |"
        for row in found["rows"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--qualities", nargs="+", type=int, default=[10, 30, 60, 85, 95])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    pictures = [crop(path, given.side) for path in given.files]
    found: dict[str, Any] = {"pictures": [path.name for path in given.files], "side": given.side, "rows": []}
    priors: dict[str, Opened] = {}
    for sampling in SAMPLING:
        for quality in given.qualities:
            found["rows"].append(cell(pictures, quality, sampling, priors))
            print(found["rows"][-1], flush=True)
    given.output.write_text(json.dumps(found, indent=1) + "\n")
    given.output.with_suffix(".md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
