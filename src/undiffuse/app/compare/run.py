"""Draw with every sampler from the same noise, measure, and write it down."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.app import machine, outputs
from undiffuse.app.compare import files
from undiffuse.app.compare.asked import Contender, contender, fine, on
from undiffuse.app.compare.choose import Search, choose
from undiffuse.app.compare.draw import Drawn, distance, draw
from undiffuse.app.compare.fid import evaluation, fid
from undiffuse.app.compare.picture import composite
from undiffuse.app.evaluate.run import check
from undiffuse.app.evaluate.sources import open_source
from undiffuse.app.events import Done, Event, Note, Saved
from undiffuse.app.methods import explicit
from undiffuse.app.priors import Opened, announced, open_prior
from undiffuse.app.sample.plan import Plan
from undiffuse.app.sample.preset import SamplerPreset, presets_text
from undiffuse.config.compare import CompareConfig


@dataclass(frozen=True, slots=True)
class Fine:
    """The end of the probability-flow ODE from each start, and how far from it that is, by half as many steps."""

    x: Tensor  # (n, C, H, W)
    steps: int
    seconds: float
    calls: float
    error: float  # RMS, [0, 1] units


@dataclass(frozen=True, slots=True)
class Compared:
    """What came out. fine: None where none was asked for."""

    folder: Path
    rows: tuple[files.Row, ...]
    fine: Fine | None
    presets: tuple[SamplerPreset, ...]
    guided: bool  # each estimate is two calls


def run(config: CompareConfig) -> Iterator[Event]:
    """Compare the samplers of `config`. ValueError for bad input, before anything is drawn."""
    yield from announced(config.prior)
    opened = open_prior(config.prior, config.prior_options, config.precision)
    out = config.out or outputs.default_folder(config.prior, "compare")
    _check(config, opened, out)
    contenders = [contender(opened, config, text) for text in config.samplers]
    device = machine.device(config.device)
    opened.ready(device)
    plan, members = contenders[0].plan, list(range(config.n))
    told = dict.fromkeys(note for one in contenders for note in one.plan.notes())
    yield from (Note(note) for note in told)
    yield Note(f"{plan.asked()}: {len(contenders)} samplers, {config.n} pictures each from the same noise")
    _warm(plan, members, device)
    exact = (yield from _fine(plan, members, config, device)) if config.fine else None
    presets = (yield from _presets(plan, config, exact, device)) if config.presets and exact else ()
    contenders += [_of(plan, preset) for preset in presets]
    rows: list[files.Row] = []
    shown: list[tuple[list[str], Tensor | None]] = []
    if exact is not None:
        shown.append((_lines_of(exact), exact.x))
    for number, one in enumerate(contenders):
        drawn = yield from draw(one.plan, members, device, one.label)
        row = _row(one, drawn, exact)
        if config.fid is not None and drawn.finite:
            row = replace(row, frechet=(yield from fid(drawn.x, config, out, number)))
        rows.append(row)
        shown.append((row.lines(), drawn.x if drawn.finite else None))
    outputs.make_folder(out)
    if any(x is not None for _, x in shown):
        yield Saved(outputs.save_bytes(out / files.PICTURE, composite(shown)))
    if presets:
        yield Saved(outputs.save_bytes(out / files.PRESETS, presets_text(presets).encode()))
    yield Saved(outputs.save_bytes(out / files.TABLE, files.table(rows)))
    told = files.record(config, plan, rows, _told(exact), device)
    yield Saved(outputs.save_bytes(out / files.RECORD, told))
    yield Done(Compared(out, tuple(rows), exact, tuple(presets), config.guidance != 1))


def _check(config: CompareConfig, opened: Opened, out: Path) -> None:
    if opened.prior is not None and opened.prior.conditions:
        raise ValueError(
            f"the prior '{opened.name}' is conditioned on a picture; compare draws from priors without one"
        )
    outputs.check_writable(out)
    if config.fid is not None:
        check(evaluation(config, out, 0), open_source(config.fid))


def _warm(plan: Plan, members: list[int], device: torch.device) -> None:
    """The first call of a shape sets the network up, and is no sampler's."""
    with torch.no_grad():
        x = torch.zeros(min(len(members), 16), *plan.shape, device=device)
        plan.denoise(members[: len(x)], device)(x, torch.tensor(1.0, device=device))


def _fine(
    plan: Plan, members: list[int], config: CompareConfig, device: torch.device
) -> Generator[Event, None, Fine]:
    best = yield from draw(fine(plan, config.fine), members, device, "fine solution")
    half = yield from draw(fine(plan, config.fine // 2), members, device, "fine solution with half the steps")
    if not best.finite:
        raise ValueError(
            f"the fine solution of {config.fine} steps diverged; use --clip, more steps or --fine 0"
        )
    error = distance(best.x, half.x) / 3  # of second order: the error of n / 2 steps is 4 times that of n
    return Fine(best.x, config.fine, best.seconds, best.calls, error)


def _presets(
    plan: Plan, config: CompareConfig, exact: Fine | None, device: torch.device
) -> Generator[Event, None, tuple[SamplerPreset, ...]]:
    assert exact is not None
    shown, others = list(range(config.n)), list(range(config.n, 2 * config.n))
    search = yield from draw(fine(plan, config.fine), others, device, "fine solution, to search on")
    halves = Search(plan, others, search.x, device), Search(plan, shown, exact.x, device)
    found: list[SamplerPreset] = []
    for calls in config.presets:
        found.append((yield from choose(plan, config, calls, halves)))
    return tuple(found)


def _of(plan: Plan, preset: SamplerPreset) -> Contender:
    return Contender(f"preset@{preset.calls}", on(plan, preset.sampler, explicit(preset.sigmas), preset.grid))


def _row(one: Contender, drawn: Drawn, exact: Fine | None) -> files.Row:
    plan = one.plan
    told = ",".join(f"{name}={value}" for name, value in plan.options.items())
    measured = exact is not None and drawn.deterministic and drawn.finite
    return files.Row(
        label=one.label, sampler=plan.entry.name, options=told, grid=str(plan.grid), steps=len(plan.sigmas) - 1,
        calls=drawn.calls, seconds=drawn.seconds, deterministic=drawn.deterministic, finite=drawn.finite,
        distance=distance(drawn.x, exact.x) if measured and exact is not None else None, frechet=None,
        sigmas=tuple(plan.sigmas.tolist()),
    )  # fmt: skip


def _lines_of(exact: Fine) -> list[str]:
    return [
        f"fine solution: heun, {exact.steps} steps",
        f"{exact.calls:g} calls, {exact.seconds:.3g} s",
        f"exact to {exact.error:.1g}",
    ]


def _told(exact: Fine | None) -> dict[str, float] | None:
    if exact is None:
        return None
    return {"steps": exact.steps, "calls": exact.calls, "seconds": exact.seconds, "error": exact.error}
