"""Draw what is missing, and what goes with it."""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.app import outputs
from undiffuse.app.events import Done, Event, Note, Saved
from undiffuse.app.priors import announced
from undiffuse.app.sample import folder as places
from undiffuse.app.sample import path as paths
from undiffuse.app.sample.draw import Drawn, batches, with_ends
from undiffuse.app.sample.plan import Plan, plan
from undiffuse.app.sample.shards import Shard, shard
from undiffuse.config import SampleConfig

OFTEN = 0.01  # share of values beyond +-1.05 that is worth a note


@dataclass(frozen=True, slots=True)
class Sampled:
    """What came out."""

    folder: Path
    drawn: int
    kept: int  # pictures that were there already
    seconds: float
    low: float  # of all values that were drawn, before they are clamped
    high: float


def run(config: SampleConfig) -> Iterator[Event]:
    """Draw config.n pictures into a folder. ValueError for bad input, before anything is written.

    Picture i is a function of the settings, the seed and i. Batches, interrupts, resumes and several processes
    change it by the rounding of float32 sums only. Of several processes the first one speaks.
    """
    with shard() as mine:
        for event in _run(config, mine):
            if mine.main:
                yield event


def _run(config: SampleConfig, mine: Shard) -> Iterator[Event]:
    yield from announced(config.prior)
    paths.check_kind(config.path)
    made, out = plan(config), _folder(config)
    device = mine.device(config.device)
    outputs.check_writable(out)
    record = places.begun(made, out)
    missing = places.missing(made, out) if record else list(range(config.n))
    first = _of_the_path(made, out, missing)
    yield from _before(made, missing, mine)
    mine.wait()  # all have seen the folder as it was
    before, seconds = record.get("values", places.NOTHING), record.get("seconds", 0.0)
    values = places.gathered(out, before) if mine.main else places.NOTHING
    if mine.main and mine.world > 1 and missing:
        _write_record(made, out, values, seconds)
    mine.wait()
    began = time.perf_counter()
    todo = (first if mine.main else []) + mine.share([i for i in missing if i not in first])
    seen, wanted = dict[int, list[Tensor]](), set(missing)
    for event in _drawn(made, todo, device, first):
        if not isinstance(event, Drawn):
            yield event
            continue
        for moment, states in event.path.items():
            seen.setdefault(moment, []).append(states)
        spent = seconds + time.perf_counter() - began
        values = _write(made, out, mine, event, wanted, (values, spent))
    mine.wait()
    if not mine.main:
        return
    spent, values = time.perf_counter() - began, places.gathered(out, values)
    if missing and mine.world > 1:
        places.write_record(made, out, values, seconds + spent)
    if values["outside"] > OFTEN:
        yield Note(_far(values, config.stretch))
    yield from _after(made, out, [torch.cat(seen[moment]) for moment in sorted(seen)])
    kept = config.n - len(missing)
    yield Done(Sampled(out, len(missing), kept, spent, values["low"], values["high"]))


def _folder(config: SampleConfig) -> Path:
    return config.out or outputs.default_folder(config.prior, "samples")


def _of_the_path(plan: Plan, out: Path, missing: Collection[int]) -> list[int]:
    """Pictures that are drawn, or drawn again, to see their way."""
    if plan.config.path is None:
        return []
    first = paths.shown(plan)
    there = (out / paths.NAMES[plan.config.path]).exists()
    return [] if there and not set(first) & set(missing) else first


def _before(plan: Plan, missing: list[int], mine: Shard) -> Iterator[Event]:
    yield from (Note(note) for note in plan.notes())
    yield Note(f"{plan.asked()}, {plan}")
    if mine.world > 1:
        yield Note(f"{mine.world} processes")
    if kept := plan.config.n - len(missing):
        yield Note(f"{kept} of {plan.config.n} pictures are there already")


def _drawn(plan: Plan, members: list[int], device: torch.device, first: list[int]) -> Iterator[Event | Drawn]:
    """What is to be drawn, once it is known what lies at its ends."""
    if not members:
        return
    if plan.config.compile:
        yield Note("compiling the network in the first step: some minutes")
    plan.ready(device)
    for event in with_ends(plan, device):
        if isinstance(event, Plan):
            plan = event
        else:
            yield event
    if plan.ends is not None and plan.start is not None and plan.start.inverted:
        outputs.make_folder(out := _folder(plan.config))
        yield Saved(places.write_latents(out, plan.ends))
    yield from batches(plan, members, device, first)


def _write(
    plan: Plan,
    out: Path,
    mine: Shard,
    drawn: Drawn,
    missing: Collection[int],
    so_far: tuple[dict[str, float], float],
) -> dict[str, float]:
    """The pictures that were missing, and the values of this process with them."""
    rows = [row for row, member in enumerate(drawn.members) if member in missing]
    if not rows:
        return so_far[0]
    if not (out / places.RECORD).exists():  # pictures are known by it
        _write_record(plan, out, *so_far)
    pictures = drawn.pictures[rows]
    values = places.counted(so_far[0], pictures)
    places.write_pictures(plan, out, [drawn.members[row] for row in rows], pictures)
    if mine.main:
        places.write_record(plan, out, values, so_far[1])
    else:
        places.write_share(out, mine.rank, values)
    return values


def _write_record(plan: Plan, out: Path, values: dict[str, float], seconds: float) -> None:
    outputs.make_folder(out)
    places.write_record(plan, out, values, seconds)


def _after(plan: Plan, out: Path, states: list[Tensor]) -> Iterator[Event]:
    yield Saved(places.write_grid(plan, out))
    if states:
        yield Saved(paths.write_path(plan, out, states))
    if plan.start is not None and plan.start.inverted:
        for file, quality in zip(plan.start.files, places.round_trip(plan, out), strict=True):
            told = "exact, as 8 bits hold it" if quality == float("inf") else f"PSNR {quality:.2f} dB"
            yield Note(f"{file.name}, to noise and back: {told}")
    if plan.config.npz:
        yield from places.write_npz(plan, out)
    yield Saved(out / places.RECORD)


def _far(values: dict[str, float], stretch: bool) -> str:
    what = "they are shown scaled" if stretch else "they are clamped; --stretch shows them scaled"
    return (
        f"{100 * values['outside']:.1f} % of the values lie outside [-1.05, 1.05], from {values['low']:.3g} to "
        f"{values['high']:.3g}: {what}"
    )
