"""`undiffuse ddrm --compat` beside DDRM's authors' own code: the mean PSNR over seeds, from the same y.

    python benchmarks/ddrm_authors.py FILE [FILE ...] --ddrm PATH [--side 64] [--seeds 16] [--timesteps 20]

PATH is a checkout of github.com/bahjat-kawar/ddrm, whose functions/denoising.py and svd_replacement.py are run as they
are, on the CPU. Pictures are centre crops. The network is a prior of ours, given to them as the eps network that they
expect. Each seed has a measurement and draws of its own, which both read: their torch.randn_like is answered with V^T
of the noise that ours draws in pixels, mode by mode. Otherwise what chance leaves of 16 seeds, up to a decibel, hides
what is to be compared. Ours is also run without --compat, on its own operators, measurements and steps. Writes
benchmarks/results/ddrm_authors.json, and beside it the table (.md).
"""

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from restore import checkout
from torch import Tensor

from undiffuse.app.ddrm import Asked, degrade, method
from undiffuse.app.priors import Opened, open_prior
from undiffuse.core.images import read
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import Noise
from undiffuse.metrics import psnr
from undiffuse.operators import SVDOperator
from undiffuse.operators.build import build
from undiffuse.operators.compat import ddrm_cs, ddrm_deblur, ddrm_inp
from undiffuse.priors.schedules import linear
from undiffuse.restore import Problem, measure

TASKS = ("deno", "inp", "color", "cs4", "sr4", "sr_bicubic4", "deblur_uni", "deblur_gauss", "deblur_aniso")
NOISES = (0.0, 0.05)  # white - black = 1
RESULTS = Path(__file__).parent / "results" / "ddrm_authors.json"
CPU = torch.device("cpu")


def crops(paths: list[Path], side: int) -> list[Tensor]:
    """(3, side, side) each, the centres."""
    found: list[Tensor] = []
    for path in paths:
        pixels = read(path).pixels[:3].float()
        top, left = ((n - side) // 2 for n in pixels.shape[1:])
        found.append(pixels[:, top : top + side, left : left + side])
    return found


class Eps:
    """The prior as their model(x_t, t): x_t = sqrt(abar) x, eps = (x - x0) / sigma."""

    def __init__(self, opened: Opened):
        self.denoise = opened.denoise
        self.abar = (1 - linear().float()).cumprod(0)

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        abar = self.abar[t[0].long()]
        sigma = ((1 - abar) / abar).sqrt()
        x = x_t / abar.sqrt()
        return (x - self.denoise(x, sigma)) / sigma


def kernel_of(task: str) -> tuple[Tensor, ...]:
    """Kernels as the authors' runner makes them: (one,), or (vertical, horizontal)."""
    offsets = torch.arange(9) - 4.0
    match task:
        case "deblur_uni":
            return (torch.full((9,), 1 / 9),)
        case "deblur_gauss":
            k = (-0.5 * (offsets[2:7] / 10) ** 2).exp()
            return (k / k.sum(),)
        case "deblur_aniso":
            both = [(-0.5 * (offsets / std) ** 2).exp() for std in (1, 20)]
            return tuple(k / k.sum() for k in both)
    x = ((torch.arange(16) - 7.5) / 4).abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    k = torch.where(x <= 1, near, torch.where(x < 2, far, 0))
    return (k / k.sum(),)


def pair(theirs: Any, task: str, side: int) -> tuple[Any, SVDOperator]:
    """Their operator, and ours under --compat with the same mask, permutation or order of singular values."""
    shape = (3, side, side)
    torch.manual_seed(1)
    if task.startswith("deblur"):
        kernels = kernel_of(task)
        H = (theirs.Deblurring if len(kernels) == 1 else theirs.Deblurring2D)(*kernels, 3, side, CPU)
        kind = {"uni": "uniform", "gauss": "gaussian"}.get(task.removeprefix("deblur_"), "aniso")
        return H, ddrm_deblur(shape, kernel=kind, permutation=H._perm.tolist())
    if task == "inp":
        missing = torch.randperm(side**2)[: side**2 // 2] * 3
        missing = torch.cat([missing, missing + 1, missing + 2])
        return theirs.Inpainting(3, side, missing, CPU), ddrm_inp(shape, missing=missing.tolist())
    if task == "cs4":
        order = torch.randperm(side**2)
        return theirs.WalshHadamardCS(3, side, 4, order, CPU), ddrm_cs(
            shape, ratio=4, permutation=order.tolist()
        )
    A = build(f"ddrm_{task}" if task == "color" else task, shape)
    assert isinstance(A, SVDOperator)
    makers = {
        "deno": lambda: theirs.Denoising(3, side, CPU),
        "color": lambda: theirs.Colorization(side, CPU),
        "sr4": lambda: theirs.SuperResolution(3, side, 4, CPU),
        "sr_bicubic4": lambda: theirs.SRConv(*kernel_of(task), 3, side, CPU, stride=4),
    }
    return makers[task](), A


class Draws:
    """Pixel noise (seeds, 3, side, side), one for the start and one for each step, in the order of its use."""

    def __init__(self, seeds: int, side: int, steps: int):
        noise = SeededNoise(range(seeds))
        self.all = [noise(torch.empty(seeds, 3, side, side)) for _ in range(steps + 1)]

    def noise(self) -> Noise:
        """For ours: one after the other."""
        rest = iter(self.all)
        return lambda like: next(rest).to(like)


class Spectral:
    """For theirs: what their three randn_like of a step give, from one draw of ours; a mode uses one of them."""

    def __init__(self, H: Any, draws: Draws, levels: list[float], sigma_y: float):
        self.H, self.draws, self.levels, self.sigma_y = H, draws, [*levels[1:], 0.0], sigma_y
        self.calls = 0

    def __call__(self, like: Tensor) -> Tensor:
        step, which = divmod(self.calls, 3)
        self.calls += 1
        n = self.H.Vt(self.draws.all[step + 1])
        if which == 1:  # of the modes that y tells worse than x does
            s = self.H.singulars()
            n = n[:, : len(s)][:, s * self.levels[step] < self.sigma_y]
        elif which == 2:  # of those that were measured
            n = n[:, : like.shape[1]]
        assert n.shape == like.shape, "other modes than theirs"
        return n


def authors(loop: Any, H: Any, problem: Problem, y: Tensor, model: Eps, asked: Asked, draws: Draws) -> Tensor:
    """Their loop; its .to('cuda') stays on the CPU."""
    to, betas, start = Tensor.to, linear().float(), draws.all[0]
    abar = (1 - betas).cumprod(0)
    seq = range(0, len(betas), len(betas) // asked.timesteps)
    levels = [((1 - abar[t]).sqrt() / abar[t].sqrt()).item() for t in reversed(seq)]
    answers = Spectral(H, draws, levels, problem.sigma_y)
    with (
        mock.patch.object(Tensor, "to", lambda x, where: to(x, "cpu" if where == "cuda" else where)),
        mock.patch.object(torch, "randn_like", answers),
    ):
        x = H.Vt(start).view(start.shape)
        xs, _ = loop.efficient_generalized_steps(
            x, seq, model, betas, H, y, problem.sigma_y, etaB=asked.eta_b, etaA=asked.eta, etaC=asked.eta
        )
    assert answers.calls == 3 * len(levels)
    return xs[-1]


def ours(opened: Opened, problem: Problem, asked: Asked, draws: Draws) -> Tensor:
    """As app/ddrm/run.py: the method, from its start, on its grid."""
    plan, noise = method.plan(asked, opened, problem), draws.noise()
    start = plan.start(problem, plan.sigmas[0].to(problem.y), noise)
    return last(sample(plan.step(opened.denoise, problem, noise), start, plan.sigmas)).x


def quality(x: Tensor, clean: Tensor) -> Tensor:
    """(seeds,) dB, of answers held within black and white."""
    return psnr(x.clamp(-1, 1), clean).double()


def cell(
    modules: tuple[Any, Any],
    opened: Opened,
    task: str,
    sigma_0: float,
    clean: Tensor,
    given: argparse.Namespace,
) -> dict[str, Tensor]:
    """PSNR of every seed: theirs, ours under --compat from the same y, and ours without it."""
    loop, operators = modules
    asked = Asked(config="", deg=task, sigma_0=sigma_0, timesteps=given.timesteps, compat=True)
    H, A = pair(operators, task, given.side)
    A = A.float()
    x = clean.expand(given.seeds, -1, -1, -1)
    torch.manual_seed(0)
    exact = H.H(x)
    assert (A(x).flatten(1) - exact.reshape(len(x), -1)).abs().max() < 1e-3, f"{task}: the operators differ"
    y = exact + 2 * sigma_0 * torch.randn_like(exact)
    corrected = degrade.operator(task, tuple(clean.shape), 0, Path(), False).float()
    measured = measure(corrected, x, 2 * sigma_0, SeededNoise(range(given.seeds, 2 * given.seeds)))
    own = Problem(corrected, measured, 2 * sigma_0)
    same = Problem(A, y.reshape(-1, *A.out_shape).contiguous(), 2 * sigma_0)
    draws = Draws(given.seeds, given.side, 2 * given.timesteps)
    plain = asked.model_copy(update={"compat": False})
    return {
        "authors": quality(authors(loop, H, same, y, Eps(opened), asked, draws), x),
        "compat": quality(ours(opened, same, asked, draws), x),
        "ours": quality(ours(opened, own, plain, draws), x),
    }


def row(task: str, sigma_0: float, found: list[dict[str, Tensor]]) -> dict[str, Any]:
    """Means over pictures and seeds; the difference with its standard error over the seeds of each picture."""
    means = {name: torch.stack([one[name].mean() for one in found]).mean().item() for name in found[0]}
    differences = torch.stack([one["compat"] - one["authors"] for one in found])  # (pictures, seeds)
    error = (differences.var(1) / differences.shape[1]).mean() / len(found)
    told = {"deg": task, "sigma_0": sigma_0, "authors dB": means["authors"], "--compat dB": means["compat"]}
    told |= {"difference": differences.mean().item(), "standard error": math.sqrt(error)}
    return {**told, "ours dB": means["ours"]}


def report(found: dict[str, Any]) -> str:
    rows = found["rows"]
    lines = ["# DDRM's authors' code and `undiffuse ddrm --compat`: `benchmarks/ddrm_authors.py`", ""]
    lines += [found["setup"], "", "| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    for line in rows:
        small = ("difference", "standard error")
        cells = [
            f"{v:.1e}" if k in small else f"{v:.2f}" if isinstance(v, float) else v for k, v in line.items()
        ]
        lines.append("| " + " | ".join(cells) + " |")
    worst = max(rows, key=lambda line: abs(line["difference"]))
    lines += ["", f"Largest difference {worst['difference']:+.1e} dB ({worst['deg']}, {worst['sigma_0']})."]
    lines += ["`ours` is undiffuse ddrm without --compat, on its own operators, measurements and levels: for"]
    lines += [
        "deblur_* another degradation, so that its figures are not to be compared with the others'.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--ddrm", type=Path, required=True, help="a checkout of github.com/bahjat-kawar/ddrm")
    parser.add_argument("--prior", default="photo")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--timesteps", type=int, default=20)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    modules = checkout(given.ddrm, "denoising"), checkout(given.ddrm, "svd_replacement")
    opened = open_prior(given.prior)
    rows: list[dict[str, Any]] = []
    for task in given.tasks.split(","):
        for sigma_0 in NOISES[task == "deno" :]:  # the identity without noise is no task
            found = [
                cell(modules, opened, task, sigma_0, clean, given) for clean in crops(given.files, given.side)
            ]
            rows.append(row(task, sigma_0, found))
            print(rows[-1], flush=True)
    setup = f"Means over {given.seeds} seeds of {', '.join(p.name for p in given.files)}, {given.side} x {given.side}, "
    setup += f"{given.timesteps} timesteps, `{given.prior}`, the same y and draws for both; "
    setup += f"torch {torch.__version__}, CPU."
    given.output.write_text(json.dumps({"setup": setup, "rows": rows}, indent=1) + "\n")
    given.output.with_suffix(".md").write_text(report({"setup": setup, "rows": rows}))


if __name__ == "__main__":
    main()
