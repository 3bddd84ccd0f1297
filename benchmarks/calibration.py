"""Are the error bars right? Coverage of the central 50 % and 90 % of draws, beside those of the exact posterior.

    python benchmarks/calibration.py [--draws 39] [--truths 12]

Priors in closed form: the stationary Gaussian of photographs, and a mixture of two Gaussians. A truth is drawn from
the prior and measured, and its place among K draws of an algorithm is taken pixel by pixel. Among draws of the
posterior it is any of K + 1 places, all as likely, so that with K = 39 the middle 20 hold it in 50 % and the middle 36
in 90 % of all pixels, without an error of a finite K. Lower: error bars too narrow. `exact`: perturb-and-solve for the
Gaussian; for the mixture a component by its posterior weight, then a draw of that component's posterior. Pixels of a
truth are correlated: what `exact` is off by is the scatter of all rows, which share their truths. Writes
benchmarks/results/calibration.json and .md and docs/images/calibration.svg.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse.analysis.calibration import covered as share_within
from undiffuse.analysis.calibration import places
from undiffuse.contracts.restorer import IsotropicGaussian, gaussian_posterior, matrix, run
from undiffuse.core.grids import karras
from undiffuse.core.noise import SeededNoise
from undiffuse.operators import build
from undiffuse.priors import GaussianMixture, StationaryGaussian, photo_gaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure

SHAPE = (1, 12, 12)
TASKS = ("sr2", "inp", "deblur_gauss")
SIGMA_Y = 0.1  # 0.05 for white - black = 1
LEVELS = (0.5, 0.9)
ROWS: list[tuple[str, int, dict[str, Any]]] = [
    ("ddrm", 20, {}),
    ("ddrm", 100, {}),
    ("ddnm_plus", 20, {}),
    ("diffpir", 20, {}),
    ("ilvr", 20, {}),
    ("daps", 20, {"ode_steps": 1}),
    ("daps", 20, {"ode_steps": 5}),
    ("pigdm", 20, {"covariance": "tweedie"}),
    ("pigdm", 20, {"covariance": "scalar"}),
    ("dps", 100, {}),
    ("reddiff", 100, {}),
]
ROOT = Path(__file__).parents[1]
Prior = StationaryGaussian | GaussianMixture


def mixture() -> GaussianMixture:
    """Two smooth pictures, of deviations 0.1 and 0.3."""
    rows = torch.linspace(0, math.pi, SHAPE[1], dtype=torch.float64).cos()
    means = 0.5 * torch.stack([rows[:, None].expand(SHAPE[1:]), rows[None, :].expand(SHAPE[1:])])[:, None]
    return GaussianMixture(means, torch.tensor([0.01, 0.09], dtype=torch.float64))


def exact(prior: Prior, problem: Problem, seeds: list[int]) -> Tensor:
    """Draws of the posterior, one a seed; `problem` holds one measurement."""
    if isinstance(prior, StationaryGaussian):
        return run(RESTORERS["exact"], prior, problem.repeat(len(seeds)), seeds, steps=1)
    A, weights, found = problem.A, [], []
    M, support = matrix(A), A.support
    seen = torch.ones(A.out_shape) if support is None else support.expand(A.out_shape)
    rows = seen.flatten() > 0
    noise = torch.randn(len(seeds), M.shape[1], generator=torch.Generator().manual_seed(seeds[0])).double()
    for log_weight, mean, variance in zip(prior.log_weights, prior.means, prior.variances, strict=True):
        centre, covariance = gaussian_posterior(
            A, IsotropicGaussian(mean[None], variance.sqrt().item()), problem.y, problem.sigma_y
        )
        values, vectors = torch.linalg.eigh(covariance)
        found.append(centre.flatten() + (noise * values.clamp(min=0).sqrt()) @ vectors.T)
        spread = variance * M[rows] @ M[rows].T + problem.sigma_y**2 * torch.eye(int(rows.sum()))
        residual = problem.y.flatten()[rows] - M[rows] @ mean.flatten()
        likelihood = torch.distributions.MultivariateNormal(torch.zeros_like(residual), spread)
        weights.append(log_weight + likelihood.log_prob(residual))
    share = torch.stack(weights).softmax(0)
    generator = torch.Generator().manual_seed(seeds[0] + 1)
    chosen = torch.multinomial(share, len(seeds), replacement=True, generator=generator)
    return torch.stack(found)[chosen, torch.arange(len(seeds))].reshape(-1, *SHAPE)


def covered(
    draw: Callable[[Problem, list[int]], Tensor], prior: Prior, task: str, options: Any
) -> list[float]:
    """The share of pixels whose truth lies in the middle half, and the middle nine tenths, of the draws."""
    K, found = options.draws, []
    for number in range(options.truths):
        noise = SeededNoise([1000 + number])
        truth = prior.sample(noise, torch.empty(1, *SHAPE, dtype=torch.float64))
        A = build(task, SHAPE)
        problem = Problem(A, measure(A, truth, SIGMA_Y, noise), SIGMA_Y)
        found.append(places(draw(problem, [K * number + k for k in range(K)]), truth[0]))
    histogram = torch.stack(found).mean(0)
    return [share_within(histogram, level) for level in LEVELS]


def method(
    prior: Prior, name: str, calls: int, given: dict[str, Any]
) -> Callable[[Problem, list[int]], Tensor]:
    own = "grid" in RESTORERS[name].facts
    top = prior.sigma_max(SHAPE) if isinstance(prior, StationaryGaussian) else 80.0
    sigmas = None if own else karras(calls, sigma_max=top)

    def draw(problem: Problem, seeds: list[int]) -> Tensor:
        many = problem.repeat(len(seeds))
        return run(RESTORERS[name], prior, many, seeds, steps=calls, sigmas=sigmas, **given)

    return draw


def label(name: str, calls: int, given: dict[str, Any]) -> str:
    term = ",".join(f"{key}={value}" for key, value in given.items())
    return f"{name}{':' if given else ''}{term} {calls * given.get('ode_steps', 1)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of the intervals of draws.")
    parser.add_argument("--draws", type=int, default=39)
    parser.add_argument("--truths", type=int, default=24)
    options = parser.parse_args()
    if (options.draws + 1) % 40:
        raise SystemExit(
            f"--draws {options.draws}; 39, 79, 119, ... divide into middle halves and nine tenths"
        )
    rows: list[dict[str, Any]] = []
    for named, prior in {"Gaussian": photo_gaussian(), "mixture": mixture()}.items():
        methods = {"exact": lambda problem, seeds, prior=prior: exact(prior, problem, seeds)}
        methods |= {label(*row): method(prior, *row) for row in ROWS}
        for name, draw in methods.items():
            for task in TASKS:
                half, most = covered(draw, prior, task, options)
                rows.append(
                    {"prior": named, "method": name, "task": task, "50": round(half, 3), "90": round(most, 3)}
                )
                print(rows[-1], flush=True)
    (ROOT / "benchmarks/results/calibration.json").write_text(json.dumps(rows, indent=1) + "\n")
    (ROOT / "benchmarks/results/calibration.md").write_text(table(rows, options))
    (ROOT / "docs/images/calibration.svg").write_text(figure(rows))


def table(rows: list[dict[str, Any]], options: Any) -> str:
    names, cells = (
        dict.fromkeys(r["method"] for r in rows),
        {(r["prior"], r["task"], r["method"]): r for r in rows},
    )
    columns = list(dict.fromkeys((r["prior"], r["task"]) for r in rows))
    lines = [
        f"Pixels whose truth lies in the central 50 % / 90 % of {options.draws} draws, in %; {options.truths} truths "
        f"of {SHAPE[1]} x {SHAPE[2]}, noise {SIGMA_Y / 2:g} of white - black. The number behind a name: network calls.",
        "",
        "| method | " + " | ".join(f"{prior}, {task}" for prior, task in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in names:
        found = [cells[(*column, name)] for column in columns]
        shown = " | ".join(f"{100 * r['50']:.0f} / {100 * r['90']:.0f}" for r in found)
        lines.append(f"| {name} | {shown} |")
    return "\n".join(lines) + "\n"


def figure(rows: list[dict[str, Any]]) -> str:
    """A row a method: each dot one prior and task; the lines at 50 and 90 are where an honest method's dots lie."""
    names, left, width, step = list(dict.fromkeys(r["method"] for r in rows)), 190, 480, 24
    bottom = 46 + step * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 30} {bottom + 58}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        '<title>Coverage of 50 % and 90 % intervals</title><rect width="100%" height="100%" fill="#fff"/>',
    ]
    for level in range(0, 101, 10):
        x, strong = left + width * level / 100, level in (50, 90)
        colour = {50: "#2266cc", 90: "#cc5522"}.get(level, "#ddd")
        parts.append(f'<path d="M{x} 24V{bottom}" stroke="{colour}" stroke-width="{2 if strong else 1}"/>')
        parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{level}</text>')
    for number, name in enumerate(names):
        y = 46 + step * number
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{name}</text>')
        for row in (r for r in rows if r["method"] == name):
            for level, colour in (("50", "#2266cc"), ("90", "#cc5522")):
                x, hollow = left + width * row[level], row["prior"] == "mixture"
                parts.append(
                    f'<circle cx="{x:.1f}" cy="{y}" r="4.5" stroke="{colour}" stroke-width="1.5" '
                    f'fill="{"#fff" if hollow else colour}" fill-opacity="0.75"/>'
                )
    parts.append(
        f'<text x="{left}" y="{bottom + 36}">% of true pixels in the central 50 % (blue) and 90 % (red) of draws</text>'
        f'<text x="{left}" y="{bottom + 52}">full: Gaussian prior; hollow: mixture; a dot for each degradation</text>'
        "</svg>"
    )
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
