"""What a run leaves in its folder as it goes: rows, pictures, weights, the state to resume from, the report."""

import importlib.metadata
import math
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from undiffuse.app.events import Event, Note, Saved
from undiffuse.app.machine import Memory, memory
from undiffuse.app.train import folder as places
from undiffuse.app.train.board import Board
from undiffuse.app.train.build import Pieces
from undiffuse.app.train.folder import Table, TextLog
from undiffuse.app.train.report import write_report
from undiffuse.config import TrainConfig
from undiffuse.core.images import replace_file
from undiffuse.data.stream import MILESTONES
from undiffuse.training.checkpoint import save_resume
from undiffuse.training.loop import TrainState

COLUMNS = ("images", "step", "loss", "gradient_norm", "rate", "skipped", "images_per_second", "seconds")
MEMORY = ("images", "stage", *Memory._fields, "seconds")


class Record:
    """One run's folder, kept by the main process. Rows of a stretch that was lost to a kill are taken out first."""

    def __init__(
        self, config: TrainConfig, out: Path, pieces: Pieces, accelerator: Any, seen: int, skipped: int = 0
    ):
        self.config, self.out, self.pieces = config, out, pieces
        self.device, self.scaler = accelerator.device, accelerator.scaler
        self.state = TrainState(seen, float("nan"), float("nan"), skipped)
        places.keep_config(out, config)
        self.log = Table(out / places.LOG, COLUMNS, after=seen)
        self.checks = Table(out / places.CHECKS, ("images", *pieces.target.columns), after=seen)
        self.memory = Table(out / places.MEMORY, MEMORY, after=seen)
        self.text = TextLog(out / places.TEXT)
        self.board = Board(out, after=self.step)
        self.passed_over = 0
        self.losses: list[float] = []  # since the last row of the log
        self.began = self.row_time = self.saved = time.monotonic()
        self.row_images = seen
        for note in (*pieces.notes, versions(), *((self.board.note,) if self.board.note else ())):
            self.text.write(note)
        self.text.write(f"{pieces.parameters:,} parameters, on {self.device} from step {self.step}")
        self._memory("start")

    @property
    def step(self) -> int:
        return self.state.images_seen // self.config.train.batch

    @property
    def over(self) -> bool:
        return self.step >= self.config.train.steps

    def after(self, state: TrainState) -> Iterator[Event]:
        """What is due after a step."""
        run, skipped = self.config.train, self.state.skipped
        self.state = state
        self.losses.append(state.loss)
        if state.skipped > skipped:
            self.text.write(f"step {self.step} skipped: its gradient was not finite ({state.skipped} so far)")
        yield from self._passed_over()
        if self._due(run.log_every) or state.stopped:
            self._row()
        if self._due(run.check_every):
            yield from self._check()
        if run.keep_every is not None and self._due(run.keep_every):
            path = self.out / f"kept_{self.step:08}.safetensors"
            self._write(path, 0)
            yield Saved(path)
        # Saved at rows of the log only: a run that goes on from there has every row once.
        late = time.monotonic() - self.saved > 60 * run.save_minutes and self._due(run.log_every)
        if late or self.over or state.stopped:
            yield from self._save()
        if state.stopped and not self.over:
            self.text.write(f"stopped at step {self.step}")
            yield Note(f"stopped at step {self.step}; go on with --resume")

    def _passed_over(self) -> Iterator[Event]:
        """The images that could not be used, as there are more of them: in the log, and now and then to the user."""
        skips, before = self.pieces.stream.skips, self.passed_over
        self.passed_over = len(skips)
        if self.passed_over > before:
            self.text.write(skips.summary())
            if any(before < number <= self.passed_over for number in MILESTONES):
                yield Note(f"{skips.summary()}; the next ones take their places")

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.over

    def _row(self) -> None:
        now, state = time.monotonic(), self.state
        if not self.losses:
            return
        finite = [loss for loss in self.losses if math.isfinite(loss)]  # the others moved nothing
        row = {
            "images": state.images_seen,
            "step": self.step,
            "loss": sum(finite) / len(finite) if finite else float("nan"),
            "gradient_norm": state.gradient_norm,
            "rate": self.config.optimizer.rate
            * self.pieces.recipe.rate(state.images_seen - self.config.train.batch),
            "skipped": state.skipped,
            "images_per_second": (state.images_seen - self.row_images) / max(now - self.row_time, 1e-9),
            "seconds": now - self.began,
        }
        self.log.add(row)
        shown = ("loss", "gradient_norm", "rate", "images_per_second")
        self.board.scalars(self.step, {f"train/{name}": float(row[name]) for name in shown})
        self.losses, self.row_time, self.row_images = [], now, state.images_seen

    def _memory(self, stage: str) -> None:
        used = memory(self.device)._asdict()
        row = {"images": self.state.images_seen, "stage": stage, "seconds": time.monotonic() - self.began}
        self.memory.add({**row, **used})

    def _check(self) -> Iterator[Event]:
        """The validation losses, and a picture."""
        with self.pieces.weights(0) as model:
            for band in self.pieces.target.check(model):
                self.checks.add({"images": self.state.images_seen, **band})
                name = f"sigma {band['low']:g} to {band['high']:g}"
                losses = {
                    f"{kind}/{name}": value
                    for kind, value in band.items()
                    if kind not in ("low", "high", "count")
                }
                self.board.scalars(self.step, losses)
            picture = self.pieces.target.picture(model, self.device)
        self._memory("check")
        if picture is not None:
            path = self.out / "pictures" / f"{self.step:08}.png"
            replace_file(path, picture)
            self.board.picture(self.step, picture)
            yield Saved(path)
        yield Saved(write_report(self.out))

    def _save(self) -> Iterator[Event]:
        """The averages as priors, then the state to resume from, then the report."""
        pieces, state = self.pieces, self.state
        for number in range(max(1, len(pieces.averages))):
            name = places.PRIOR if number == 0 else f"prior_{number}.safetensors"
            self._write(self.out / name, number)
        save_resume(
            self.out / places.RESUME, pieces.objective.model, pieces.optimizer, pieces.averages,
            images_seen=state.images_seen, skipped=state.skipped, scaler=self.scaler, data=pieces.data,
        )  # fmt: skip
        self.saved = time.monotonic()
        self._memory("save")
        self.text.write(f"saved at step {self.step}, loss {state.loss:.5g}")
        yield Saved(self.out / places.PRIOR)
        if self.over or state.stopped:
            yield Saved(write_report(self.out))
            self.board.close()

    def _write(self, path: Path, number: int) -> None:
        """The weights of one average, with what they come from."""
        run, averages = self.config.train, self.config.train.ema
        names = [f"half-life {n:g} images" for n in averages] + [
            f"power function, width {n:g}" for n in run.power_ema
        ]
        facts = {
            "name": self.config.name,
            "data": Path(self.config.data.path).name,
            "licence": self.config.data.licence,
            "steps": self.step,
            "images_seen": self.state.images_seen,
            "batch": run.batch,
            "average": names[number] if names else "none",
            "parameters": self.pieces.parameters,
        }
        with self.pieces.weights(number) as model:
            self.pieces.target.write(path, model, facts)


def versions() -> str:
    """Of what decides the pixels."""
    names = ("undiffuse", "torch", "accelerate", "numpy")
    found = [f"{name} {importlib.metadata.version(name)}" for name in names]
    cuda = [f"CUDA {torch.version.cuda}"] if torch.version.cuda else []
    return ", ".join((*found, f"python {platform.python_version()}", *cuda))
