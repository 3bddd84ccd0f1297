"""Few network calls: each algorithm at 4 to 10 calls beside DDRM at 20.

    python benchmarks/few_calls.py FILE [FILE ...] [--prior photo] [--tasks sr4,inp] [--side 256]

The reference is DDRM as published: 20 calls from sigma 80 to 0.002 (Karras et al. 2022). Every other row runs on the
grid that the algorithm brings. Pictures are centre crops, and every method reads the same measurement. Writes
benchmarks/results/few_calls.json and .md: mean PSNR in dB, and by how much it is above the reference.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse.app.priors import open_prior
from undiffuse.config import from_term, parse_term
from undiffuse.core.grids import karras
from undiffuse.core.images import read
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators import build
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure, start

TASKS = ("sr4", "sr8", "deblur_gauss", "inp", "cs4", "color")
NOISE = (0.0, 0.05)
REFERENCE = ("ddrm", 20)
ROWS = [("dpir", 4), ("dpir", 5), ("dpir", 7), ("dpir", 10)]
ROWS += [("ddrm", 5), ("ddrm", 10), ("ddrm:eta=1", 5), ("diffpir", 5)]
RESULTS = Path(__file__).parent / "results"


def crop(path: Path, side: int) -> Tensor:
    pixels = read(path).pixels[None, :3].float()
    top, left = ((n - side) // 2 for n in pixels.shape[2:])
    return pixels[:, :, top : top + side, left : left + side]


def restored(prior: Any, term: str, problem: Problem, steps: int, seed: int, published: bool) -> Tensor:
    name, first, given = parse_term(term)
    entry, noise = RESTORERS[name], SeededNoise([seed])
    step = entry(prior, problem, noise, **from_term(entry, first, given))
    own = entry.facts.get("grid")
    sigmas = karras(steps) if published or own is None else own(steps, problem.sigma_y)
    x = entry.facts.get("start", start)(problem, sigmas[0].float(), noise)
    return last(sample(step, x, sigmas.float())).x.clamp(-1, 1)


def cell(prior: Any, task: str, noise: float, clean: list[Tensor]) -> dict[str, float]:
    """Mean PSNR of the reference and of each row."""
    found: dict[str, list[float]] = {}
    for seed, x in enumerate(clean):
        A = build(task, tuple(x.shape[1:])).float()
        problem = Problem(A, measure(A, x, 2 * noise, SeededNoise([seed])), 2 * noise)
        for published, rows in ((True, [REFERENCE]), (False, ROWS)):
            for term, calls in rows:
                answer = restored(prior, term, problem, calls, seed, published)
                name = "reference" if published else f"{term} {calls}"
                found.setdefault(name, []).append(psnr(answer, x).item())
    return {name: round(statistics.mean(values), 2) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Few network calls.")
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--prior", default="photo")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    prior, clean = open_prior(options.prior).denoise, [crop(path, options.side) for path in options.files]
    cells: list[dict[str, Any]] = []
    for task in options.tasks.split(","):
        for noise in NOISE:
            cells.append({"task": task, "noise": noise, "psnr": cell(prior, task, noise, clean)})
            print(cells[-1], flush=True)
    pictures = [path.name for path in options.files]
    found = {"prior": options.prior, "pictures": pictures, "side": options.side, "cells": cells}
    (RESULTS / "few_calls.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "few_calls.md").write_text(report(found))


def report(found: dict[str, Any]) -> str:
    prior, pictures, side = found["prior"], ", ".join(found["pictures"]), found["side"]
    names = [f"{term} {calls}" for term, calls in ROWS]
    lines = [
        f"`{prior}`, {side} x {side} centre crops of {pictures}. PSNR in dB of DDRM at 20 calls on its",
        "published kind of grid, then of each algorithm at its number of calls; in bold what is at least DDRM's.",
        "",
        "| degradation | noise | ddrm 20 | " + " | ".join(names) + " |",
        "|---" * (len(names) + 3) + "|",
    ]
    for one in found["cells"]:
        values, bar = one["psnr"], one["psnr"]["reference"]
        shown = [f"**{values[n]:.2f}**" if values[n] >= bar else f"{values[n]:.2f}" for n in names]
        lines.append(f"| {one['task']} | {one['noise']} | {bar:.2f} | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
