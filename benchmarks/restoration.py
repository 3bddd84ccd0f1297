"""Restoration with a network prior beside what needs none: every method reads the same measurements.

    python benchmarks/restoration.py FOLDER [FOLDER ...] [--prior photo] [--algorithms "dpir;ddrm"] [--count 8]

Pictures are centre crops of 256 x 256 of the first `count` of each folder (PNG or JPEG). Degradations: 4-fold block
means, Gaussian blur, half of the pixels missing; noise 0 and 0.05 (white - black = 1). Beside the network's algorithms:
bicubic enlargement (sr4), the Wiener filter (the exact posterior mean of the stationary Gaussian prior, in closed
form), and the pseudo-inverse. Writes benchmarks/results/restoration.json and .md: mean PSNR in dB, and on how many
pictures the network's answer is above all of these.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from undiffuse.app.priors import open_prior
from undiffuse.config import from_term, parse_term
from undiffuse.core.grids import karras
from undiffuse.core.images import read
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators import build
from undiffuse.priors import photo_gaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, start
from undiffuse.restore.problem import measure

TASKS = ("sr4", "deblur_gauss", "inp")
NOISE = (0.0, 0.05)
SIDE = 256
RESULTS = Path(__file__).parent / "results"


def pictures(folder: Path, count: int) -> list[Tensor]:
    found: list[Tensor] = []
    for path in sorted((*folder.glob("*.png"), *folder.glob("*.jpg"))):
        pixels = read(path).pixels[None, :3]
        height, width = (n - SIDE for n in pixels.shape[2:])
        if min(height, width) >= 0 and len(found) < count:
            top, left = height // 2, width // 2
            found.append(pixels[:, :, top : top + SIDE, left : left + SIDE])
    return found


def restored(prior: Any, term: str, problem: Problem, steps: int, seed: int) -> Tensor:
    name, first, given = parse_term(term)
    entry = RESTORERS[name]
    noise = SeededNoise([seed])
    step = entry(prior, problem, noise, **from_term(entry, first, given))
    grid = entry.facts.get("grid", lambda n, sigma_y: karras(n))(steps, problem.sigma_y)
    x = entry.facts.get("start", start)(problem, grid[0].float(), noise)
    return last(sample(step, x, grid.float())).x.clamp(-1, 1)


def others(problem: Problem, task: str, gaussian: Any, shape: torch.Size) -> dict[str, Tensor]:
    """What needs no network."""
    found = {"pseudo-inverse": problem.A.pinv(problem.y).clamp(-1, 1)}  # type: ignore[attr-defined]
    found["Wiener"] = restored(gaussian, "exact:sample=false", problem, 1, 0)
    if task == "sr4":
        bicubic = functional.interpolate(problem.y, shape[2:], mode="bicubic", align_corners=False)
        found["bicubic"] = bicubic.clamp(-1, 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Restoration with a network prior.")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--prior", default="photo")
    parser.add_argument("--algorithms", default="dpir;ddrm")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--tasks", default=",".join(TASKS))
    options = parser.parse_args()
    prior, gaussian = open_prior(options.prior).denoise, photo_gaussian()
    algorithms = options.algorithms.split(";")
    rows: list[dict[str, Any]] = []
    for folder in options.folders:
        clean = pictures(folder, options.count)
        for task in options.tasks.split(","):
            for noise in NOISE:
                scores: dict[str, list[float]] = {}
                seconds: dict[str, float] = {}
                for number, x in enumerate(clean):
                    A = build(task, tuple(x.shape[1:]))
                    problem = Problem(A, measure(A, x, 2 * noise, SeededNoise([number])), 2 * noise)
                    answers = others(problem, task, gaussian, x.shape)
                    for term in algorithms:
                        began = time.process_time()
                        answers[term] = restored(prior, term, problem, options.steps, number)
                        seconds[term] = seconds.get(term, 0.0) + time.process_time() - began
                    for name, answer in answers.items():
                        scores.setdefault(name, []).append(psnr(answer, x).item())
                best = [max(scores[n][i] for n in scores if n not in algorithms) for i in range(len(clean))]
                for name, found in scores.items():
                    row = {"set": folder.name, "task": task, "noise": noise, "method": name}
                    row["psnr"] = round(statistics.mean(found), 2)
                    if name in algorithms:
                        row["above all others"] = (
                            f"{sum(a > b for a, b in zip(found, best, strict=True))}/{len(clean)}"
                        )
                        row["CPU seconds"] = round(seconds[name] / len(clean), 1)
                    rows.append(row)
                    print(row, flush=True)
    report(rows, options)


def report(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    columns = ("set", "task", "noise", "method", "psnr", "above all others", "CPU seconds")
    lines = [
        f"`{options.prior}`, {options.steps} calls; centre crops of {SIDE} x {SIDE}; mean PSNR in dB.",
        "",
    ]
    lines += ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in columns) + " |" for row in rows]
    (RESULTS / "restoration.md").write_text("\n".join(lines) + "\n")
    (RESULTS / "restoration.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
