"""Draw what is missing, batch by batch."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.app import machine, outputs
from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.priors import announced
from undiffuse.app.sample import folder as places
from undiffuse.app.sample.plan import Plan, batch_size, default_folder, plan
from undiffuse.config import SampleConfig
from undiffuse.core.loop import sample

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

    Picture i is a function of the settings, the seed and i. Batches, interrupts and resumes change it by the
    rounding of float32 sums only.
    """
    yield from announced(config.prior)
    made, out = plan(config), config.out or default_folder(config)
    device = machine.device(config.device)
    outputs.check_writable(out)
    record = places.begun(made, out)
    paths = [places.picture_path(out, i, made.shape[0]) for i in range(config.n)]
    missing = [i for i, path in enumerate(paths) if not (record and places.is_complete(path))]
    yield from (Note(note) for note in made.opened.notes())
    yield Note(f"{made.asked()}, {made}")
    if kept := config.n - len(missing):
        yield Note(f"{kept} of {config.n} pictures are there already")
    values, seconds = record.get("values", places.NOTHING), record.get("seconds", 0.0)
    began = time.perf_counter()
    made.to(device)
    if made.start is not None and made.start.option != "start" and missing:
        for event in made.start.ends(
            made.step([0], made.noise([0]), device),
            made.denoise([0], device),
            made.sigmas,
            made.shape,
            device,
        ):
            if isinstance(event, Tensor):
                made = replace(made, ends=event)
            else:
                yield event
    for event in _batches(made, missing, device):
        if not isinstance(event, tuple):
            yield event
            continue
        members, pictures = event
        outputs.make_folder(out)
        if not (out / places.RECORD).exists():  # pictures are known by it
            places.write_record(made, out, values, seconds)
        values = places.counted(values, pictures)
        places.write_pictures(made, out, members, pictures)
        places.write_record(made, out, values, seconds + time.perf_counter() - began)
    spent = time.perf_counter() - began
    if values["outside"] > OFTEN:
        yield Note(_far(values, config.stretch))
    yield Saved(places.write_grid(made, out))
    if made.start is not None and made.start.inverted:
        if made.ends is not None:
            yield Saved(places.write_latents(out, made.ends))
        for file, quality in zip(made.start.files, places.round_trip(made, out), strict=True):
            yield Note(f"{file.name}, to noise and back: PSNR {quality:.2f} dB")
    if config.npz:
        yield Saved(places.write_npz(made, out))
    yield Saved(out / places.RECORD)
    yield Done(Sampled(out, len(missing), kept, spent, values["low"], values["high"]))


def _batches(
    plan: Plan, missing: list[int], device: torch.device
) -> Iterator[Event | tuple[list[int], Tensor]]:
    """Progress, and the pictures of a batch with their numbers. Out of memory: again with half the batch."""
    batch, done, steps = batch_size(plan, device), 0, len(plan.sigmas) - 1
    while done < len(missing):
        members = missing[done : done + batch]
        full, pictures = False, None
        try:
            for finished, x in enumerate(_states(plan, members, device)):
                pictures = x
                at = done * steps + finished * len(members)
                yield Progress(at, len(missing) * steps, "drawing")
        except (RuntimeError, MemoryError) as error:
            full = machine.out_of_memory(error)
            if not full or len(members) == 1:
                raise
        if full:
            batch, pictures = len(members) // 2, None
            machine.release(device)
            yield Note(f"out of memory with {len(members)} pictures at once; going on with {batch}")
            continue
        assert pictures is not None
        pictures = pictures.cpu()
        bad = ~pictures.isfinite().flatten(1).all(1)
        if bad.any():
            raise ValueError(
                f"picture {members[int(bad.nonzero()[0])]} is not finite: {plan.entry.name} diverged or the "
                "prior is broken; use more steps, another sampler or --clip"
            )
        yield members, pictures
        done += len(members)


def _states(plan: Plan, members: list[int], device: torch.device) -> Iterator[Tensor]:
    noise = plan.noise(members)
    x = plan.begin(members, noise).to(device)
    step = plan.step(members, noise, device)
    for state in sample(step, x, plan.sigmas):
        yield state.x


def _far(values: dict[str, float], stretch: bool) -> str:
    what = "they are shown scaled" if stretch else "they are clamped; --stretch shows them scaled"
    return (
        f"{100 * values['outside']:.1f} % of the values lie outside [-1.05, 1.05], from {values['low']:.3g} to "
        f"{values['high']:.3g}: {what}"
    )
