"""Choose the presets of a prior of four calls: which algorithm makes the most of them, by kind of task and noise.

    python benchmarks/presets_fast.py DATA [DATA ...] [--prior photo-fast] [--count 4] [--size 192] [--out FOLDER]
        [--tuned FILE ...]

DATA is a folder or a pattern of held-out pictures. The one with the highest mean PSNR is taken; for compressive
sensing DPIR, as the Wiener estimate takes ten times as long there as four calls. What was measured is kept in the
output folder, so that the same command goes on where it was stopped. Where data without noise leaves less to do than
the algorithm's own levels are for, two lower grids are tried on all pictures. --tuned: presets that `undiffuse tune`
wrote, which take the place of those of the same task and noise. Writes src/undiffuse/assets/presets_fast.yaml, of
photo-small presets_small.yaml.
"""

import argparse
import datetime
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from presets import NOISE, TASKS, measured

from undiffuse.app.kinds import Kind
from undiffuse.app.presets import ChosenBy, Preset, presets_text, read_presets
from undiffuse.app.priors import Opened, open_prior
from undiffuse.config.bench import split_calls
from undiffuse.core.images import read
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators import build
from undiffuse.restore import Problem

LOWER = ((0.1, 0.0585, 0.0342, 0.02), (0.04, 0.03, 0.02, 0.01))  # [-1, 1] units
SIDE = 256  # of the pictures that they are tried on
PLAIN, WARM = "dpir:mirror=true@4", "dpir_wiener:mirror=true@4"
ASSETS = Path(__file__).parents[1] / "src/undiffuse/assets"


def chosen(options: argparse.Namespace, kind: Kind, noise: float) -> Preset:
    """The better of the two, with the figures of both."""
    asked = (PLAIN,) if kind == "sensing" else (WARM, PLAIN)
    benched = measured(
        data=tuple(options.data), out=options.out, prior=options.prior, tasks=(TASKS[kind],), noise=(noise,),
        algorithms=asked, baselines=("none",), count=options.count, size=options.size,
    )  # fmt: skip
    lines = {line.method.split(" ")[0]: line for line in benched.summary.lines}
    best = max(lines, key=lambda name: lines[name].means["psnr"])
    algorithm, calls, _ = split_calls(best)
    assert calls is not None
    told = ChosenBy(
        command=f"benchmarks/presets_fast.py, {TASKS[kind]}, noise {noise:g}",
        date=datetime.date.today().isoformat(), data=options.called, pictures=lines[best].n,
        figures={f"psnr of {name}": round(line.means["psnr"], 3) for name, line in lines.items()},
    )  # fmt: skip
    print(kind, noise, told.figures, flush=True)
    return Preset(
        prior=options.prior,
        task=kind,
        noise=NOISE[noise],
        goal="psnr",
        algorithm=algorithm,
        steps=calls,
        chosen_by=told,
    )


def lowered(one: Preset, opened: Opened, files: list[Path]) -> Preset:
    """On the best of its own levels and the lower ones, where the data has no noise."""
    if one.noise[0] > 0 or one.task not in ("reduction", "holes", "blur"):
        return one
    found: dict[str, float] = {}
    tried = [one] + [one.model_copy(update={"grid": grid}) for grid in LOWER]
    for preset in tried:
        total = sum(decibels(preset, opened, path, seed) for seed, path in enumerate(files))
        found[f"psnr on {preset.grid or 'its own levels'}"] = round(total / len(files), 3)
    best = max(range(len(tried)), key=list(found.values()).__getitem__)
    print(one.task, found, flush=True)
    told = one.chosen_by.model_copy(
        update={"pictures": len(files), "figures": {**one.chosen_by.figures, **found}}
    )
    return tried[best].model_copy(update={"chosen_by": told})


def pictures(data: str) -> list[Path]:
    """Of a folder or a pattern."""
    path = Path(data)
    found = path.iterdir() if path.is_dir() else path.parent.glob(path.name)
    return sorted(one for one in found if one.suffix in (".png", ".jpg"))


@torch.no_grad()
def decibels(preset: Preset, opened: Opened, path: Path, seed: int) -> float:
    """PSNR of the centre of one picture, restored from data without noise."""
    x = read(path).pixels[None, :3].float()
    top, left = ((n - SIDE) // 2 for n in x.shape[2:])
    x = x[:, :, top : top + SIDE, left : left + SIDE]
    A = build(TASKS[preset.task], tuple(x.shape[1:])).float()
    problem, noise = Problem(A, A(x), 0.0), SeededNoise([seed])
    method = preset.method(opened, problem)
    sigmas = method.sigmas.float()
    step = method.step(opened.denoise, problem, noise)
    return psnr(last(sample(step, method.start(problem, sigmas[0], noise), sigmas)).x.clamp(-1, 1), x).item()


def tuned(one: Preset, options: argparse.Namespace, better: dict[tuple[Kind, float], Preset]) -> Preset:
    """The preset of a search for the same task at a noise level of this one's range, if there is one."""
    for (task, noise), other in better.items():
        if task == one.task and one.noise[0] <= noise < one.noise[1]:
            told = other.chosen_by.model_copy(update={"data": options.called})
            return other.model_copy(update={"prior": options.prior, "noise": one.noise, "chosen_by": told})
    return one


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+")
    parser.add_argument("--prior", choices=("photo-fast", "photo-small"), default="photo-fast")
    parser.add_argument("--count", type=int, default=4, help="pictures of each set")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--called", default="Kodak and gb82, centre crops", help="the data in words")
    parser.add_argument("--out", type=Path, default=Path("out/presets_fast"))
    parser.add_argument("--tuned", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    better = {(one.task, one.noise[0]): one for path in options.tuned for one in read_presets(path)}
    cells = [(kind, noise) for kind in TASKS for noise in NOISE if kind != "noise" or noise > 0]
    found = [chosen(options, kind, noise) for kind, noise in cells]
    opened, files = open_prior(options.prior), [path for data in options.data for path in pictures(data)]
    found = [lowered(one, opened, files) for one in found]
    file = ASSETS / f"presets_{options.prior.removeprefix('photo-')}.yaml"
    file.write_text(presets_text(tuned(one, options, better) for one in found))


if __name__ == "__main__":
    main()
