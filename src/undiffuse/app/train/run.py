"""Train, log, check, save; stop when asked, and go on as if nothing had been."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.train import folder as places
from undiffuse.app.train.build import Pieces, build
from undiffuse.app.train.folder import Table, TextLog, alone, prepare_folder
from undiffuse.app.train.pictures import sheet
from undiffuse.checkpoints import save
from undiffuse.config import TrainConfig
from undiffuse.core.images import replace_file
from undiffuse.priors import Prior
from undiffuse.training import EMA
from undiffuse.training.checkpoint import load_resume, save_resume
from undiffuse.training.loop import TrainState, accelerator_for, train

COLUMNS = ("step", "images", "loss", "gradient_norm", "rate", "skipped", "images_per_second", "seconds")


class Run:
    """One run in its folder, on the main process; the others only train."""

    def __init__(
        self, config: TrainConfig, out: Path, pieces: Pieces, accelerator: Any, seen: int, skipped: int
    ):
        self.config, self.out, self.pieces, self.accelerator = config, out, pieces, accelerator
        self.seen, self.skipped = seen, skipped
        self.began = self.saved = time.monotonic()
        self.log = Table(out / places.LOG, COLUMNS, after=seen)
        self.text = TextLog(out / places.TEXT)
        self.window: list[float] = []
        self.since = (seen, time.monotonic())

    def step(self, state: TrainState) -> None:
        """After a step: a row of the log when one is due."""
        self.seen, self.skipped = state.images_seen, state.skipped
        self.window.append(state.loss)
        step = state.images_seen // self.config.train.batch
        if step % self.config.train.log_every and not self._over:
            return
        now = time.monotonic()
        images, then = self.since
        row = {
            "step": step,
            "images": state.images_seen,
            "loss": sum(self.window) / len(self.window),
            "gradient_norm": state.gradient_norm,
            "rate": self.config.optimizer.rate * self.pieces.recipe.rate(state.images_seen),
            "skipped": state.skipped,
            "images_per_second": (state.images_seen - images) / max(now - then, 1e-9),
            "seconds": now - self.began,
        }
        self.log.add(row)
        self.window, self.since = [], (state.images_seen, now)

    @property
    def _over(self) -> bool:
        return self.seen >= self.config.train.steps * self.config.train.batch

    def due(self, every: int | None) -> bool:
        return every is not None and (self.seen // self.config.train.batch % every == 0 or self._over)

    def save_due(self) -> bool:
        """At a row of the log only, so that the log of a resumed run has every row once."""
        late = time.monotonic() - self.saved > 60 * self.config.train.save_minutes
        return self._over or (late and self.due(self.config.train.log_every))

    def save(self) -> Iterator[Event]:
        """The averages as priors, and then the state to resume from."""
        pieces = self.pieces
        modules = [average.module for average in pieces.averages] or [pieces.prior]
        for number, module in enumerate(modules):
            name = places.PRIOR if number == 0 else f"prior_{number}.safetensors"
            self._write(self.out / name, module, number)
        save_resume(
            self.out / places.RESUME, pieces.prior, pieces.optimizer, pieces.averages,
            images_seen=self.seen, skipped=self.skipped,
        )  # fmt: skip
        self.saved = time.monotonic()
        self.text.write(f"saved at step {self.seen // self.config.train.batch}")
        yield Saved(self.out / places.PRIOR)

    def _write(self, path: Path, module: torch.nn.Module, number: int) -> None:
        averages = [f"half-life {n:g} images" for n in self.config.train.ema]
        averages += [f"power function, width {n:g}" for n in self.config.train.power_ema]
        facts = {
            "name": self.config.name,
            "data": self.config.data.path.rstrip("/").rsplit("/", 1)[-1],
            "licence": self.config.data.licence,
            "steps": self.seen // self.config.train.batch,
            "images_seen": self.seen,
            "average": averages[number] if averages else "none",
            **self.pieces.facts,
        }
        save(path, cast(Prior, module), self.pieces.description, facts)


def run(config: TrainConfig, out: Path, *, resume: bool = False, device: str = "auto") -> Iterator[Event]:
    """Train into the folder `out`. ValueError for bad input, before anything is written."""
    accelerator = accelerator_for(config.train.precision, device)
    main = accelerator.is_main_process
    pieces = build(config)
    known = prepare_folder(out, config, resume) if main else (out / places.RESUME).exists()
    handle = alone(out) if main else None
    accelerator.wait_for_everyone()
    seen = skipped = 0
    if known:
        seen, skipped = load_resume(out / places.RESUME, pieces.prior, pieces.optimizer, pieces.averages)
    _move(pieces, accelerator.device)
    job = Run(config, out, pieces, accelerator, seen, skipped) if main else None
    if job is not None:
        for note in (*pieces.notes, f"{pieces.facts['parameters']:,} parameters, on {accelerator.device}"):
            job.text.write(note)
            yield Note(note)
        if known:
            yield Note(f"going on from step {seen // config.train.batch}")
    with _interrupts() as asked:
        states = train(
            pieces.objective, _data(pieces), pieces.optimizer, pieces.averages, pieces.recipe, accelerator=accelerator,
            images=config.train.steps * config.train.batch, images_seen=seen, skipped=skipped, stop=asked.is_set,
        )  # fmt: skip
        stopped = False
        for state in states:
            stopped = state.stopped
            if job is not None:
                yield from _after(job, state)
    if job is not None and stopped and not job._over:
        yield from job.save()
        yield Note(f"stopped at step {job.seen // config.train.batch}; go on with --resume")
    pieces.stream.close()
    accelerator.wait_for_everyone()
    if handle is not None:
        import os

        os.close(handle)
    yield Done(out)


def _after(job: Run, state: TrainState) -> Iterator[Event]:
    job.step(state)
    config = job.config
    step = state.images_seen // config.train.batch
    yield Progress(step, config.train.steps, f"{config.name}, loss {state.loss:.4f}")
    if job.due(config.train.check_every) and config.train.pictures:
        averaged: list[EMA] = list(job.pieces.averages)
        prior = cast(Prior, averaged[0].module if averaged else job.pieces.prior)
        path = job.out / "pictures" / f"{step:08}.png"
        prior.eval()
        data = sheet(
            prior, job.pieces.checked, config.train.pictures, config.train.seed, job.accelerator.device
        )
        if not averaged:
            prior.train()
        replace_file(path, data)
        yield Saved(path)
    if job.save_due():
        yield from job.save()


def _move(pieces: Pieces, device: torch.device) -> None:
    """Averages and the optimiser's moments beside the weights."""
    pieces.prior.to(device)
    for average in pieces.averages:
        average.module.to(device)
    for state in pieces.optimizer.state.values():
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.ndim:
                state[name] = value.to(device)


def _data(pieces: Pieces) -> Any:
    labelled = pieces.prior.num_classes is not None

    def data(which: range) -> tuple[torch.Tensor, torch.Tensor | None]:
        batch = pieces.stream(which)
        return batch.x, batch.labels if labelled else None

    return data


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM ask to stop after the step; a second Ctrl-C does not ask."""
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
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
