"""The speed of restoration: what is spent outside the network, and DDRM's authors' loop with the same weights.

    python benchmarks/restore.py FILE [FILE ...] [--ddrm PATH] [--parts overhead,beside] [--compile] [--repeats 5]

Pictures are centre crops of 256 x 256. `overhead`: for every degradation, 20 calls on the first picture, noise 0.05;
what is outside is all but the time inside the raw network, its scaling included. `beside`: PATH is a checkout of
github.com/bahjat-kawar/ddrm, whose files are run as they are, on the same y, with the same weights as a file holds
them (the layout in memory that `restore` gives them is ours), beside ours at equal calls and at the fewest calls
whose mean PSNR is at least theirs at 20, in batches of 1 and of all pictures. All runs take turns; ratios are medians
over rounds. CPU seconds of OMP_NUM_THREADS threads (default 1), wall seconds beside them. --compile: ours once more
through torch.compile; the first run, which may compile, is told apart. Writes benchmarks/results/restore.json, and
beside it the table (.md); parts and tasks that are not run stay as they were.
"""

import argparse
import importlib.util
import json
import os
import sys
import time
import types
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from torch import Tensor, nn

from undiffuse.app.priors import open_prior
from undiffuse.core.images import read
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators import SVDOperator, build
from undiffuse.operators.compat import ddrm_deblur
from undiffuse.priors import Prior
from undiffuse.priors.schedules import linear
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure

TASKS = ("deno", "inp", "color", "cs2", "cs4", "sr2", "sr4", "sr8", "sr_bicubic4")
TASKS += ("deblur_uni", "deblur_gauss", "deblur_aniso", "blur:motion,angle=30")
BESIDE = ("sr4", "deblur_gauss", "inp")
CALLS, SIDE, SIGMA_Y = 20, 256, 0.1  # SIGMA_Y in [-1, 1]: 0.05 of white - black
ETA, ETA_B = 0.85, 1.0  # DDRM's defaults, ours and theirs
OURS = ("dpir", "ddrm")
COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 14, 20)
RESULTS = Path(__file__).parent / "results" / "restore.json"
Restore = Callable[[], Tensor]


class Timed(nn.Module):
    """A network that adds up the CPU seconds spent in it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.seconds = net, 0.0

    def forward(self, *given: Tensor | None) -> Tensor:
        began = time.process_time()
        answer = self.net(*given)
        self.seconds += time.process_time() - began
        return answer


def crops(paths: list[Path]) -> Tensor:
    """(B, 3, 256, 256), the centres."""
    found: list[Tensor] = []
    for path in paths:
        pixels = read(path).pixels[None, :3].float()
        top, left = ((n - SIDE) // 2 for n in pixels.shape[2:])
        found.append(pixels[:, :, top : top + SIDE, left : left + SIDE])
    return torch.cat(found)


def ours(prior: Prior, algorithm: str, problem: Problem, calls: int) -> Tensor:
    """One restoration on the grid and from the start that the algorithm brings."""
    entry, noise = RESTORERS[algorithm], SeededNoise(range(len(problem.y)))
    sigmas = entry.facts["grid"](calls, problem.sigma_y).float()
    step = entry(prior, problem, noise)
    x = entry.facts["start"](problem, sigmas[0], noise)
    return last(sample(step, x, sigmas)).x.clamp(-1, 1)


def overhead(prior: Prior, net: Timed, clean: Tensor, tasks: list[str], repeats: int) -> list[dict[str, Any]]:
    """CPU ms a call inside and outside the network; medians."""
    rows: list[dict[str, Any]] = []
    for task in tasks:
        A = build(task, tuple(clean.shape[1:])).float()
        problem = Problem(A, measure(A, clean, SIGMA_Y, SeededNoise([0])), SIGMA_Y)
        for algorithm in OURS:
            if algorithm == "ddrm" and not isinstance(A, SVDOperator):
                continue
            inside, outside = [], []
            for _ in range(repeats):
                net.seconds, began = 0.0, time.process_time()
                ours(prior, algorithm, problem, CALLS)
                total = time.process_time() - began
                inside.append(1e3 * net.seconds / CALLS)
                outside.append(1e3 * (total - net.seconds) / CALLS)
            shares = [o / (i + o) for i, o in zip(inside, outside, strict=True)]
            row = {"task": task, "algorithm": algorithm, "network ms": median(inside)}
            rows.append({**row, "outside ms": median(outside), "share": median(shares)})
            print(rows[-1], flush=True)
    return rows


class Eps:
    """The prior as their model(x_t, t): x_t = sqrt(abar) x, eps = (x - x0) / sigma. Adds up what it takes itself."""

    def __init__(self, prior: Prior, net: Timed, betas: Tensor):
        self.prior, self.net, self.seconds = prior, net, 0.0
        self.abar = (1 - betas).cumprod(0)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        began, before = time.process_time(), self.net.seconds
        abar = self.abar[t[0].long()]
        sigma = ((1 - abar) / abar).sqrt()
        x = x_t / abar.sqrt()
        eps = (x - self.prior(x, sigma)) / sigma
        self.seconds += time.process_time() - began - (self.net.seconds - before)
        return eps


def checkout(path: Path, name: str) -> Any:
    """functions/NAME.py of their repository. Its torchvision is imported but not used: an empty module will do."""
    file = path / "functions" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ValueError(f"no functions/{name}.py in '{path}'; --ddrm takes a checkout of the repository")
    module = importlib.util.module_from_spec(spec)
    empty = {"torchvision": types.ModuleType("torchvision")}
    empty["torchvision.utils"] = empty["torchvision"].utils = types.ModuleType("torchvision.utils")
    with mock.patch.dict(sys.modules, empty):
        spec.loader.exec_module(module)
    return module


def theirs(loop: Any, H: Any, y: Tensor, model: Eps, betas: Tensor) -> Tensor:
    """Their loop at 20 calls; its .to('cuda') stays on the CPU."""
    to = Tensor.to
    with mock.patch.object(Tensor, "to", lambda x, where: to(x, "cpu" if where == "cuda" else where)):
        torch.manual_seed(0)
        x = torch.randn(len(y), 3, SIDE, SIDE)
        seq = range(0, len(betas), len(betas) // CALLS)
        xs, _ = loop.efficient_generalized_steps(
            x, seq, model, betas, H, y, SIGMA_Y, etaB=ETA_B, etaA=ETA, etaC=ETA
        )
    return xs[-1].clamp(-1, 1)


def pair(module: Any, task: str, clean: Tensor) -> tuple[Any, Tensor, Problem]:
    """Their operator and y, and the same measurement as our problem.

    deblur_gauss is theirs as published, for both: it is no blur, and ours has another one. Of Inpainting the attributes
    are set without its constructor, which takes minutes to find them.
    """
    shape, cpu = tuple(clean.shape[1:]), torch.device("cpu")
    if task == "sr4":
        H, A = module.SuperResolution(3, SIDE, 4, cpu), build("sr4", shape)
    elif task == "deblur_gauss":
        kernel = (-0.5 * ((torch.arange(5) - 2) / 10) ** 2).exp()
        H = module.Deblurring(kernel / kernel.sum(), 3, SIDE, cpu)
        A = ddrm_deblur(shape, kernel="gaussian", permutation=H._perm.tolist())
    else:
        A = build("inp", shape)
        keep = (
            A.support.expand(shape).permute(1, 2, 0).flatten() > 0
        )  # their y runs over rows, columns, channels
        H = object.__new__(module.Inpainting)
        H.channels, H.img_dim = 3, SIDE
        H.kept_indices, H.missing_indices = keep.nonzero().flatten(), (~keep).nonzero().flatten()
        H._singulars = torch.ones(len(H.kept_indices))
    torch.manual_seed(1)
    flat = H.H(clean)
    flat = flat + SIGMA_Y * torch.randn_like(flat)
    if task == "inp":
        seen = torch.zeros(len(flat), SIDE * SIDE * 3).index_copy(1, H.kept_indices, flat)
        y = seen.reshape(-1, SIDE, SIDE, 3).permute(0, 3, 1, 2)
    else:
        y = flat.reshape(-1, *A.out_shape)
    assert (A.float()(clean) - y).square().mean().sqrt() < 1.1 * SIGMA_Y, f"{task}: the operators differ"
    return H, flat, Problem(A, y.contiguous(), SIGMA_Y)


def seconds(run: Restore, model: Eps) -> tuple[float, float]:
    """CPU and wall seconds, without what Eps takes."""
    extra, cpu, wall = model.seconds, time.process_time(), time.perf_counter()
    run()
    cpu, wall, extra = time.process_time() - cpu, time.perf_counter() - wall, model.seconds - extra
    return cpu - extra, wall - extra


def turns(runs: list[Restore], base: Restore, model: Eps, repeats: int) -> list[dict[str, float]]:
    """Of each run: medians of CPU seconds, and of its ratio to `base` in the same round; all take turns."""
    rounds = [[seconds(run, model) for run in (base, *runs)] for _ in range(repeats)]
    found: list[dict[str, float]] = []
    for number in range(1, len(runs) + 1):
        row = {"ours s": median(r[number][0] for r in rounds), "theirs s": median(r[0][0] for r in rounds)}
        row["ratio"] = median(r[number][0] / r[0][0] for r in rounds)
        found.append({**row, "wall ratio": median(r[number][1] / r[0][1] for r in rounds)})
    return found


def with_network(net: Timed, used: nn.Module, run: Restore) -> Tensor:
    """Run with another form of the same network."""
    net.net = used
    return run()


def fewest(prior: Prior, algorithm: str, problem: Problem, clean: Tensor, bar: float) -> int | None:
    """The first of COUNTS calls whose mean PSNR is at least `bar`; None if 20 do not reach it."""
    for calls in COUNTS:
        found = psnr(ours(prior, algorithm, problem, calls), clean).mean().item()
        if found >= bar:
            return calls
    return None


def beside(
    prior: Prior, net: Timed, clean: Tensor, path: Path, given: argparse.Namespace
) -> list[dict[str, Any]]:
    """At 20 calls for both, then at the fewest that reach their PSNR."""
    loop, operators = checkout(path, "denoising"), checkout(path, "svd_replacement")
    betas, rows = linear().float(), []
    model, eager = Eps(prior, net, betas), net.net
    plain = deepcopy(eager).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    networks = {"eager": eager, **({"compiled": torch.compile(eager)} if given.compile else {})}
    for task, batch in product(given.beside.split(","), sorted({1, len(clean)})):
        x = clean[:batch]
        H, y, problem = pair(operators, task, x)
        base = partial(with_network, net, plain, partial(theirs, loop, H, y, model, betas))
        bar = psnr(base(), x).mean().item()
        cases = [("ddrm", CALLS)]
        if batch == len(clean):
            found = [(name, fewest(prior, name, problem, x, bar)) for name in OURS]
            cases += [(name, calls) for name, calls in found if calls and (name, calls) not in cases]
        runs: list[Restore] = []
        new: list[dict[str, Any]] = []
        for (name, calls), (kind, used) in product(cases, networks.items()):
            run = partial(with_network, net, used, partial(ours, prior, name, problem, calls))
            began = time.perf_counter()
            reached = psnr(run(), x).mean().item()  # warms up; with compilation, where it is new
            first = time.perf_counter() - began
            runs.append(run)
            new.append({"task": task, "batch": batch, "ours": name, "calls": calls, "network": kind})
            new[-1] |= {"ours dB": reached, "theirs dB": bar, "first s": first}
        measured = turns(runs, base, model, given.repeats)
        rows += [{**row, **times} for row, times in zip(new, measured, strict=True)]
        print(*rows[-len(new) :], sep="\n", flush=True)
    net.net = eager
    return rows


def merged(kept: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The new rows in their places among those of tasks that were not run this time, which say what they are from."""
    told = {(row["task"], row["algorithm"]): row for row in new["rows"]}
    left = [(row["task"], row["algorithm"]) not in told for row in kept["rows"]]
    if not any(left):
        return new
    before = {"from": kept["setup"]}
    rows = [told.pop((row["task"], row["algorithm"]), None) or {**before, **row} for row in kept["rows"]]
    return {"setup": new["setup"], "rows": [*rows, *told.values()]}


def table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    shown = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    return lines + ["| " + " | ".join(values) + " |" for values in shown]


def report(found: dict[str, Any]) -> str:
    lines = ["# The speed of restoration: `benchmarks/restore.py`", ""]
    if part := found.get("overhead"):
        setups = list(dict.fromkeys(row["from"] for row in part["rows"] if "from" in row))
        marks = ["", *(f" ({n})" for n in range(1, 1 + len(setups)))]
        rows = [
            {**row, "task": row["task"] + marks[1 + setups.index(row["from"]) if "from" in row else 0]}
            for row in part["rows"]
        ]
        rows = [{name: value for name, value in row.items() if name != "from"} for row in rows]
        lines += [
            f"Outside the network, {CALLS} calls, noise 0.05; {part['setup']}",
            "",
            *table(rows),
            *(f"\n{mark.strip()} {setup}" for mark, setup in zip(marks[1:], setups, strict=True)),
        ]
        lines += ["", f"Mean share {mean(row['share'] for row in part['rows']):.3f}.", ""]
    if part := found.get("beside"):
        lines += [f"DDRM's authors' loop at {CALLS} calls with the same weights; {part['setup']}", ""]
        lines += [*table(part["rows"]), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--prior", default="photo")
    parser.add_argument("--parts", default="overhead,beside")
    parser.add_argument("--tasks", default=";".join(TASKS), help="of `overhead`, separated by semicolons")
    parser.add_argument("--beside", default=",".join(BESIDE), help=f"of `beside`, some of {','.join(BESIDE)}")
    parser.add_argument("--ddrm", type=Path, help="a checkout of github.com/bahjat-kawar/ddrm")
    parser.add_argument("--compile", action="store_true", help="ours through torch.compile, too")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    prior = open_prior(given.prior).prior
    if prior is None:
        raise ValueError(f"--prior {given.prior} is no network; choose one that is")
    prior.net = net = Timed(prior.net)
    clean, parts = crops(given.files), given.parts.split(",")
    setup = f"`{given.prior}`, {SIDE} x {SIDE}, {', '.join(p.name for p in given.files)}; torch {torch.__version__}, "
    setup += f"{torch.get_num_threads()} thread(s), float32, CPU; medians of {given.repeats}"
    setup += f"; beside other work: load {os.getloadavg()[2] / (os.cpu_count() or 1):.1f} a core."
    found: dict[str, Any] = {}
    if "overhead" in parts:
        rows = overhead(prior, net, clean[:1], given.tasks.split(";"), given.repeats)
        found["overhead"] = {"setup": setup, "rows": rows}
    if "beside" in parts and given.ddrm:
        found["beside"] = {"setup": setup, "rows": beside(prior, net, clean, given.ddrm, given)}
    kept = json.loads(given.output.read_text()) if given.output.exists() else {}
    found = {**kept, **found}
    if "overhead" in kept and found["overhead"] is not kept["overhead"]:
        found["overhead"] = merged(kept["overhead"], found["overhead"])
    given.output.write_text(json.dumps(found, indent=1) + "\n")
    given.output.with_suffix(".md").write_text(report(found))


if __name__ == "__main__":
    main()
