"""Choose the presets that come with the package: which algorithm for which task, noise and goal.

    python benchmarks/presets.py DATA [DATA ...] [--prior photo] [--out out/presets]

DATA is a folder or a pattern of held-out pictures. Rows are kept in the output folder, so that the same command goes on
where it was stopped. Writes src/undiffuse/assets/presets.yaml and benchmarks/results/presets.md.

psnr        the highest mean PSNR of one answer, at most 20 calls
perceptual  the lowest error of the power spectrum within 2 dB of that PSNR: a stand-in for perceptual distance, or
            LPIPS itself with --lpips
posterior   of the methods that draw, 8 draws each: the smallest |coverage - 0.7| (0.9 (K - 1) / (K + 1) is what honest
            draws would have, K = 8) among those whose mean is within 1 dB of the best mean

All candidates are tried on the first picture of each set, and those within 3 dB of the best on all. The draws are
compared on smaller crops of fewer pictures. NAME@CALLS@LEVEL starts at that noise: a prior of small patches knows
no more above. Half an hour of a core.
"""

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path

from undiffuse.app.bench import Benched, run
from undiffuse.app.bench.contenders import contender
from undiffuse.app.bench.summary import Line
from undiffuse.app.events import Done, Note
from undiffuse.app.kinds import Kind
from undiffuse.app.presets import GOALS, ChosenBy, Goal, Preset, presets_text, read_presets
from undiffuse.app.priors import open_prior
from undiffuse.config.bench import BenchConfig, split_calls

TASKS: dict[Kind, str] = {
    "reduction": "sr4",
    "holes": "inp",
    "blur": "deblur_gauss",
    "sensing": "cs4",
    "colour": "color",
    "noise": "deno",
}
NOISE = {
    0.0: (0.0, 0.005),
    0.02: (0.005, 0.035),
    0.05: (0.035, 0.15),
}  # measured at the first, used from .. to
ANSWERS = ("dpir:mirror=true@20", "dpir_wiener:mirror=true@20", "dpir@20", "diffpir@20@1", "ddrm@20")
DRAWS = ("ddrm@20", "diffpir@20@1", "diffpir:zeta=1@20@1")
SEVERAL = 8
HONEST = 0.9 * (SEVERAL - 1) / (SEVERAL + 1)
SURVIVES, PERCEPTUAL, POSTERIOR = 3.0, 2.0, 1.0  # dB below the best
REPOSITORY = Path(__file__).parents[1]
FILE = REPOSITORY / "src/undiffuse/assets/presets.yaml"


def measured(**given: object) -> Benched:
    for event in run(BenchConfig(**given)):  # type: ignore[arg-type]
        if isinstance(event, Note):
            print(event.text, flush=True)
        if isinstance(event, Done):
            return event.result
    raise AssertionError("a benchmark ends with Done")


def within(lines: Sequence[Line], decibels: float) -> list[Line]:
    best = max(line.means["psnr"] for line in lines)
    return [line for line in lines if line.means["psnr"] >= best - decibels]


def compared(terms: Sequence[str], counts: tuple[int, int], **given: object) -> tuple[Line, ...]:
    """All on a few pictures, then the good ones on all."""
    few = measured(algorithms=tuple(terms), count=counts[0], **given)
    names = {term.split(" ")[0] for term in (line.method for line in within(few.summary.lines, SURVIVES))}
    left = tuple(term for term in terms if term in names)
    lines = measured(algorithms=left, count=counts[1], **given).summary.lines
    return tuple(line for line in lines if line.method.split(" ")[0] in left)


def chosen(goal: Goal, lines: Sequence[Line]) -> Line:
    if goal == "psnr":
        return max(lines, key=lambda line: line.means["psnr"])
    if goal == "perceptual":
        near = within(lines, PERCEPTUAL)
        return min(near, key=lambda line: line.means.get("lpips", line.means["spectrum"]))
    near = within(lines, POSTERIOR)
    return min(near, key=lambda line: abs(line.means["coverage90"] - HONEST))


def preset(
    options: argparse.Namespace, kind: Kind, noise: float, goal: Goal, lines: Sequence[Line]
) -> Preset:
    line = chosen(goal, lines)
    term = line.method.split(" ")[0]
    algorithm, calls, _ = split_calls(term)
    assert calls is not None
    grid = contender(term, calls).below_top(open_prior(options.prior), (3, options.size, options.size))
    figures: dict[str, float | str] = {"method": line.method}
    figures |= {name: round(value, 3) for name, value in line.means.items()}
    others = sorted((other for other in lines if other is not line), key=lambda other: -other.means["psnr"])
    for other in others:
        told = (f"{name} {value:.3f}" for name, value in other.means.items() if name != "residual")
        figures[f"beside {other.method}"] = ", ".join(told)
    if goal == "perceptual":
        figures["by"] = "lpips" if "lpips" in line.means else "spectrum error, no LPIPS weights at hand"
    return Preset(
        prior=options.prior, task=kind, noise=NOISE[noise], goal=goal, algorithm=algorithm, steps=calls,
        grid=None if grid is None else tuple(float(f"{level:.5g}") for level in grid),
        draws=SEVERAL if goal == "posterior" else 1,
        chosen_by=ChosenBy(
            command=f"benchmarks/presets.py, {TASKS[kind]}, noise {noise:g}",
            date=datetime.date.today().isoformat(),
            data=options.called, pictures=line.n, figures=figures,
        ),
    )  # fmt: skip


def table(found: Sequence[Preset], head: str) -> str:
    names = ("task", "noise", "goal", "algorithm", "calls", "PSNR", "spectrum", "coverage")
    lines = [head, "", "| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for one in found:
        figures = one.chosen_by.figures
        cells = [one.task, f"{one.noise[0]:g} to {one.noise[1]:g}", one.goal, one.algorithm, one.steps]
        cells += [figures.get(name, "") for name in ("psnr", "spectrum", "coverage90")]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Choose the presets.")
    parser.add_argument("data", nargs="+")
    parser.add_argument("--prior", default="photo")
    parser.add_argument("--out", type=Path, default=Path("out/presets"))
    parser.add_argument("--count", type=int, default=2, help="pictures of each set")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--count-of-draws", type=int, default=1)
    parser.add_argument("--size-of-draws", type=int, default=128)
    parser.add_argument("--called", default="Kodak and gb82, centre crops", help="the data in words")
    parser.add_argument("--lpips", default=None)
    parser.add_argument("--tasks", default=",".join(TASKS), help="kinds, with commas")
    parser.add_argument("--goals", default=",".join(GOALS), help="those of others stay as they are")
    options = parser.parse_args()
    shared = {
        "data": tuple(options.data),
        "baselines": ("none",),
        "prior": options.prior,
        "lpips": options.lpips,
    }
    goals = options.goals.split(",")
    found: list[Preset] = []
    kept = [one for one in read_presets(FILE) if one.goal not in goals]

    def write() -> None:
        save(in_order([*found, *kept]), options)

    for kind in options.tasks.split(","):
        for noise in NOISE:
            if kind == "noise" and noise == 0:
                continue  # nothing to restore
            cell = {**shared, "tasks": (TASKS[kind],), "noise": (noise,)}
            one = compared(ANSWERS, (1, options.count), out=options.out, size=options.size, **cell)
            found += [
                preset(options, kind, noise, goal, one) for goal in ("psnr", "perceptual") if goal in goals
            ]
            if "posterior" in goals:
                few = {"size": options.size_of_draws, "draws": SEVERAL, "out": options.out}
                several = compared(DRAWS, (1, options.count_of_draws), **few, **cell)
                found.append(preset(options, kind, noise, "posterior", several))
            print(presets_text(found[-3:]), flush=True)
            write()


def in_order(found: Sequence[Preset]) -> list[Preset]:
    kinds = list(TASKS)
    return sorted(found, key=lambda one: (kinds.index(one.task), one.noise, GOALS.index(one.goal)))


def save(found: Sequence[Preset], options: argparse.Namespace) -> None:
    FILE.write_text(presets_text(found))
    head = (
        f"Presets of the prior `{options.prior}`: {options.called}, {options.count} pictures a set of "
        f"{options.size} x {options.size}; posterior: {options.count_of_draws} of {options.size_of_draws} x "
        f"{options.size_of_draws}, {SEVERAL} draws. Chosen by `benchmarks/presets.py`, which says how."
    )
    if others := set(GOALS) - set(options.goals.split(",")):
        head += f" The goals {', '.join(sorted(others))} are as chosen before; their presets say on what."
    (REPOSITORY / "benchmarks/results/presets.md").write_text(table(found, head))


if __name__ == "__main__":
    main()
