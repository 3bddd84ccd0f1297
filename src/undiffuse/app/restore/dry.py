"""`restore --dry-run`: everything is checked and one step is made, and nothing is written."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from undiffuse.app import machine, outputs
from undiffuse.app.events import Done, Event, Note, Progress
from undiffuse.app.restore.files import check_one
from undiffuse.app.restore.folder import pictures
from undiffuse.app.restore.many import check_folders
from undiffuse.app.restore.solve import Stage, solve, together
from undiffuse.app.restore.task import Priors, Task, prepare
from undiffuse.app.series import evenly
from undiffuse.config import RestoreConfig

READ = 8  # pictures of a folder that are looked at, evenly chosen


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would take."""

    what: str  # the picture, or how many of which folder
    size: tuple[int, ...]  # (C, H, W) of the answer; of a folder the largest that was looked at
    how: str  # prior, algorithm, windows
    calls: int  # of the network, for one picture with all of its draws
    seconds: float  # of all pictures
    bytes: int | None  # of memory at the most, this process or the device

    def lines(self) -> list[str]:
        """In words."""
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
    tasks, count = _tasks(config)
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
    what = f"'{config.image.name}'" if not config.image.is_dir() else f"{count} pictures in '{config.image}'"
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


def _tasks(config: RestoreConfig) -> tuple[list[Task], int]:
    """Some of what is to be restored, and how many there are."""
    priors: Priors = {}
    if not config.image.is_dir():
        task = prepare(config, priors)
        check_one(config, task.name)
        return [task], 1
    check_folders(config)
    names, _ = pictures(config.image, config.out)
    found: list[Task] = []
    trouble = ""
    for i in evenly(len(names), READ):
        name = names[i]
        try:
            found.append(
                prepare(config.model_copy(update={"image": config.image / name, "reference": None}), priors)
            )
        except (ValueError, OSError) as error:
            trouble = str(error)
    if not found:
        raise ValueError(f"none of the pictures that were tried can be restored: {trouble}")
    return found, len(names)


def _pixels(task: Task) -> int:
    _, height, width = task.problem.A.in_shape
    return height * width


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} seconds"
    return f"{seconds / 60:.2g} minutes" if seconds < 5400 else f"{seconds / 3600:.2g} hours"
