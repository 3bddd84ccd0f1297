"""The figures of a restoration's report: its steps, its spectra, and how much of it was measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup
from torch import Tensor
from torch.nn import functional

from undiffuse.app.curves import RAMP, Line, chart, legend
from undiffuse.app.restore.embedded import Embedded, embedded
from undiffuse.app.restore.result import Restored
from undiffuse.app.restore.trace import SIDE, Snapshot
from undiffuse.app.series import evenly
from undiffuse.core.noise import SeededNoise
from undiffuse.metrics import invented, power
from undiffuse.metrics.spectrum import FLOOR, LEAST
from undiffuse.operators.base import LinearOperator, Operator, SVDOperator
from undiffuse.operators.build import build
from undiffuse.restore.measured import determined

STEPS = 8  # snapshots in the strip
SNAPSHOT = 12_000  # bytes of one
CENTRE = 512  # side of the middle of a picture whose spectra are shown
SHARED, SOLVED = 512, 128  # side of the middle whose share is computed: with an SVD, by conjugate gradient
COLOURS = {"before": RAMP[5], "original": "currentColor", "restored": RAMP[0]}
PROBES = 2  # of the share: an octave has four times the coefficients of the next, and few are bad only in the lowest


@dataclass(frozen=True, slots=True)
class Octave:
    """Detail between two sizes."""

    fine: float  # pixels of one light and one dark stripe
    coarse: float
    measured: float | None  # share of its power that the measurement determines
    before: float | None  # dB of power against the original's
    restored: float | None


def strip(trace: Sequence[Snapshot]) -> list[tuple[Embedded, Snapshot]]:
    """Snapshots, evenly chosen, the last among them; none if there were not at least two."""
    if len(trace) < 2:
        return []
    chosen = [trace[i] for i in evenly(len(trace), STEPS)]
    shown = embedded([(f"after call {taken.calls}", taken.picture) for taken in chosen], SIDE, SNAPSHOT)
    return list(zip(shown, chosen, strict=True))


def progress(trace: Sequence[Snapshot]) -> list[tuple[str, Markup]]:
    """PSNR and SSIM against network calls; nothing without a reference."""
    found: list[tuple[str, Markup]] = []
    for name, title, unit in (("psnr", "PSNR", "dB"), ("ssim", "SSIM", "of 1")):
        known = [taken for taken in trace if getattr(taken, name) is not None]
        if len(known) < 2:
            continue
        x = np.array([taken.calls for taken in known], float)
        y = np.array([getattr(taken, name) for taken in known], float)
        words = f"{title}: {y[0]:.4g} after {x[0]:.0f} calls, {y[-1]:.4g} after {x[-1]:.0f}"
        drawn = chart(
            [Line(title, x, y)], title=f"{title} after each step", description=words, x_label="network calls",
            y_label=unit, log=False, height=180,
        )  # fmt: skip
        found += [(title, drawn)] if drawn else []
    return found


def spectra(result: Restored) -> dict[str, Any] | None:
    """Power of each spatial frequency before, after and in the original; None if the picture is too small."""
    pictures = _compared(result)
    if min(result.restored.shape[1:]) < LEAST:
        return None
    lines: list[Line] = []
    for name, pixels in pictures.items():
        frequencies, values = power(_middle(pixels, CENTRE)[None])
        y = np.where(values[0].numpy() > 0, values[0].numpy(), np.nan)
        colour, dashed = COLOURS[name], name == "original"
        lines.append(Line(name, frequencies.numpy(), y, colour=colour, dashed=dashed))
    drawn = chart(
        lines, title="Power by spatial frequency", description=", ".join(line.name for line in lines),
        x_label="cycles per pixel", y_label="power", log=True, height=260,
    )  # fmt: skip
    return None if drawn is None else {"chart": drawn, "legend": legend(lines)}


def octaves(result: Restored) -> tuple[list[Octave], str]:
    """Coarse detail first: what was measured of it, how much there is of it; and what is to be said of that."""
    if min(result.restored.shape[1:]) < LEAST:
        return [], f"left out: the picture has fewer than {LEAST} pixels along a side"
    shares, said = _shares(result)
    powers = {
        name: power(_middle(pixels, CENTRE)[None], per_octave=1) for name, pixels in _compared(result).items()
    }
    if not shares and "original" not in powers:
        return [], said
    rows: list[Octave] = []
    for i, middle in enumerate(powers["restored"][0].tolist()):
        level = {name: values[0, i].item() + FLOOR for name, (_, values) in powers.items()}
        against = {
            name: 10 * math.log10(value / level["original"]) if "original" in level else None
            for name, value in level.items()
        }
        fine = 2**-0.5 / middle
        rows.append(Octave(fine, 2 * fine, shares.get(round(fine)), against["before"], against["restored"]))
    return rows, said


def _shares(result: Restored) -> tuple[dict[int, float], str]:
    """{finest detail of an octave in pixels: share that was measured}, and a sentence on it, or why there is none."""
    problem = result.task.problem
    A: Operator = problem.A
    if not isinstance(A, LinearOperator):
        return {}, "left out: the degradation is not linear, so that there is no part which it measures."
    side, x, said = SHARED if isinstance(A, SVDOperator) else SOLVED, result.restored, ""
    if x[0].numel() > side * side:
        x = _middle(x, side)
        try:
            A = build(result.config.degrade, tuple(x.shape)).to(x.dtype)
        except ValueError as error:
            return {}, f"left out: it takes too long for the whole picture, and a part will not do ({error})."
        said = f"Computed for the middle {x.shape[2]} x {x.shape[1]} pixels."
    noise = SeededNoise([0])
    seen = partial(determined, A)
    frequencies, share = invented(x[None], seen, problem.sigma_y, noise, probes=PROBES, per_octave=1)
    known = (1 - share[0]).clamp(0, 1).tolist()
    return {round(2**-0.5 / f): value for f, value in zip(frequencies.tolist(), known, strict=True)}, said


def _compared(result: Restored) -> dict[str, Tensor]:
    """Pictures of one size whose spectra are compared, floats as they are."""
    size = result.restored.shape[1:]
    before = functional.interpolate(result.degraded[None], size)[0]
    original = {} if result.reference is None else {"original": result.reference}
    return {"before": before, **original, "restored": result.restored}


def _middle(x: Tensor, side: int) -> Tensor:
    """At most `side` pixels each way of (C, H, W)."""
    height, width = (min(side, n) for n in x.shape[1:])
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]
