"""`photo-fast` and `photo-small`, four calls, beside the twenty of `photo`: decibels, and time.

    python benchmarks/photo_fast.py FILE [FILE ...] [--tasks sr4 deblur_gauss] [--side 256] [--mark]

Each restores with the preset for the lowest error that `undiffuse restore` would take with it. Pictures are centre
crops, and all read the same measurement. Writes
benchmarks/results/photo_fast.json and .md, or where --output says: mean PSNR, the difference on the same pictures with
its 95 % interval, how many pictures are the original to the last bit once saved, network calls, and CPU seconds of
one restoration from measurement to picture, one thread. Cells that are in the .json for the same pictures, weights
and presets are not measured again.

--mark: writes into src/undiffuse/assets/presets_fast.yaml which presets the prior `auto` takes instead of photo's:
those of a kind of task and noise where no degradation that measures as much loses more than 0.1 dB in the mean.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from undiffuse.app.bench.summary import interval
from undiffuse.app.kinds import kind_of
from undiffuse.app.presets import Preset, preset_for, presets_text, read_presets
from undiffuse.app.priors import Opened, open_prior
from undiffuse.core.images import read, rounded
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators import build
from undiffuse.restore import Problem, measure

PRIORS = ("photo", "photo-fast", "photo-small")
TASKS = (
    "sr4", "sr2", "sr8", "sr_bicubic4", "deblur_gauss", "blur:gaussian,std=2", "blur:disk,taps=11",
    "blur:motion,taps=15,angle=30",
    "inp", "inp:random,missing=0.3", "inp:box", "deno", "color",
)  # fmt: skip
NOISE = (0.0, 0.02, 0.05)
NOISY = (
    "blur:disk,taps=11",
    "blur:motion,taps=15,angle=30",
    "deno",
)  # without: searches of minutes, or nothing to do
AS_GOOD = -0.1  # dB to photo, in the mean of each degradation: the intervals are wider
RESULTS = Path(__file__).parent / "results"
PRESETS = RESULTS.parents[1] / "src/undiffuse/assets/presets_fast.yaml"


def crop(path: Path, side: int) -> Tensor:
    pixels = read(path).pixels[None, :3].float()
    top, left = (max(0, n - side) // 2 for n in pixels.shape[2:])
    return pixels[:, :, top : top + side, left : left + side]


def chosen(opened: Opened, problem: Problem) -> Preset:
    """What `restore` takes."""
    preset = preset_for(opened, problem, "psnr")
    assert preset is not None, f"no preset of {opened.name} for this"
    return preset


def told(preset: Preset) -> str:
    """All that decides the answer but prior and measurement."""
    return f"{preset.algorithm} on {preset.grid or 'its own levels'}"


def restored(opened: Opened, problem: Problem, seed: int) -> tuple[Tensor, int, float]:
    """The answer, its network calls and its CPU seconds."""
    preset = chosen(opened, problem)
    method = preset.method(opened, problem)
    began, noise = time.process_time(), SeededNoise([seed])
    step = method.step(opened.denoise, problem, noise)
    sigmas = method.sigmas.float()
    x = last(sample(step, method.start(problem, sigmas[0], noise), sigmas)).x.clamp(-1, 1)
    return x, len(sigmas) - 1, time.process_time() - began


def cell(priors: list[Opened], task: str, noise: float, clean: list[Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {one.name: {"psnr": [], "exact": 0, "seconds": []} for one in priors}
    for seed, x in enumerate(clean):
        A = build(task, tuple(x.shape[1:])).float()
        problem = Problem(A, measure(A, x, 2 * noise, SeededNoise([seed])), 2 * noise)
        for one in priors:
            answer, calls, seconds = restored(one, problem, seed)
            row = found[one.name]
            row["psnr"].append(round(psnr(answer, x).item(), 4))
            row["exact"] += int(torch.equal(rounded(answer), rounded(x)))
            row["seconds"].append(round(seconds, 4))
            row |= {"calls": calls, "with": told(chosen(one, problem))}
    share = round(A.measurements / math.prod(A.in_shape), 2)
    return {"task": task, "kind": kind_of(A), "share": share, "noise": noise, "rows": found}


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
            f"{row.get('exact') or ''} | {seconds:.2f} | {quicker:.1f} |"
        )
    return shown


def current(one: dict[str, Any], priors: list[Opened], clean: list[Tensor]) -> bool:
    """Whether a cell was measured with the presets of today."""
    A = build(one["task"], tuple(clean[0].shape[1:])).float()
    problem = Problem(A, A(clean[0]), 2 * one["noise"])
    return all(one["rows"][prior.name].get("with") == told(chosen(prior, problem)) for prior in priors)


def marked(preset: Preset, cells: list[dict[str, Any]]) -> Preset:
    """Whether it may stand in for the preset of the first prior, and down to which share of measured numbers.

    By the cells of its kind and noise: those that measure as much as the last one that is as good must be, too.
    """
    losses: dict[float, list[float]] = {}
    for one in cells:
        if one["kind"] == preset.task and preset.noise[0] <= one["noise"] < preset.noise[1]:
            found, before = (one["rows"][name]["psnr"] for name in (preset.prior, PRIORS[0]))
            losses.setdefault(one["share"], []).append((sum(found) - sum(before)) / len(found))
    enough: list[float] = []
    for share in sorted(losses, reverse=True):
        if min(losses[share]) < AS_GOOD:
            break
        enough.append(share)
    stands = {"instead_of": PRIORS[0], "instead_from": enough[-1]} if enough else {"instead_of": None}
    return preset.model_copy(update=stands)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--output", type=Path, default=RESULTS / "photo_fast.json")
    parser.add_argument("--mark", action="store_true", help="which presets `auto` takes")
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    priors, clean = [open_prior(name) for name in PRIORS], [crop(path, given.side) for path in given.files]
    found: dict[str, Any] = {
        "pictures": [path.name for path in given.files], "side": given.side, "torch": torch.__version__,
        "sha256": {one.name: one.sha256 for one in priors},
    }  # fmt: skip
    kept, path = {}, given.output
    if path.exists():
        before = json.loads(path.read_text())
        if {key: before.get(key) for key in found} == found:
            kept = {
                (one["task"], one["noise"]): one for one in before["cells"] if current(one, priors, clean)
            }
    for task, noise in [
        (task, noise) for task in given.tasks for noise in NOISE if (task, noise) not in kept
    ]:
        if task in NOISY and noise == 0:
            continue
        kept[task, noise] = cell(priors, task, noise, clean)
        print("\n".join(lines(kept[task, noise])), flush=True)
        path.write_text(json.dumps({**found, "cells": list(kept.values())}, indent=1) + "\n")
    cells = [kept[task, noise] for task in TASKS for noise in NOISE if (task, noise) in kept]
    if given.mark:
        PRESETS.write_text(presets_text(marked(one, cells) for one in read_presets(PRESETS)))
    head = "| degradation | noise | prior | calls | PSNR | to photo | exact | CPU seconds | times quicker |"
    text = [
        "# `photo-fast` and `photo-small` beside `photo`: `benchmarks/photo_fast.py`\n\n"
        f"{len(clean)} pictures, {given.side} x {given.side} centre crops: {', '.join(found['pictures'])}. "
        f"Exact: pictures that are the original to the last bit once saved.\n\n{head}",
        "|---" * 9 + "|",
        *(line for one in cells for line in lines(one)),
    ]
    path.with_suffix(".md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
