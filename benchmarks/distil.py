"""Are four steps of a distilled student as good as sixteen of its teacher? On Fashion-MNIST, by class.

    undiffuse train configs/train/fashion_mnist.yaml --set data.path=FOLDER
    python benchmarks/distil.py runs/fashion_mnist --data FOLDER [--out runs/students/distil] [--steps 5000]

Trains the student itself, by `torchrun --nproc-per-node 2 -m undiffuse distil RUN --method progressive --to-steps 4
--from-steps 8 --guidance 2` (goes on where it was stopped; nothing is trained if it is there), and takes the minutes
of that, which are to be under 30 on two cores. Then the recogniser of benchmarks/fashion_mnist.py, trained on real
images, is shown samples of every class from the same noise: of the teacher with and without guidance at 16, 8 and 4
steps of DDIM and of DPM-Solver++(2M), on the levels that `undiffuse sample` takes, and of each student on its own
steps; and of the teacher's 8 guided steps of DDIM on levels that end at 0.01 in place of 0.002. A student answers with
the guidance built in: one network call a step, where the guided teacher needs two. Twenty-five times as many more,
from the same noise, of the student and of the teacher at as many calls as the steps that it was made from give the
differences with their 95 % intervals. Writes benchmarks/results/distil.json and the table that it prints (.md).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from fashion_mnist import DATA, LOWEST, NAMES, NEEDED, Labelled, Recogniser, look, measured, real, recogniser
from torch import Tensor

from undiffuse.app.distil.plan import HIGHEST
from undiffuse.app.priors import levels, open_prior
from undiffuse.checkpoints import load
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.metrics.features import frechet, moments
from undiffuse.priors import Prior, class_guided
from undiffuse.registry import SAMPLERS

STEPS = (16, 8, 4)
BEGUN = 8  # steps of the teacher, guided as the student is to be: 16 calls
FEWEST = 2  # guided steps of the teacher that cost as many calls as four of the student
PAIRED = 25  # times as many samples for the difference
SPENT = "minutes.json"  # of training, beside the students: it may take several runs


@torch.no_grad()
def drawn(prior: Prior, sigmas: Tensor, sampler: str, scale: float, count: int, seed: int) -> Labelled:
    """`count` samples of every class, in the levels that eight bits keep."""
    labels, parts = torch.arange(len(NAMES)).repeat_interleave(count), []
    for rows in torch.arange(len(labels)).split(100):
        noise = SeededNoise(image_seeds(seed, [f"sample/{i}" for i in rows.tolist()]))
        x = noise(torch.empty(len(rows), 1, 28, 28)) * sigmas[0].item()
        denoise = class_guided(prior, labels[rows], scale=scale)
        parts.append(last(sample(SAMPLERS[sampler](denoise, noise), x, sigmas)).x)
    return Labelled(((torch.cat(parts).clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1, labels)


def trained(given: argparse.Namespace) -> dict[str, Any]:
    """The students, and the minutes that they took in all."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    asked = {
        "--method": "progressive", "--to-steps": STEPS[-1], "--from-steps": BEGUN, "--guidance": given.guidance,
        "--steps": given.steps, "--out": given.out,
    }  # fmt: skip
    distil = ["-m", "undiffuse", "distil", given.run, *(part for pair in asked.items() for part in pair)]
    settings = [f"--set=data.path={given.data}", f"--set=optimizer.rate={given.rate}", "--resume"]
    command = [*torchrun, f"--nproc-per-node={given.processes}", *distil, *settings]
    kept = given.out / SPENT
    minutes = json.loads(kept.read_text()) if kept.exists() else {"wall": 0.0, "cpu": 0.0}
    began, spent = time.monotonic(), cpu()
    try:
        subprocess.run([str(part) for part in command], check=True)
    finally:
        minutes["wall"] = round(minutes["wall"] + (time.monotonic() - began) / 60, 2)
        minutes["cpu"] = round(minutes["cpu"] + (cpu() - spent) / 60, 2)
        if given.out.is_dir():
            kept.write_text(json.dumps(minutes))
    told = {"minutes": minutes, "processes": given.processes}
    return {**told, "training_steps": given.steps, "rate": given.rate}


def cpu() -> float:
    """CPU seconds of the processes that this one began, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def contenders(given: argparse.Namespace) -> list[tuple[str, str, Tensor, float, Path]]:
    """(name, sampler, levels, guidance, prior): the teacher's, then the students'."""
    opened = open_prior(str(given.run))
    found: list[tuple[str, str, Tensor, float, Path]] = []
    for scale in (given.guidance, 1.0):
        for sampler in ("ddim", "dpmpp_2m"):
            for steps in (*STEPS, FEWEST):
                sigmas = levels(opened, (1, 28, 28), steps, HIGHEST)
                found.append(("teacher", sampler, sigmas, scale, given.run))
    later = karras(BEGUN, LOWEST, found[0][2][0].item())
    found.append((f"teacher, last level {LOWEST:g}", "ddim", later, given.guidance, given.run))
    for steps in (n for n in STEPS if n < BEGUN):
        path = given.out / f"progressive_{steps}"
        made_for = load(path).config.made_for
        assert made_for is not None and made_for.sigmas is not None and made_for.sampler is not None
        sigmas = torch.tensor([*made_for.sigmas, 0.0], dtype=torch.float64)
        found.append((f"student of {steps}", made_for.sampler, sigmas, 1.0, path))
    return found


def distance(net: Recogniser, samples: Labelled, test: Labelled) -> float:
    """Frechet distance of the samples to the real test images, in the recogniser's features."""
    sets = (moments(look(net, part.x)[0].double()) for part in (samples, test))
    return frechet(*(moment for pair in sets for moment in pair))


def paired(net: Recogniser, some: list[tuple[Any, ...]], given: argparse.Namespace) -> dict[str, Any]:
    """How often each contender is recognised, and the last one's mean difference from the same noise and class."""
    right: list[list[Tensor]] = [[] for _ in some]
    for seed in range(given.seed + 1, given.seed + 1 + PAIRED):  # other noise than the table's
        for found, (_, sampler, sigmas, scale, path) in zip(right, some, strict=True):
            samples = drawn(load(path).prior, sigmas, sampler, scale, given.count, seed)
            found.append((look(net, samples.x)[1] == samples.labels).double())
    *teachers, student = (torch.cat(found) for found in right)
    against: list[dict[str, Any]] = []
    for (name, sampler, *_), teacher in zip(some[:-1], teachers, strict=True):
        apart = student - teacher
        half = 1.96 * apart.std().item() / len(apart) ** 0.5
        told = {"teacher": teacher.mean().item(), "difference": apart.mean().item(), "half": half}
        against.append({"name": name, "sampler": sampler, **told})
    return {"samples": len(student), "student": student.mean().item(), "against": against}


def table(result: dict[str, Any]) -> str:
    training = result["training"]
    said = (
        f"{result['count']} samples a class from the same noise. Student: {BEGUN} steps of DDIM with guidance "
        f"{result['guidance']:g} in {STEPS[-1]}; {training['training_steps']} training steps, "
        f"{training['minutes']['wall']:.1f} minutes in {training['processes']} processes "
        f"({training['minutes']['cpu']:.1f} CPU minutes). Recogniser: {result['recogniser_on_test']:.3f} of the real "
        "test images. Calls: images that the network sees for a sample. Spread: the mean distance of two samples of "
        "a class over that of two real test images of it."
    )
    rows = [
        "| prior | sampler | steps | guidance | calls | recognised as asked | 95 % | spread, features | pixels | "
        "Frechet distance |"
    ]
    rows.append("|---" * 10 + "|")
    for row in result["rows"]:
        low, high = row["interval"]
        rows.append(
            f"| {row['prior']} | {row['sampler']} | {row['steps']} | {row['guidance']} | {row['calls']} | "
            f"{row['recognised']:.3f} | {low:.3f} to {high:.3f} | {row['spread']:.2f} | {row['pixel_spread']:.2f} | "
            f"{row['distance']:.1f} |"
        )
    more = result["paired"]
    others = "; ".join(
        f"{one['name']}, {BEGUN} guided steps of {one['sampler']}, {one['teacher']:.4f}, difference "
        f"{one['difference']:+.4f} +- {one['half']:.4f} (95 %)"
        for one in more["against"]
    )
    last = f"{more['samples']} further samples of each from the same noise: student {more['student']:.4f}; {others}."
    return said + "\n\n" + "\n".join(rows) + "\n\n" + last + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the folder of the teacher's run")
    parser.add_argument("--data", type=Path, default=Path(DATA), help="folder of the four idx files")
    parser.add_argument("--out", type=Path, default=Path("runs/students/distil"))
    parser.add_argument("--steps", type=int, default=5000, help="of training")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--processes", type=int, default=2, help="that train")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--count", type=int, default=200, help="samples of each class")
    parser.add_argument("--epochs", type=int, default=4, help="of the recogniser")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "distil.json")
    given = parser.parse_args()
    training = trained(given)
    test = real(given.data, "t10k")
    net = recogniser(real(given.data, "train"), given.epochs)
    with torch.no_grad():
        right = float((net(test.x).argmax(1) == test.labels).double().mean())
    if right <= NEEDED:
        raise SystemExit(f"the recogniser needs more than {NEEDED}, has {right:.3f}; give it more --epochs")
    result: dict[str, Any] = {
        "training": training, "guidance": given.guidance, "count": given.count,
        "recogniser_on_test": round(right, 4), "torch": torch.__version__, "rows": [],
    }  # fmt: skip
    for name, sampler, sigmas, scale, path in contenders(given):
        samples = drawn(load(path).prior, sigmas, sampler, scale, given.count, given.seed)
        found, steps = measured(net, samples, test), len(sigmas) - 1
        found.pop("classes")
        built_in = "built in" if name.startswith("student") else f"{scale:g}"
        row = {"prior": name, "sampler": sampler, "steps": steps, "guidance": built_in}
        row["calls"] = steps * (1 if scale == 1 else 2)
        result["rows"].append(row | found | {"distance": round(distance(net, samples, test), 2)})
        print(row, round(found["recognised"], 3), flush=True)
    every = contenders(given)
    as_many = [one for one in every[:-1] if len(one[2]) == BEGUN + 1 and one[3] != 1]
    result["paired"] = paired(net, [*as_many, every[-1]], given)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(result, indent=1) + "\n")
    text = table(result)
    given.output.with_suffix(".md").write_text(f"# Distilled students: `benchmarks/distil.py`\n\n{text}")
    print(text)


if __name__ == "__main__":
    main()
