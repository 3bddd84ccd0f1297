"""`restore --dry-run`: everything is checked and one step is made, and nothing is written."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from undiffuse.app import machine, outputs
from undiffuse.app.events import Done, Event, Note, Progress
from undiffuse.app.priors import announced
from undiffuse.app.restore.asked import Asked, open_folder
from undiffuse.app.restore.files import check_one
from undiffuse.app.restore.manifest import Manifest
from undiffuse.app.restore.solve import Stage, solve, together
from undiffuse.app.restore.task import Task, network_of_lpips, prepare
from undiffuse.app.series import evenly
from undiffuse.config import RestoreConfig

READ = 8  # pictures of a folder that are looked at, evenly chosen


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would take."""

    what: str  # the picture, or how many of which folder
    size: (
        tuple[int, ...] | None
    )  # (C, H, W) of the answer, of a folder the largest looked at; None: nothing to do
    how: str  # prior, algorithm, windows
    calls: int  # of the network, for one picture with all of its draws
    seconds: float  # of all pictures
    bytes: int | None  # of memory at the most, this process or the device

    def lines(self) -> list[str]:
        """In words."""
        if self.size is None:
            return [f"{self.what}: {self.how}"]
        held = "unknown" if self.bytes is None else f"{self.bytes / 2**30:.2g} GiB"
        return [
            f"{self.what}: restored to {'x'.join(str(n) for n in self.size)}",
            self.how,
            f"{self.calls} network calls, about {_duration(self.seconds)}, memory about {held}",
        ]


def forecast(config: RestoreConfig) -> Iterator[Event]:
    """One step of one draw, timed; its cost for all draws, steps and pictures. ValueError as a run would have it."""
    outputs.check_writable(config.out)
    device = machine.device(config.device)
    if config.image.is_dir():
        yield from announced(config.prior)
        tasks, count = yield from _some(open_folder(config))
        what = f"{count} pictures in '{config.image}'"
        if not tasks:
            yield Done(Forecast(what, None, "nothing is left to do", 0, 0.0, None))
            return
    else:
        tasks, count, what = [_one(config)], 1, f"'{config.image.name}'"
    task = max(tasks, key=_pixels)
    yield from (Note(note) for note in task.measurement.notes)
    draws = min(config.draws, together(task, device))
    one = task.config.model_copy(update={"draws": draws})
    trial = replace(task, config=one, method=task.method.on(task.method.sigmas[:2]))
    yield Progress(0, 1, "one step")
    begun = began = time.perf_counter()
    for event in solve([trial], device):
        if isinstance(event, Stage) and event.step == 0:
            began = time.perf_counter()  # the start is made; the step is to come
        elif not isinstance(event, Tensor | Stage):
            yield event
    start, seconds = began - begun, time.perf_counter() - began
    memory = machine.memory(device)
    steps, rounds = len(task.method.sigmas) - 1, config.draws / draws
    mean = sum(map(_pixels, tasks)) / len(tasks) / _pixels(task)  # cost is linear in pixels
    held = memory.device_peak if memory.device_peak is not None else memory.resident_peak
    calls = task.method.calls * config.draws
    yield Done(
        Forecast(
            what,
            task.problem.A.in_shape,
            task.asked(),
            calls,
            (start + seconds * steps) * rounds * mean * count,
            held,
        )
    )


def _one(config: RestoreConfig) -> Task:
    task = prepare(config, {})
    network_of_lpips(config)
    check_one(config, task.name)
    return task


def _some(asked: Asked) -> Generator[Note, None, tuple[list[Task], int]]:
    """Some of the pictures that are to be restored, and how many those are. None are if none is left to do."""
    yield Note(asked.told)
    todo = asked.todo(Manifest(asked.config.out))
    if kept := len(asked.names) - len(todo):
        yield Note(f"{kept} are restored already")
    own: list[RestoreConfig] = []
    found: list[Task] = []
    failed: list[str] = []
    for name in todo:
        try:
            own.append(asked.own(name))
        except ValueError as error:
            failed.append(f"{name}: {error}")
    for i in evenly(len(own), READ):
        try:
            found.append(prepare(own[i], asked.priors))
        except (ValueError, OSError) as error:
            failed.append(f"{own[i].image.relative_to(asked.config.image).as_posix()}: {error}")
    if todo and not found:
        raise ValueError(f"none of the pictures that were tried can be restored: {failed[-1]}")
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        yield Note(f"would be passed over: {failed[0]}{more}")
    return found, len(todo) - len(failed)


def _pixels(task: Task) -> int:
    _, height, width = task.problem.A.in_shape
    return height * width


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} seconds"
    return f"{seconds / 60:.2g} minutes" if seconds < 5400 else f"{seconds / 3600:.2g} hours"
