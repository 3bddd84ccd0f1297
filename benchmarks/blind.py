"""How well a blur is estimated from the picture alone, how often its 95 % interval holds it, and what that costs.

    python benchmarks/blind.py KODAK_FOLDER OTHER_FOLDER [--count 10] [--restored 3]

Of the PNG pictures in KODAK_FOLDER and gb82__*.jpg in OTHER_FOLDER (none used to fit the model), `count`, evenly
chosen; centre crops of 512 x 512, blurred and given white noise (levels where white - black = 1). The noise level is
given to every other picture, the rest have it estimated. Then the kind is left open, also for pictures that are
sharp, blurred by a box, or enlarged: what each is said, with certainty, to be. The PSNR is of `dpir` in 10 calls with
the prior `photo` on crops of 256 x 256, with the true blur and noise, with the estimated ones, and of the measurement
itself.
Writes benchmarks/results/blind.json and .md.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.app.priors import open_prior
from undiffuse.core.images import read
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import psnr
from undiffuse.operators.build import build
from undiffuse.restore import BlurEstimate, Problem, dpir, estimate_blur, estimate_sigma
from undiffuse.restore.blurs import Family
from undiffuse.restore.dpir import begin, levels

NOISE = (0.005, 0.02, 0.05)
STDS = (0.0, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0)
DIAMETERS = (0.0, 3.0, 5.3, 8.4, 12.6, 20.1)
LENGTHS = (1, 5, 9, 12, 15, 25)
FAMILIES: tuple[Family, ...] = ("gaussian", "disk", "motion")
NEITHER: dict[str, list[str | None]] = {
    "sharp": [None],
    "box": ["blur:uniform,taps=5", "blur:uniform,taps=9"],
    "enlarged": ["sr2", "sr_bicubic4"],
}
RESTORED = ("blur:gaussian,std=2", "blur:disk,taps=8.4", "blur:motion,taps=15,angle=30")
RESULTS = Path(__file__).parent / "results"


def centre(x: Tensor, side: int) -> Tensor:
    top, left = (max(n - side, 0) // 2 for n in x.shape[1:])
    return x[:, top : top + side, left : left + side]


def measured(x: Tensor, degrade: str | None, level: float, seed: int) -> Tensor:
    clean = x if degrade is None else build(degrade, tuple(x.shape)).to(x.dtype)(x[None])[0]
    return clean + 2 * level * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))


def truths(family: str, number: int) -> Iterator[tuple[str, str | None, dict[str, float]]]:
    """(name, degradation, its options) for picture `number`: each has angles of its own."""
    if family == "gaussian":
        for std in STDS:
            yield f"std {std:g}", f"blur:gaussian,std={std}" if std else None, {"std": std}
    elif family == "disk":
        for taps in DIAMETERS:
            yield f"disk of {taps:g}", f"blur:disk,taps={taps}" if taps else None, {"taps": taps}
    else:
        for taps in LENGTHS:
            angle = (37 * number + 11 * taps) % 180
            options = {"taps": taps, "angle": angle} if taps > 1 else {"taps": taps}
            yield f"taps {taps}", f"blur:motion,taps={taps},angle={angle}" if taps > 1 else None, options


def difference(name: str, value: float, truth: float) -> float:
    return (value - truth + 90) % 180 - 90 if name == "angle" else value - truth


def case(found: BlurEstimate, truth: dict[str, float], level: float, seconds: float) -> dict[str, float]:
    row: dict[str, float] = {"certain": found.certain, "other": found.better is not None, "seconds": seconds}
    for name, value in truth.items():
        middle = sum(found.intervals[name]) / 2
        off = difference(name, value, middle)
        half = (found.intervals[name][1] - found.intervals[name][0]) / 2
        row[f"{name} error"] = abs(difference(name, found.options[name], value))
        row[f"{name} held"] = abs(off) <= half + 1e-6
    low, high = found.sigma_interval
    row["sigma error"] = abs(found.sigma_y / (2 * level) - 1)
    row["sigma held"] = low <= 2 * level <= high
    return row


def summary(name: str, level: float, cases: list[dict[str, float]]) -> dict[str, str | float]:
    row: dict[str, str | float] = {"blur": name, "noise": level}
    row["said to be certain"] = f"{sum(c['certain'] for c in cases):.0f} of {len(cases)}"
    row["said to be of another kind"] = f"{sum(c['other'] for c in cases):.0f}"
    for option in ("std", "taps", "angle"):
        if f"{option} error" in cases[0]:
            row[f"median error of {option}"] = round(
                statistics.median(c[f"{option} error"] for c in cases), 3
            )
            row[f"{option} in its interval"] = (
                f"{sum(c[f'{option} held'] for c in cases):.0f} of {len(cases)}"
            )
    row["median error of sigma"] = round(statistics.median(c["sigma error"] for c in cases), 3)
    row["of estimate_sigma, first two"] = round(statistics.mean(c["estimate_sigma"] for c in cases[:2]), 3)
    row["CPU seconds"] = round(statistics.median(c["seconds"] for c in cases), 2)
    return row


def estimated(
    family: Family, pictures: list[Tensor]
) -> tuple[list[dict[str, str | float]], list[dict[str, float]]]:
    rows: list[dict[str, str | float]] = []
    everything: list[dict[str, float]] = []
    for k in range(len(list(truths(family, 0)))):
        for level in NOISE:
            cases: list[dict[str, float]] = []
            name = ""
            for number, x in enumerate(pictures):
                name, degrade, options = list(truths(family, number))[k]
                y = measured(x, degrade, level, number)
                began = time.process_time()
                found = estimate_blur(y, family, sigma_y=None if number % 2 else 2 * level)
                cases.append(case(found, options, level, time.process_time() - began))
                if number < 2:  # it takes as long as the estimate of the blur
                    cases[-1]["estimate_sigma"] = abs(estimate_sigma(y) / (2 * level) - 1)
            rows.append(summary(name, level, cases))
            everything += cases
            print(rows[-1], flush=True)
    return rows, everything


def overall(family: Family, cases: list[dict[str, float]]) -> dict[str, str]:
    out = {"family": family}
    for option in ("std", "taps", "angle", "sigma"):
        held = [c[f"{option} held"] for c in cases if f"{option} held" in c]
        if held:
            out[f"{option} in its 95 % interval"] = f"{sum(held):.0f} of {len(held)}"
    sure = [c for c in cases if c["certain"]]
    main = "std" if family == "gaussian" else "taps"
    out["certain"] = f"{len(sure)} of {len(cases)}"
    out["of these in the interval"] = f"{sum(c[f'{main} held'] for c in sure):.0f} of {len(sure)}"
    return out


def kinds_left_open(pictures: list[Tensor]) -> list[dict[str, str | float]]:
    """What a picture is said to be, with certainty, when it is not said what kind of blur to look for."""
    rows: list[dict[str, str | float]] = []
    for name, ways in {**dict.fromkeys(FAMILIES), **NEITHER}.items():
        for level in NOISE:
            said: list[str] = []
            for number, x in enumerate(pictures):
                for way in ways or [way for _, way, _ in truths(name, number) if way is not None]:
                    y = measured(x, way, level, number)
                    if y.shape != x.shape:
                        y = torch.nn.functional.interpolate(y[None], size=x.shape[1:], mode="bicubic")[0]
                    found = estimate_blur(y, sigma_y=None if number % 2 else 2 * level)
                    said.append(found.family if found.certain else "nothing")
            counts = {f"said to be {kind}": said.count(kind) for kind in (*FAMILIES, "nothing")}
            rows.append({"what it is": name, "noise": level, **counts})
            print(rows[-1], flush=True)
    return rows


def restored(y: Tensor, degrade: str, sigma_y: float) -> Tensor:
    prior = open_prior("photo").denoise
    A = build(degrade, tuple(y.shape)).to(y.dtype)
    problem, noise = Problem(A, y[None], sigma_y), SeededNoise([0])
    sigmas = levels(10, sigma_y)
    x = begin(problem, sigmas[0], noise)
    with torch.no_grad():
        state = last(sample(dpir(prior, problem, noise), x, sigmas))
    return state.x[0].clamp(-1, 1)


def gains(pictures: list[Tensor]) -> list[dict[str, str | float]]:
    rows: list[dict[str, str | float]] = []
    for degrade in RESTORED:
        for level in (0.01, 0.05):
            values: dict[str, list[float]] = {"measured": [], "estimated": [], "true": []}
            for number, whole in enumerate(pictures):
                found = estimate_blur(measured(whole, degrade, level, number), degrade[5:].split(",")[0])  # type: ignore[arg-type]
                x = centre(whole, 256)
                y = measured(x, degrade, level, number)
                values["measured"].append(float(psnr(y[None].clamp(-1, 1), x[None])))
                values["estimated"].append(
                    float(psnr(restored(y, found.degrade, found.sigma_y)[None], x[None]))
                )
                values["true"].append(float(psnr(restored(y, degrade, 2 * level)[None], x[None])))
            means = {f"PSNR, {name}": round(statistics.mean(found), 2) for name, found in values.items()}
            rows.append({"degradation": degrade, "noise": level, **means})
            print(rows[-1], flush=True)
    return rows


def table(rows: list[dict[str, str | float]]) -> list[str]:
    names = list(max(rows, key=len))  # without a motion there is no angle
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    return [*lines, *("| " + " | ".join(str(row.get(n, "")) for n in names) + " |" for row in rows), ""]


def main() -> None:
    parser = argparse.ArgumentParser(description="Error and coverage of blind estimates.")
    parser.add_argument("folders", type=Path, nargs=2)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--restored", type=int, default=3)
    options = parser.parse_args()
    kodak, other = options.folders
    paths = [*sorted(kodak.glob("*.png")), *sorted(other.glob("gb82__*.jpg"))]
    paths = [paths[(2 * k + 1) * len(paths) // (2 * options.count)] for k in range(options.count)]
    pictures = [centre(read(path).pixels, 512) for path in paths]
    result: dict[str, object] = {"pictures": [path.name for path in paths]}
    lines = [f"{len(paths)} pictures of 512 x 512; one core; noise where white - black = 1.", ""]
    for family in FAMILIES:
        rows, cases = estimated(family, pictures)
        result[family], result[f"{family}, all"] = rows, overall(family, cases)
        lines += [
            *table(rows),
            "; ".join(f"{name}: {value}" for name, value in overall(family, cases).items()),
            "",
        ]
        write(result, lines)
    rows = kinds_left_open(pictures)
    result["kind left open"] = rows
    lines += [
        "The kind left open: pictures of each kind that are said, with certainty, to be of one.",
        "",
        *table(rows),
    ]
    write(result, lines)
    rows = gains(pictures[:: len(pictures) // options.restored][: options.restored])
    result["restored"] = rows
    write(
        result,
        [*lines, f"Restored, mean PSNR in dB of {options.restored} crops of 256 x 256.", "", *table(rows)],
    )


def write(result: dict[str, object], lines: list[str]) -> None:
    (RESULTS / "blind.md").write_text("\n".join(lines).rstrip() + "\n")
    (RESULTS / "blind.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
