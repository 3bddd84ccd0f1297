"""How much wider the error bars of the presets for draws must be to be honest, and whether they are then.

    python benchmarks/error_bars.py --fit FILE [FILE ...] --check FILE [FILE ...] [--side 128] [--mark]

The presets of the goal `posterior`: 8 draws of each picture, a centre crop, in the task and noise that chose it. A
pixel needs its error over the half-width of its interval, on the side where the truth lies. Of K honest draws the
interval from the 5 to the 95 % quantile holds 0.9 (K - 1) / (K + 1) of the pixels: `widen` is the quantile of that
share over all pixels of the pictures to fit on. The pictures to check on have no part in it. Pixels that the data
determine (deviation below 1e-4 of [-1, 1]) are left out; draws are clipped to black and white. Writes
benchmarks/results/error_bars.json and .md; tasks that are there for the same pictures and preset are not measured
again. Twenty minutes of a core.

--mark: writes the factors into src/undiffuse/assets/presets.yaml.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from photo_fast import crop
from torch import Tensor

from undiffuse.app.presets import Preset, presets_text, read_presets
from undiffuse.app.priors import Opened, open_prior
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise, image_seed
from undiffuse.operators import build
from undiffuse.restore import Problem, measure, summarise

LARGEST = 100.0  # that a preset may hold
DETERMINED = 1e-4  # deviation, [-1, 1] units: a hundredth of an 8-bit step
RESULTS = Path(__file__).parent / "results"
FILE = RESULTS.parents[1] / "src/undiffuse/assets/presets.yaml"


def asked(preset: Preset) -> tuple[str, float]:
    """Task and noise that it was chosen on: its command ends with them."""
    _, task, noise = preset.chosen_by.command.split(", ")
    return task, float(noise.removeprefix("noise "))


def needed(opened: Opened, preset: Preset, clean: Tensor, seed: int) -> Tensor:
    """By how much the interval of each pixel that the data leave open must be widened to hold the truth."""
    task, noise = asked(preset)
    A, count = build(task, tuple(clean.shape[1:])).float(), preset.draws
    y = measure(A, clean, 2 * noise, SeededNoise([seed]))
    problem = Problem(A, y.expand(count, *y.shape[1:]), 2 * noise)
    method = preset.method(opened, problem)
    draws = SeededNoise(image_seed(seed, "draws", draw) for draw in range(count))
    sigmas = method.sigmas.float()
    step = method.step(opened.denoise, problem, draws)
    x = last(sample(step, method.start(problem, sigmas[0], draws), sigmas)).x.clamp(-1, 1)
    found = summarise(x[None])
    error = clean - found.mean
    width = torch.where(error > 0, found.high - found.mean, found.mean - found.low)
    return (error.abs() / width.clamp(min=1e-9))[found.deviation > DETERMINED]


def honest(count: int) -> float:
    """Share of true values that K honest draws hold between their interpolated 5 and 95 % quantiles."""
    return 0.9 * (count - 1) / (count + 1)


def fitted(opened: Opened, preset: Preset, fit: list[Tensor], check: list[Tensor]) -> dict[str, Any]:
    ratios = [needed(opened, preset, x, seed) for seed, x in enumerate([*fit, *check])]
    to_fit, share = torch.cat(ratios[: len(fit)]), honest(preset.draws)
    if not len(to_fit):
        return {"widen": None, "before": [], "after": []}
    widen = min(LARGEST, max(1.0, float(to_fit.sort().values[int(share * (len(to_fit) - 1))])))
    rows = [r for r in ratios[len(fit) :] if len(r)]
    return {
        "widen": round(widen, 3),
        "before": [round((r <= 1).float().mean().item(), 4) for r in rows],
        "after": [round((r <= widen).float().mean().item(), 4) for r in rows],
    }


def table(found: list[dict[str, Any]], fit: list[str], check: list[str], side: int) -> str:
    share = honest(found[0]["draws"])
    lines = [
        f"Error bars of the presets for draws, {found[0]['draws']} draws: `benchmarks/error_bars.py`. Fitted on the "
        f"{side} x {side} centre crops of {', '.join(fit)}; coverage on those of {', '.join(check)}: of the interval "
        f"from the 5 to the 95 % quantile, mean and range over pictures, of the pixels that the data leave open. "
        f"Honest draws: {share:.2f}.",
        "",
        "| degradation | noise | algorithm | coverage of the draws | widened | coverage then | from | to |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        cells = ["", "", "", "", ""]
        if one["before"]:
            before, after = (sum(one[name]) / len(one[name]) for name in ("before", "after"))
            cells = [f"{before:.2f}", f"{one['widen']:.2f}", f"{after:.2f}"]
            cells += [f"{edge(one['after']):.2f}" for edge in (min, max)]
        lines.append(f"| {one['task']} | {one['noise']:g} | {one['algorithm']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fit", nargs="+", type=Path, required=True)
    parser.add_argument("--check", nargs="+", type=Path, required=True)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--prior", default="photo")
    parser.add_argument("--mark", action="store_true")
    options = parser.parse_args()
    opened = open_prior(options.prior)
    names = [[path.name for path in paths] for paths in (options.fit, options.check)]
    fit, check = ([crop(path, options.side) for path in paths] for paths in (options.fit, options.check))
    file = RESULTS / "error_bars.json"
    rows: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
    known = {(row["task"], row["noise"]): row for row in rows}
    presets = list(read_presets(FILE))
    for number, preset in enumerate(presets):
        if preset.goal != "posterior" or preset.prior != options.prior:
            continue
        task, noise = asked(preset)
        key = {
            "task": task, "noise": noise, "algorithm": preset.algorithm, "steps": preset.steps,
            "grid": preset.grid and list(preset.grid), "draws": preset.draws, "sha256": opened.sha256,
            "side": options.side, "fit": names[0], "check": names[1],
        }  # fmt: skip
        row = known.get((task, noise), {})
        if not key.items() <= row.items():
            row = known[task, noise] = key | fitted(opened, preset, fit, check)
        print({name: row[name] for name in ("task", "noise", "widen", "before", "after")}, flush=True)
        presets[number] = preset.model_copy(update={"widen": row["widen"]})
        file.write_text(json.dumps(list(known.values()), indent=1) + "\n")
        file.with_suffix(".md").write_text(table(list(known.values()), names[0], names[1], options.side))
    if options.mark:
        FILE.write_text(presets_text(presets))


if __name__ == "__main__":
    main()
