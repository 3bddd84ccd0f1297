"""`undiffuse analyse noise`: what priors get wrong about the noise, by its level, on pictures that they did not see."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undiffuse.analysis.noise import Level, Seen, joined, level, seen
from undiffuse.analysis.whiteness import Whiteness
from undiffuse.app.analyse import noise_figures
from undiffuse.app.analyse.levels import asked
from undiffuse.app.analyse.pictures import Pictures, pictures
from undiffuse.app.analyse.section import Cell, Section, Table
from undiffuse.app.analyse.subjects import Subjects, open_subjects, own_plan
from undiffuse.app.events import Done, Event, Note, Progress
from undiffuse.config.analyse.noise import NoiseConfig

COLUMNS = (
    "prior", "sigma, white - black = 1", "pictures", "rms error of x0hat, white - black = 1", "95 %",
    "rms error of eps", "95 %", "rms error of v", "95 %", "bias of x0hat, white - black = 1", "95 %",
    "share of a fixed pattern", "rms of x - x0hat over sigma", "right size", "slope", "95 %", "flatness of the error",
    "spread of the error's power", "95 % of white noise below", "correlation of the error's neighbours",
    "95 % of white noise below", "flatness of the prediction", "correlation of the prediction's neighbours",
)  # fmt: skip
NORMAL95 = 1.96
CALIBRATED = 0.01  # of the slope, as a user reads it


@dataclass(frozen=True, slots=True)
class Measured:
    """Levels of each prior, the first that of the reference, from the highest noise to the lowest."""

    levels: dict[str, list[Level]]
    parameters: dict[str, int]
    pictures: Pictures
    distilled: tuple[str, ...]  # priors that were made for a few levels


def analyse(config: NoiseConfig) -> Iterator[Event]:
    """Notes and progress, and Done(Section). ValueError for bad input, in one line."""
    subjects = yield from open_subjects(config, config.runs, drawing=False)
    clean = yield from pictures(subjects, config.runs, config.data, config.source)
    yield Note(f"errors are measured on {len(clean.names)} pictures: {clean.told}")
    found = yield from measured(subjects, clean, config.levels)
    yield Done(section(found))


def measured(subjects: Subjects, clean: Pictures, count: int) -> Generator[Event, None, Measured]:
    """Every prior at every level, on the same pictures with the same noise; of each batch only sums are kept."""
    sigmas = asked(subjects, count)
    so_far: dict[tuple[str, float], Seen] = {}
    done, calls = 0, len(clean.names) * sum(map(len, sigmas.values()))
    size = len(subjects.batches()[0])
    for members in torch.arange(len(clean.names)).split(size):
        part = members.tolist()
        x0, n = clean.clean[part], clean.noise(subjects.config.seed, part)
        for subject in subjects.members:
            denoise = subjects.denoise(clean.asked(subject), part)
            for sigma in sigmas[subject.label]:
                with torch.no_grad():
                    x = (x0 + sigma * n).to(subjects.device)
                    x0hat = denoise(x, torch.tensor(sigma, dtype=x.dtype, device=x.device))
                key = (subject.label, sigma)
                new = _seen(x0, n, sigma, x0hat, subject.label)
                so_far[key] = joined([so_far[key], new]) if key in so_far else new
                done += len(part)
                yield Progress(done, calls, "asking about noise")
    levels = {label: [level(so_far[label, sigma], sigma) for sigma in own] for label, own in sigmas.items()}
    distilled = tuple(s.label for s in subjects.members if own_plan(s.plan) is not None)
    return Measured(levels, {s.label: s.parameters for s in subjects.members}, clean, distilled)


def _seen(x0: Tensor, n: Tensor, sigma: float, x0hat: Tensor, label: str) -> Seen:
    try:
        return seen(x0, n, sigma, x0hat)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None


def section(found: Measured) -> Section:
    """Tables, figures and words."""
    clean = found.pictures
    notes = [f"{len(clean.names)} pictures: {clean.told}."]
    if not clean.unseen:
        notes.append(
            "The prior made these pictures itself, so its errors on data are larger; give --data for those."
        )
    if found.distilled:
        notes.append(
            f"{', '.join(found.distilled)}: made for a few levels, and asked about those alone. Its answers are "
            "not the mean of all pictures that fit, as those of other priors, so its errors are larger by design."
        )
    if any(one.error_white is None for levels in found.levels.values() for one in levels):
        notes.append(
            "Spectra are of pictures of 8x8 and more, and of answers that are not exact: some are left out."
        )
    return Section(
        name="noise",
        title="Errors by noise level",
        summary=" ".join(_found(label, levels, found) for label, levels in found.levels.items()),
        figures=noise_figures.figures(found.levels, _every(found)),
        tables=(_priors(found),),
        notes=tuple(notes),
        facts=_facts(found),
    )


def _found(label: str, levels: list[Level], found: Measured) -> str:
    """One sentence on a prior: how large its errors are, and the level where its calibration is farthest off."""
    first = next(iter(found.levels))
    one = _farthest(levels)
    slope = f"{one.slope.value:.3f} +- {NORMAL95 * one.slope.deviation:.2g}"
    where = f"at sigma {one.sigma / 2:.2g}, where that is farthest from 1"
    calibrated = f"the noise is {slope} times its prediction {where}"
    if _excess(one) < CALIBRATED:
        calibrated = f"calibrated to {100 * CALIBRATED:g} % at every level, as far as these pictures tell"
    if label == first:
        return f"{label}: {calibrated}."
    return f"{label}: {100 * (_ratio(levels, found.levels[first]) - 1):+.1f} % of error beside {first}; {calibrated}."


def _farthest(levels: list[Level]) -> Level:
    """Where the slope is farthest from 1, beyond its own uncertainty."""
    return max(levels, key=_excess)


def _excess(one: Level) -> float:
    return abs(one.slope.value - 1) - NORMAL95 * one.slope.deviation


def _ratio(mine: list[Level], theirs: list[Level]) -> float:
    """Geometric mean over common levels of the ratio of errors; 1 for equal ones."""
    known = {one.sigma: one.x0.value for one in theirs}
    ratios = [one.x0.value / known[one.sigma] for one in mine if one.x0.value and known.get(one.sigma)]
    return torch.tensor(ratios or [1.0], dtype=torch.float64).log().mean().exp().item()


def _priors(found: Measured) -> Table:
    first = next(iter(found.levels.values()))
    rows: list[tuple[Cell, ...]] = []
    for label, levels in found.levels.items():
        worst, bias = _farthest(levels), max(levels, key=lambda one: abs(one.bias.value))
        slope = (worst.slope.value, NORMAL95 * worst.slope.deviation, worst.sigma / 2)
        offset = (bias.bias.value / 2, NORMAL95 * bias.bias.deviation / 2, bias.sigma / 2)
        rows.append((label, found.parameters[label], _ratio(levels, first), *slope, *offset))
    caption = (
        "Error: of x0hat over that of the first prior, geometric mean over all levels. Slope: noise over its "
        "prediction where that is farthest from the calibrated 1; above it too little noise is taken away, below it "
        "too much. Bias: mean brightness added, where it is largest, white - black = 1. +- is 95 % of the mean over "
        "pictures. The numbers of all levels are in the CSV of the first figure."
    )
    columns = ("prior", "parameters", "error, first = 1", "slope", "+-", "at sigma", "bias", "+-", "at sigma")
    return Table("priors", "Priors", columns, rows, caption)


def _every(found: Measured) -> Table:
    rows = [(label, *_row(one)) for label, levels in found.levels.items() for one in levels]
    return Table("error", "All levels", COLUMNS, rows)


def _row(one: Level) -> tuple[Cell, ...]:
    error, said = one.error_white, one.said_white
    return (
        one.sigma / 2, one.images, one.x0.value / 2, NORMAL95 * one.x0.deviation / 2, one.eps.value,
        NORMAL95 * one.eps.deviation, one.v.value, NORMAL95 * one.v.deviation, one.bias.value / 2,
        NORMAL95 * one.bias.deviation / 2, one.pattern, one.size.value, one.right_size, one.slope.value,
        NORMAL95 * one.slope.deviation, error and error.flatness, error and error.spread,
        error and error.spread_limit, _neighbours(error), error and max(error.neighbours_limit),
        said and said.flatness, _neighbours(said),
    )  # fmt: skip


def _neighbours(white: Whiteness | None) -> float | None:
    return None if white is None else max(white.neighbours, key=abs)


def _facts(found: Measured) -> dict[str, Any]:
    """For analysis.json; sigma and x0 with white - black = 1."""
    return {
        "pictures": {
            "count": len(found.pictures.names),
            "from": found.pictures.told,
            "unseen": found.pictures.unseen,
        },
        "sigma": {label: [one.sigma / 2 for one in levels] for label, levels in found.levels.items()},
        "x0_error": {label: [one.x0.value / 2 for one in levels] for label, levels in found.levels.items()},
        "slope": {label: [one.slope.value for one in levels] for label, levels in found.levels.items()},
    }
