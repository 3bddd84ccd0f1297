"""One picture or a folder of them, through the same door."""

import os
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from undiffuse.app import machine, outputs
from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.priors import announced
from undiffuse.app.restore.files import ALONE, REPORT, check_one, save
from undiffuse.app.restore.result import judge
from undiffuse.app.restore.solve import Stage, solve
from undiffuse.app.restore.table import TABLE, append_metrics
from undiffuse.app.restore.task import asked_for, network_of_lpips, prepare
from undiffuse.app.restore.trace import Snapshot, snapshot
from undiffuse.config import RestoreConfig


def run(config: RestoreConfig, *, dry: bool = False) -> Iterator[Event]:
    """Restore a picture, or every picture of a folder, into the folder `config.out`.

    ValueError for bad input, before anything is written. The result is a `Restored`, or a `Batch`; `dry`: what it
    would take, a `Forecast`.
    """
    for path in (config.image, config.out):
        if "\ufffd" in os.fsencode(path).decode(errors="replace"):
            raise ValueError(f"the name '{path}' is not UTF-8, so that no report can hold it; rename it")
    if config.goal == "perceptual" and config.algorithm != "auto":  # the other goals say how many draws
        raise ValueError(
            f"--goal perceptual chooses the algorithm, and --algorithm {config.algorithm} is another; leave one of "
            "them out"
        )
    if not config.image.is_dir() and (config.fleet is not None or config.workers is not None):
        raise ValueError(
            "--fleet and --workers are for a folder of pictures, and this is one; leave them out"
        )
    if dry:
        from undiffuse.app.restore.dry import forecast

        yield from forecast(config)
    elif config.image.is_dir():
        from undiffuse.app.restore.many import run_folder

        yield from run_folder(config)
    else:
        yield from _run_one(config)


def _run_one(config: RestoreConfig) -> Iterator[Event]:
    yield from announced(config.prior)
    task, lpips = prepare(config, {}), network_of_lpips(config)
    device = machine.device(config.device)
    check_one(config, task.name)
    yield from (Note(note) for note in task.measurement.notes)
    yield from (Note(note) for note in task.opened.notes_to_restore(*asked_for(config)))
    yield Note(task.asked())
    began, draws, trace = time.perf_counter(), torch.empty(0), list[Snapshot]()
    for event in solve([task], device):
        if isinstance(event, Tensor):
            draws = event[0]
        elif isinstance(event, Stage):
            yield Progress(event.done, event.total, config.image.name)
            if event.first and event.step == 0:
                trace.clear()  # begun again, with a smaller batch
            taken = snapshot(task, event) if event.first else None
            trace += [taken] if taken else []
        else:
            yield event
    result = judge(task, draws, time.perf_counter() - began, tuple(trace), lpips)
    outputs.make_folder(config.out)
    for path in save(result, config.out / task.name, config.save or ALONE):
        yield Saved(path)
    yield Saved(append_metrics(config.out / TABLE, result))
    from undiffuse.app.restore.report import write_report

    yield Saved(write_report([result], config.out / REPORT))
    yield Done(result)
