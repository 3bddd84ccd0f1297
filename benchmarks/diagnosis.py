"""How often rounding, clipping and noise that changes with brightness are found, and how often by mistake.

    python benchmarks/diagnosis.py KODAK_FOLDER OTHER_FOLDER [--crop 384]

KODAK_FOLDER holds PNG pictures, of OTHER_FOLDER those named gb82__*.jpg are used. Noise of a known kind is added to
the centre crop of each. A pile of less than 0.4 % of the values at an end may be found or not; false alarms of
clipping are those of the kinds that clip nothing ("shot noise" leaves what is black without noise, which is a pile,
too). The effective noise is held against the root mean square of measured - clean.
Writes benchmarks/results/diagnosis.json and .md.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.core.images import read
from undiffuse.restore import diagnose, estimate_sigma

LEVELS = (0.01, 0.02, 0.05, 0.1)
RESULTS = Path(__file__).parent / "results"
Kind = Callable[[Tensor, Tensor, float], Tensor]  # clean in [0, 1], unit noise, level -> measured in [0, 1]

KINDS: dict[str, Kind] = {
    "white noise": lambda u, n, s: u + s * n,
    "white noise, clipped": lambda u, n, s: (u + s * n).clamp(0, 1),
    "white noise, clipped, 8 bits": lambda u, n, s: ((u + s * n).clamp(0, 1) * 255).round() / 255,
    "shot noise": lambda u, n, s: u + s * (2 * u).sqrt() * n,
    "before a gamma of 2.2": lambda u, n, s: (u**2.2 + s * n).clamp(min=0) ** (1 / 2.2),
}
BENT = ("shot noise", "before a gamma of 2.2")


def centre(x: Tensor, side: int) -> Tensor:
    top, left = (x.shape[1] - side) // 2, (x.shape[2] - side) // 2
    return x[:, max(top, 0) :, max(left, 0) :][:, :side, :side]


def case(kind: str, x: Tensor, level: float) -> dict[str, float]:
    u = (x + 1) / 2
    n = torch.randn(x.shape, generator=torch.Generator().manual_seed(round(1e4 * level)))
    made = KINDS[kind](u, n, level)
    y = 2 * made - 1
    found = diagnose(y)
    ended = torch.stack([made == 0, made == 1]).double().mean((1, 2, 3)).max()
    residual = float((y - x).square().mean().sqrt())
    return {
        "clip true": float(ended > 0.004),  # well above the least share that is reported
        "clip found": float(found.clipped > 0),
        "trend found": float(found.trend is not None and found.trend.clear),
        "rounding found": float(found.step > 0),
        "effective / true": found.effective / residual,
        "estimate_sigma / true": estimate_sigma(y) / residual,
    }


def rate(values: list[float]) -> str:
    return f"{sum(values):.0f} of {len(values)}"


def row(kind: str, level: float, cases: list[dict[str, float]]) -> dict[str, str | float]:
    clipped = [c["clip found"] for c in cases if c["clip true"]]
    free = [c["clip found"] for c in cases if not c["clip true"]]

    def deviation(name: str) -> float:
        return round(statistics.median(math.exp(abs(math.log(max(c[name], 1e-3)))) - 1 for c in cases), 3)

    return {
        "noise": kind,
        "level": level,
        "trend found": rate([c["trend found"] for c in cases]),
        "trend is": "there" if kind in BENT else "not there",
        "clipping found where 0.4 % is clipped": rate(clipped),
        "clipping found where less is clipped": rate(free),
        "rounding found": rate([c["rounding found"] for c in cases]),
        "median error of the effective noise": deviation("effective / true"),
        "of estimate_sigma alone": deviation("estimate_sigma / true"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Hits and false alarms of diagnose().")
    parser.add_argument("folders", type=Path, nargs=2)
    parser.add_argument("--crop", type=int, default=384)
    options = parser.parse_args()
    kodak, other = options.folders
    paths = [*sorted(kodak.glob("*.png")), *sorted(other.glob("gb82__*.jpg"))]
    pictures = [centre(read(path).pixels, options.crop) for path in paths]
    rows: list[dict[str, str | float]] = []
    for kind in KINDS:
        for level in LEVELS:
            rows.append(row(kind, level, [case(kind, x, level) for x in pictures]))
            print(rows[-1], flush=True)
    report(rows, len(paths), options.crop)


def report(rows: list[dict[str, str | float]], count: int, crop: int) -> None:
    lines = [f"{count} pictures, centre crops of {crop} x {crop}; levels where white - black = 1.", ""]
    lines += ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    (RESULTS / "diagnosis.md").write_text("\n".join(lines) + "\n")
    result = {"pictures": count, "crop": crop, "rows": rows}
    (RESULTS / "diagnosis.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
