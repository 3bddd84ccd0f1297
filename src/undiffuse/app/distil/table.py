"""Students beside their teacher: how large they are, and how well they denoise what nobody was trained on."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from undiffuse.app import machine
from undiffuse.app.distil.plan import Plan
from undiffuse.app.priors import open_prior
from undiffuse.app.train.build import build
from undiffuse.app.train.targets import DenoiserTarget
from undiffuse.core.images import replace_file
from undiffuse.distil.students import parameters

STUDENTS = "students.csv"


@dataclass(frozen=True, slots=True)
class Row:
    """A prior. rms: of x0hat - x0 on validation images, [0, 1] units, by (low, high) of sigma in [-1, 1] units."""

    name: str
    parameters: int
    share: float  # of the teacher's parameters
    made_for: str  # of steps and guidance, in words
    rms: dict[tuple[float, float], float]


@torch.no_grad()
def rows(plan: Plan) -> list[Row]:
    """The teacher and the students, measured on the same noise on the same held-out images."""
    whole = parameters(plan.described)
    first = build(plan.stages[0].config(plan.config.settings))
    first.stream.close()
    assert isinstance(first.target, DenoiserTarget)
    device, found = machine.device(plan.config.device), []
    names = [plan.config.teacher, *(str(plan.out / stage.name) for stage in plan.stages)]
    for name in names:
        opened = open_prior(name)
        assert opened.prior is not None and opened.config is not None
        bands = first.target.check(opened.prior.to(device))
        rms = {(band["low"], band["high"]): math.sqrt(band["x0"]) / 2 for band in bands}
        count, made_for = parameters(opened.config), opened.config.made_for
        told = "" if made_for is None else str(made_for)
        found.append(Row("teacher" if not found else Path(name).name, count, count / whole, told, rms))
    return found


def _read(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.reader(file))


def write(folder: Path, found: list[Row]) -> Path:
    """As students.csv, beside the students of earlier calls that were measured as these are.

    They were if the teacher's line is the same. A table of other held-out images stays as it is: these are
    students_2.csv then, and so on.
    """
    bands = list(found[0].rms)
    columns = [f"rms of x0 at sigma {low:g} to {high:g}" for low, high in bands]
    lines = [["student", "parameters", "share", "made for", *columns]]
    for row in found:
        errors = [f"{row.rms[band]:.5g}" for band in bands]
        lines.append([row.name, str(row.parameters), f"{row.share:.4g}", row.made_for, *errors])
    path, number = folder / STUDENTS, 1
    while (before := _read(path)) and before[:2] != lines[:2]:
        number += 1
        path = folder / f"students_{number}.csv"
    names = {row.name for row in found}
    lines[2:2] = [line for line in before[2:] if line and line[0] not in names]
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    replace_file(path, text.getvalue().encode())
    return path
