"""`photo-fast` and `photo-small`, four calls, beside the twenty of `photo`: decibels, and time.

    python benchmarks/photo_fast.py FILE [FILE ...] [--tasks sr4,deblur_gauss,inp] [--side 256]

Each restores with the preset for the lowest error that `undiffuse restore` would take with it. Pictures are centre
crops, and all read the same measurement. Writes
benchmarks/results/photo_fast.json and .md: mean PSNR, the difference on the same pictures with its 95 % interval,
network calls, and CPU seconds of one restoration from measurement to picture, one thread.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from undiffuse.app.bench.summary import interval
from undiffuse.app.presets import preset_for
from undiffuse.app.priors import Opened, open_prior
from undiffuse.core.images import read
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators import build
from undiffuse.restore import Problem, measure

PRIORS = ("photo", "photo-fast", "photo-small")
NOISE = (0.0, 0.05)
RESULTS = Path(__file__).parent / "results"


def crop(path: Path, side: int) -> Tensor:
    pixels = read(path).pixels[None, :3].float()
    top, left = (max(0, n - side) // 2 for n in pixels.shape[2:])
    return pixels[:, :, top : top + side, left : left + side]


def restored(opened: Opened, problem: Problem, seed: int) -> tuple[Tensor, int, float]:
    """The answer, its network calls and its CPU seconds."""
    preset = preset_for(opened, problem, "psnr")
    assert preset is not None, f"no preset of {opened.name} for this"
    method = preset.method(opened, problem)
    began, noise = time.process_time(), SeededNoise([seed])
    step = method.step(opened.denoise, problem, noise)
    sigmas = method.sigmas.float()
    x = last(sample(step, method.start(problem, sigmas[0], noise), sigmas)).x.clamp(-1, 1)
    return x, len(sigmas) - 1, time.process_time() - began


def cell(priors: list[Opened], task: str, noise: float, clean: list[Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {one.name: {"psnr": [], "seconds": []} for one in priors}
    for seed, x in enumerate(clean):
        A = build(task, tuple(x.shape[1:])).float()
        problem = Problem(A, measure(A, x, 2 * noise, SeededNoise([seed])), 2 * noise)
        for one in priors:
            answer, calls, seconds = restored(one, problem, seed)
            row = found[one.name]
            row["psnr"].append(round(psnr(answer, x).item(), 4))
            row["seconds"].append(round(seconds, 4))
            row["calls"] = calls
    return {"task": task, "noise": noise, "rows": found}


def lines(one: dict[str, Any]) -> list[str]:
    rows = one["rows"]
    first = rows[PRIORS[0]]
    shown = []
    for name, row in rows.items():
        apart = interval([a - b for a, b in zip(row["psnr"], first["psnr"], strict=True)])
        quicker = sum(first["seconds"]) / sum(row["seconds"])
        difference = "" if row is first or apart is None else str(apart)
        mean, seconds = sum(row["psnr"]) / len(row["psnr"]), sum(row["seconds"]) / len(row["seconds"])
        shown.append(
            f"| {one['task']} | {one['noise']} | {name} | {row['calls']} | {mean:.2f} | {difference} | "
            f"{seconds:.2f} | {quicker:.1f} |"
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--tasks", default="sr4,deblur_gauss,inp")
    parser.add_argument("--side", type=int, default=256)
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    priors, clean = [open_prior(name) for name in PRIORS], [crop(path, given.side) for path in given.files]
    cells = [cell(priors, task, noise, clean) for task in given.tasks.split(",") for noise in NOISE]
    found = {
        "pictures": [path.name for path in given.files], "side": given.side, "torch": torch.__version__,
        "sha256": {one.name: one.sha256 for one in priors}, "cells": cells,
    }  # fmt: skip
    (RESULTS / "photo_fast.json").write_text(json.dumps(found, indent=1) + "\n")
    head = "| degradation | noise | prior | calls | PSNR | to photo | CPU seconds | times quicker |"
    text = [
        "# `photo-fast` and `photo-small` beside `photo`: `benchmarks/photo_fast.py`\n\n"
        f"{len(clean)} pictures, {given.side} x {given.side} centre crops: {', '.join(found['pictures'])}.\n\n{head}",
        "|---" * 8 + "|",
        *(line for one in cells for line in lines(one)),
    ]
    (RESULTS / "photo_fast.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
