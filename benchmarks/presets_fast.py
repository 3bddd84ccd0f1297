"""Choose the presets of a prior of four calls: which algorithm makes the most of them, by kind of task and noise.

    python benchmarks/presets_fast.py DATA [DATA ...] [--prior photo-fast] [--count 4] [--size 192] [--out FOLDER]
        [--tuned FILE ...]

DATA is a folder or a pattern of held-out pictures. The one with the highest mean PSNR is taken; for compressive
sensing DPIR, as the Wiener estimate takes ten times as long there as four calls. What was measured is kept in the
output folder, so that the same command goes on where it was stopped. --tuned: presets that `undiffuse tune` wrote,
which take the place of those of the same task and noise. Writes src/undiffuse/assets/presets_fast.yaml, of photo-small
presets_small.yaml.
"""

import argparse
import datetime
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from presets import NOISE, TASKS, measured

from undiffuse.app.kinds import Kind
from undiffuse.app.presets import ChosenBy, Preset, presets_text, read_presets
from undiffuse.config.bench import split_calls

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
    file = ASSETS / f"presets_{options.prior.removeprefix('photo-')}.yaml"
    file.write_text(presets_text(tuned(one, options, better) for one in found))


if __name__ == "__main__":
    main()
