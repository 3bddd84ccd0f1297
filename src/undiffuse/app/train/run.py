"""Train, log, check, save; stop when asked, and go on as if nothing had been."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from undiffuse.app.events import Done, Event, Note, Progress
from undiffuse.app.machine import keep_freed, memory
from undiffuse.app.train import folder as places
from undiffuse.app.train.build import Pieces, build
from undiffuse.app.train.folder import take
from undiffuse.app.train.record import Record
from undiffuse.config import TrainConfig
from undiffuse.training.checkpoint import load_resume
from undiffuse.training.loop import Batch, TrainState, accelerator_for, check_shared, train

AGAIN = 1.0  # seconds from which a signal is a second one
TRIAL = 4  # steps of a dry run; the first, which warms up, is not timed


def run(
    config: TrainConfig, out: Path, *, resume: bool = False, dry: bool = False, device: str = "auto"
) -> Iterator[Event]:
    """Train into the folder `out`; `dry`: a few steps, nothing written. ValueError for bad input, before all that.

    Asked to stop (Ctrl-C, SIGTERM) it saves, and raises KeyboardInterrupt. Of several processes only the first speaks.
    """
    keep_freed()
    accelerator = accelerator_for(config.train.precision, device)
    main = accelerator.is_main_process
    check_shared(config.train.batch, accelerator)
    if main and not dry:
        places.check_new(out, resume)  # before the data is read, which may take long
    if main and config.data.split_by == "content":
        yield Note(f"reading all of '{config.data.path}' once, to split it by content")
    pieces = build(_without_start(config) if resume and (out / places.RESUME).exists() else config)
    try:
        for note in pieces.notes if main else ():
            yield Note(note)
        if dry:
            yield from (event for event in _trial(config, pieces, accelerator) if main)
        else:
            yield from _real(config, out, pieces, accelerator, resume)
        yield Done(out if main and not dry else None)
    finally:
        pieces.stream.close()


def _real(config: TrainConfig, out: Path, pieces: Pieces, accelerator: Any, resume: bool) -> Iterator[Event]:
    main, total = accelerator.is_main_process, config.train.steps * config.train.batch
    with take(out, config, resume) if main else nullcontext(), _interrupts() as asked:
        accelerator.wait_for_everyone()
        seen, skipped = _state(out, pieces, accelerator.scaler)
        made = seen // config.train.batch
        if seen > total:
            raise ValueError(
                f"train.steps: {config.train.steps}, but the run in '{out}' has made {made}; expected at least those"
            )
        _move(pieces, accelerator.device)
        record = Record(config, out, pieces, accelerator, seen, skipped) if main else None
        if record is not None and resume:
            yield Note(
                f"going on from step {made}" if seen else f"nothing in '{out}' to go on from: a new run"
            )
        stopped = False
        for state in _states(config, pieces, accelerator, total, seen, skipped, asked.is_set):
            stopped = state.stopped and state.images_seen < total
            if record is not None:
                step = state.images_seen // config.train.batch
                yield Progress(step, config.train.steps, f"{config.name}, loss {state.loss:.4f}")
                yield from record.after(state)
        accelerator.wait_for_everyone()
    if stopped:
        raise KeyboardInterrupt


def _without_start(config: TrainConfig) -> TrainConfig:
    """The same, as it goes on: the weights that it started from may be gone."""
    return config.model_copy(update={"train": config.train.model_copy(update={"start": None})})


def _states(
    config: TrainConfig,
    pieces: Pieces,
    accelerator: Any,
    images: int,
    seen: int = 0,
    skipped: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[TrainState]:
    classes = config.conditioning.classes

    def data(which: range) -> Batch:
        batch = pieces.stream(which)
        labels = batch.labels if classes else None
        if classes and (labels is None or int(labels.max()) >= classes):
            found = "no label" if labels is None else f"label {int(labels.max())}"
            raise ValueError(f"the data has {found}, conditioning.classes is {classes}; correct it")
        return batch.x, labels

    return train(
        pieces.objective, data, pieces.optimizer, pieces.averages, pieces.recipe, accelerator=accelerator,
        images=images, images_seen=seen, skipped=skipped, stop=stop,
    )  # fmt: skip


def _trial(config: TrainConfig, pieces: Pieces, accelerator: Any) -> Iterator[Event]:
    """A few real steps: what the run will take."""
    _move(pieces, accelerator.device)
    began = 0.0
    for number, _ in enumerate(_states(config, pieces, accelerator, TRIAL * config.train.batch)):
        began = began if number else time.perf_counter()
        yield Progress(number + 1, TRIAL, "trial steps")
    each = (time.perf_counter() - began) / (TRIAL - 1)
    used = memory(accelerator.device)
    peak = used.device_peak if used.device_peak is not None else used.resident_peak
    yield Note(
        f"network {config.network.get('name')}, {pieces.parameters:,} parameters, on {accelerator.device}"
    )
    whole = spoken(each * config.train.steps)
    yield Note(f"{config.train.batch / each:.1f} images a second; {config.train.steps} steps take {whole}")
    if peak is not None:
        yield Note(f"peak memory {peak / 2**30:.2f} GiB; nothing was written")


def spoken(seconds: float) -> str:
    """A duration for people."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _state(out: Path, pieces: Pieces, scaler: torch.amp.GradScaler | None) -> tuple[int, int]:
    """Images seen and steps skipped: of the state to resume from, if there is one."""
    path = out / places.RESUME
    if not path.exists():
        return 0, 0
    return load_resume(
        path, pieces.objective.model, pieces.optimizer, pieces.averages, scaler, data=pieces.data
    )


def _move(pieces: Pieces, device: torch.device) -> None:
    """Averages and the optimiser's moments beside the weights."""
    pieces.objective.model.to(device)
    for average in pieces.averages:
        average.module.to(device)
    for state in pieces.optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.ndim:
                state[name] = value.to(device)


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM ask to stop after the step; a second Ctrl-C, a second later, does not ask.

    Of Ctrl-C under torchrun each process hears twice at once: from the terminal, and from the launcher.
    """
    asked = threading.Event()
    first = float("inf")

    def ask(number: int, frame: Any) -> None:
        nonlocal first
        if time.monotonic() - first > AGAIN:
            raise KeyboardInterrupt
        first = min(first, time.monotonic())
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
