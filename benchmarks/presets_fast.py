"""Choose the presets of `photo-fast`: the noise levels of its four calls, for each kind of task and noise.

    python benchmarks/presets_fast.py DATA [DATA ...] [--count 4] [--size 192] [--out out/presets_fast]

DATA is a folder or a pattern of held-out pictures: half of them are searched on and half judge (`undiffuse tune`).
Where the search gains nothing on those that judge, the algorithm keeps its own levels. What was tried is kept in the
output folder, so that the same command goes on where it was stopped. Writes src/undiffuse/assets/presets_fast.yaml,
where presets of kinds that --tasks leaves out stay as they are.
"""

import argparse
import datetime
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from presets import NOISE, TASKS

from undiffuse.app.bench.tune import Tuned, run
from undiffuse.app.events import Done
from undiffuse.app.presets import ChosenBy, Preset, presets_text, read_presets
from undiffuse.config.bench import TuneConfig

PRIOR, CALLS, ALGORITHM = "photo-fast", 4, "dpir"
FILE = Path(__file__).parents[1] / "src/undiffuse/assets/presets_fast.yaml"


def tuned(options: argparse.Namespace, kind: str, noise: float) -> Preset:
    """The searched levels if they are better on the pictures that judge, else the algorithm's own."""
    out = options.out / f"{kind}_{noise:g}.yaml"
    config = TuneConfig(
        task=TASKS[kind], data=tuple(options.data), noise=noise, calls=CALLS, algorithm=ALGORITHM, prior=PRIOR,
        count=options.count, size=options.size, rounds=options.rounds, out=out,
    )  # fmt: skip
    result: Tuned = next(event.result for event in run(config) if isinstance(event, Done))
    print(kind, noise, result, flush=True)
    common = {"prior": PRIOR, "task": kind, "noise": NOISE[noise], "goal": "psnr"}
    if result.kept:
        (found,) = read_presets(out)
        told = {
            "command": f"benchmarks/presets_fast.py, {TASKS[kind]}, noise {noise:g}",
            "data": options.called,
        }
        return found.model_copy(update={**common, "chosen_by": found.chosen_by.model_copy(update=told)})
    told = ChosenBy(
        command=f"benchmarks/presets_fast.py, {TASKS[kind]}, noise {noise:g}",
        date=datetime.date.today().isoformat(), data=options.called, pictures=result.gain.n,
        figures={"searched levels": f"gain {result.gain} dB on held-out pictures, not taken"},
    )  # fmt: skip
    return Preset(**common, algorithm=ALGORITHM, steps=CALLS, grid=None, chosen_by=told)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+")
    parser.add_argument("--count", type=int, default=4, help="pictures of each set")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--called", default="Kodak and gb82, centre crops", help="the data in words")
    parser.add_argument("--out", type=Path, default=Path("out/presets_fast"))
    parser.add_argument("--tasks", default=",".join(TASKS), help="kinds, with commas")
    options = parser.parse_args()
    kinds = options.tasks.split(",")
    found = [one for one in read_presets(FILE) if one.task not in kinds]  # of the other kinds, as they are
    for kind in kinds:
        for noise in NOISE:
            if kind == "noise" and noise == 0:
                continue  # nothing to restore
            found.append(tuned(options, kind, noise))
            FILE.write_text(presets_text(found))


if __name__ == "__main__":
    main()
