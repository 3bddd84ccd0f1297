"""`undiffuse analyse restore`: what the data did to a picture and what the prior did, by singular-value band."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.analysis.bands import Band, split
from undiffuse.analysis.calibration import curve, places
from undiffuse.analysis.moves import followed
from undiffuse.analysis.trace import Trace
from undiffuse.app import machine
from undiffuse.app.analyse import restore_figures
from undiffuse.app.analyse.calibrated import Curves, on_exact_prior
from undiffuse.app.analyse.redone import Redone, read_record, reopened
from undiffuse.app.analyse.section import Cell, Section, Table
from undiffuse.app.events import Done, Event, Note, Progress
from undiffuse.app.priors import announced
from undiffuse.app.restore.solve import together
from undiffuse.app.restore.task import Task
from undiffuse.config.analyse.restore import RestoreAnalysisConfig
from undiffuse.core.noise import SeededNoise
from undiffuse.restore import Problem
from undiffuse.restore.certificate import chi_squared_quantile

SHOWN = 6  # columns of pictures
QUANTITIES = ("prior", "data", "cosine", "share", "before", "after", "error_before", "error_after")


def analyse(config: RestoreAnalysisConfig) -> Iterator[Event]:
    """Do a stored restoration again, following it. ValueError for what cannot be done again."""
    record = read_record(config.result, config.prior, config.draws)
    yield from announced(record.config.prior)
    redone = reopened(record)
    task = redone.task
    if task.method.entry.facts.get("calls") == "repeats":
        raise ValueError(
            "repaint walks each level several times, so that its moves have no order; restore with ilvr"
        )
    yield from (Note(note) for note in redone.notes)
    yield Note(task.asked())
    device = machine.device(config.device)
    A = task.problem.A.on(device)
    trace = Trace(A, split(A, config.bands), task.method.sigmas[:-1].tolist())
    extra = config.exact if task.config.draws > 1 else 0
    total = task.config.draws * len(trace.sigmas)
    yield from _follow(task, trace, device, total)
    curves: Curves = []
    notes = [*redone.notes]
    reference = task.measurement.reference
    draws = torch.cat(trace.draws)
    if task.config.draws > 1:
        if reference is not None:
            curves.append(("this picture", curve(places(draws, reference[0])), draws[0].numel()))
        if extra:
            curves += yield from on_exact_prior(task, extra, config.seed, notes)
    yield Done(_section(config, redone, trace, draws, curves, notes))


def _follow(task: Task, trace: Trace, device: torch.device, total: int) -> Iterator[Event]:
    problem, method, A = task.problem, task.method, trace.A
    task.opened.to(device)
    denoise, size = task.denoiser(), together(task, device)
    reference = None if task.measurement.reference is None else task.measurement.reference.to(device)
    kept = _chosen(len(trace.sigmas))
    for begun in range(0, task.config.draws, size):
        seeds = [task.seed(draw) for draw in range(begun, min(begun + size, task.config.draws))]
        noise = SeededNoise(seeds)
        given = Problem(A, problem.y.to(device), problem.sigma_y).repeat(len(seeds))
        x = method.start(given, method.sigmas[0].to(given.y), noise)

        def make(ask, y, draw, sigma_y=problem.sigma_y):
            return method.step(ask, Problem(A, y, sigma_y), draw)

        moves = followed(make, denoise, A, given.y, noise, x, method.sigmas)
        for step, move in enumerate(moves):
            trace.keep(step, move, given.y, given.sigma_y, reference)
            if begun == 0 and step in kept:
                trace.show(step, move)
            x = move.state.x
            yield Progress(begun * len(trace.sigmas) + (step + 1) * len(seeds), total, task.config.image.name)
        if not x.isfinite().all():
            raise ValueError(f"{method.entry.name} diverged on this degradation; use more steps")
        trace.draws.append(x.cpu())


def _chosen(steps: int) -> list[int]:
    """Evenly over the steps, the first and the last with them."""
    count = min(SHOWN, steps)
    return sorted({round(i * (steps - 1) / max(1, count - 1)) for i in range(count)})


def shown_steps(config: RestoreAnalysisConfig, steps: int) -> list[int]:
    """Every step, or every n-th and the last."""
    every = 1 if config.every == "step" else config.every
    return sorted({*range(0, steps, every), steps - 1})


def _section(
    config: RestoreAnalysisConfig,
    redone: Redone,
    trace: Trace,
    draws: Tensor,
    curves: Curves,
    notes: list[str],
) -> Section:
    task, bands = redone.task, trace.by.bands
    steps = shown_steps(config, len(trace.sigmas))
    per_step = _table(trace, steps, task.problem.sigma_y)
    ratio = residual_rows(trace, task)
    figures = restore_figures.draw(trace, steps, per_step, ratio, task, curves)
    whole = totals(trace)
    notes += _agreement(redone, draws)
    tables = (_totals(whole, task.problem.sigma_y),) + ((_curves(curves),) if curves else ())
    facts = {
        "algorithm": task.method.entry.name,
        "steps": len(trace.sigmas),
        "draws": len(draws),
        "bands": [{"name": b.name, "modes": b.modes} for b in bands],
        "calibration": {name: {"gap": found.gap, "lean": found.lean} for name, found, _ in curves},
    }
    title = f"Restoration of {task.config.image.name}: data and prior"
    return Section("restore", title, _summary(task, whole, curves), figures, tables, tuple(notes), facts)


@dataclass(frozen=True, slots=True)
class Total:
    """All steps together, in one band."""

    band: Band
    prior: float  # root of the summed squared moves of a coefficient, white - black = 1
    data: float
    left: float  # residual of the last estimate
    error: float | None  # against the reference

    @property
    def share(self) -> float | None:
        """Of the squared moves, those of the data."""
        both = self.prior**2 + self.data**2
        return self.data**2 / both if both > 0 else None


def totals(trace: Trace) -> list[Total]:
    """One for each band."""
    found: list[Total] = []
    for k, band in enumerate(trace.by.bands):
        prior, data = (math.sqrt(trace.mean(name)[:, k].nansum().item()) / 2 for name in ("prior", "data"))
        error = trace.size("error_after")[-1, k].item() if "error_after" in trace.sums else None
        found.append(Total(band, prior, data, trace.mean("after")[-1, k].item(), error))
    return found


def _totals(found: list[Total], sigma_y: float) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        left = one.left if sigma_y > 0 else math.sqrt(one.left) / 2
        ends = (None if math.isnan(left) else left, one.error)
        rows.append((one.band.name, one.band.modes, one.prior, one.data, one.share, *ends))
    columns = (
        "band of singular values",
        "modes",
        "moved by the prior",
        "moved by the data",
        "share of the data",
    )
    return Table(
        "bands",
        "All steps together",
        (*columns, "residual at the end", "error at the end"),
        rows,
        "Moved: root of the summed squared moves of a coefficient over all steps, white - black = 1. Share: of the "
        "squared moves, those of the data; 0 where nothing is measured. Residual: over what the noise leaves, so that "
        "1 is the truth's (without noise: root mean square). Error: against the reference, if there is one.",
    )


def _table(trace: Trace, steps: list[int], sigma_y: float) -> Table:
    known = [name for name in QUANTITIES if name in trace.sums]
    values = {
        name: trace.size(name) if name in ("prior", "data") or name.startswith("error") else trace.mean(name)
        for name in known
    }
    if sigma_y == 0:
        values |= {name: values[name].sqrt() for name in ("before", "after")}
    titles = {
        "prior": "prior moved", "data": "data moved", "cosine": "cosine", "share": "share of the data",
        "before": "residual of the prior's answer", "after": "residual after the data",
        "error_before": "error of the prior's answer", "error_after": "error after the data",
    }  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for step in steps:
        for k, band in enumerate(trace.by.bands):
            cells = [values[name][step, k].item() for name in known]
            found = [None if math.isnan(cell) else cell for cell in cells]
            rows.append((step + 1, trace.sigmas[step] / 2, band.name, *found))
    return Table(
        "steps",
        "Step by step",
        ("step", "noise level sigma", "band", *(titles[name] for name in known)),
        rows,
        "Moves and errors are root mean squares of a coefficient, white - black = 1; the cosine is that between the "
        "two moves; a dash stands where there is nothing to compare. Means over draws.",
    )


def residual_rows(trace: Trace, task: Task) -> Table:
    """The whole residual of each step, and the range in which 99 % of true pictures leave it."""
    assert trace.ratio is not None
    m, sigma_y = task.problem.A.measurements, task.problem.sigma_y
    mean = trace.ratio / max(1, sum(map(len, trace.draws)))
    low, high = ((chi_squared_quantile(p, m) / m) for p in (0.005, 0.995)) if sigma_y > 0 else (None, None)
    values = mean if sigma_y > 0 else mean.sqrt() / 2
    rows: list[tuple[Cell, ...]] = [
        (i + 1, level / 2, values[i, 0].item(), values[i, 1].item(), low, high)
        for i, level in enumerate(trace.sigmas)
    ]
    columns = ("step", "noise level sigma", "prior's answer", "after the data", "99 % low", "99 % high")
    return Table("residual", "Residual", columns, rows)


def _curves(curves: Curves) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (name, found.draws, values, found.gap, found.lean) for name, found, values in curves
    ]
    return Table(
        "calibration_summary",
        "Error bars",
        ("draws of", "draws each", "values judged", "mean distance from the diagonal", "lean"),
        rows,
        "Lean: measured less nominal coverage, on average; below 0 error bars are too narrow, above 0 too wide. Values "
        "of a picture move together, so that one picture says less than its number of values suggests.",
    )


def _agreement(redone: Redone, draws: Tensor) -> list[str]:
    if redone.restored is None or redone.restored.shape != draws.shape[1:]:
        return []
    apart = (draws.mean(0).clamp(-1, 1) - redone.restored).abs().max().item() / 2
    return [f"done again, the picture is within {apart:.3g} of the saved one everywhere (white - black = 1)"]


def _summary(task: Task, found: list[Total], curves: Curves) -> str:
    seen = [(one.band.name, one.share) for one in found if not one.band.unseen]
    shares = [f"{100 * share:.0f} % {name}" for name, share in seen if share is not None]
    said = f"{task.method}, {task.config.degrade}, noise {task.problem.sigma_y / 2:.3g}. "
    said += (
        f"Share of the data in the squared movement, by singular values: {', '.join(shares)}. "
        if shares
        else ""
    )
    hidden = sum(one.band.modes for one in found if one.band.unseen)
    if hidden:
        share = 100 * hidden / sum(one.band.modes for one in found)
        said += f"{share:.0f} % of the picture's modes are measured by nothing: there the prior decides. "
    for name, found_curve, _ in curves:
        said += f"Coverage of {name}: {100 * found_curve.lean:+.0f} % from nominal on average. "
    return said.strip()
