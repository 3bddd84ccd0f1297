"""A folder of pictures: grouped, resumable, with a manifest; a bad file is told and passed over."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from undiffuse.app import machine, outputs
from undiffuse.app.events import Done, Event, Note, Saved
from undiffuse.app.measurement import operator
from undiffuse.app.priors import announced
from undiffuse.app.restore.answers import Failed, Solved, of_this_picture
from undiffuse.app.restore.asked import Asked, open_folder
from undiffuse.app.restore.engine import engine
from undiffuse.app.restore.files import AMONG_OTHERS, REPORT, save
from undiffuse.app.restore.folder import entry, fingerprint
from undiffuse.app.restore.manifest import Manifest
from undiffuse.app.restore.report import section, write_folder_report
from undiffuse.app.restore.result import judge
from undiffuse.app.restore.solve import alike, together
from undiffuse.app.restore.table import TABLE, as_text, row, write_table
from undiffuse.app.restore.task import Task, asked_for, prepare
from undiffuse.config import RestoreConfig

SHOWN = 12  # pictures in the report
HELD = 64  # pictures read and waiting for others like them
BUILT = 4  # operators kept for pictures of the same size


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a folder."""

    folder: Path
    done: int
    kept: int  # were there already
    failed: tuple[Failed, ...]
    rows: Sequence[dict[str, Any]]  # lines of the manifest, read when they are asked for


def run_folder(config: RestoreConfig) -> Iterator[Event]:
    """Restore what is not restored yet. ValueError, before anything is written, for what no picture can have."""
    outputs.check_writable(config.out)
    device = machine.device(config.device)
    yield from announced(config.prior)
    asked = open_folder(config)
    yield from (
        Note(note) for opened in asked.priors.values() for note in opened.notes_to_restore(*asked_for(config))
    )
    yield Note(asked.told)
    outputs.make_folder(config.out)
    with outputs.alone(config.out, wait=False):
        work = _Work(asked, Manifest(config.out))
        todo = asked.todo(work.manifest)
        if kept := len(asked.names) - len(todo):
            yield Note(f"{kept} are restored already")
        groups = _groups(_tasks(asked, todo, work.seen), device)
        for event in engine(config, groups, asked.priors, device, len(todo)):
            if isinstance(event, Solved):
                for number in range(len(event.tasks)):
                    yield from work.finish(event, number)
            elif isinstance(event, Failed):
                yield work.fail(event)
            else:
                yield event
        yield from work.close()
    yield Done(Batch(config.out, work.done, kept, tuple(work.failed), work.manifest.of(asked.names)))


def _tasks(asked: Asked, todo: list[str], seen: dict[str, dict[str, Any]]) -> Iterator[Task | Failed]:
    """Pictures made ready, one after another, or what is wrong with them. `seen`: filled with what was read."""
    make = lru_cache(maxsize=BUILT)(operator)
    for name in todo:
        try:
            own = asked.own(name)
            read = {"input": own.image, "reference": own.reference}
            seen[name] = {what: fingerprint(path) for what, path in read.items() if path is not None}
            yield prepare(own, asked.priors, make)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            if not of_this_picture(error):
                raise
            yield Failed(name, str(error))


def _groups(found: Iterable[Task | Failed], device: torch.device) -> Iterator[list[Task] | Failed]:
    """Pictures that can share a batch. On a CPU each is alone unless --batch says otherwise: it is no slower."""
    waiting: list[list[Task]] = []
    for task in found:
        if isinstance(task, Failed):
            yield task
            continue
        alone = device.type == "cpu" and task.config.batch == "auto"
        estimated = task.config.measured and task.config.noise == "auto"  # no other has this noise level
        room = 1 if alone or estimated else max(1, together(task, device) // task.config.draws)
        group = next((group for group in waiting if alike(group[0], task)), None)
        if group is None:
            waiting.append(group := [])
        group.append(task)
        if len(group) >= room or sum(map(len, waiting)) >= HELD:
            largest = max(waiting, key=len)
            waiting.remove(largest)
            yield largest
    yield from waiting


class _Work:
    """A folder's results: each is on the disk, and in the manifest, before the next is looked at."""

    def __init__(self, asked: Asked, manifest: Manifest):
        self.asked, self.config, self.manifest, self.mark = asked, asked.config, manifest, asked.mark
        self.failed: list[Failed] = []
        self.seen: dict[str, dict[str, Any]] = {}
        self.done = 0
        self._sections: list[dict[str, Any]] = []

    def fail(self, failed: Failed) -> Note:
        """Tell it, and go on."""
        self.failed.append(failed)
        self.seen.pop(failed.name, None)
        line = {"image": failed.name, "status": "failed", "error": failed.error, "settings": self.mark}
        self.manifest.add(line)
        return Note(f"passed over {failed.name}: {failed.error}")

    def finish(self, solved: Solved, number: int) -> Iterator[Event]:
        """Files of one picture of a group, and its line."""
        task, out = solved.tasks[number], self.config.out
        name = task.config.image.relative_to(self.config.image).as_posix()
        seconds = solved.seconds / len(solved.tasks)
        try:
            result = judge(task, solved.draws[number], seconds, solved.trace[number], self.asked.lpips)
        except (ValueError, RuntimeError, MemoryError) as error:
            if not of_this_picture(error):
                raise
            yield self.fail(Failed(name, str(error)))
            return
        stem = out / Path(name).with_suffix("")
        outputs.make_folder(stem.parent)
        made = list(
            save(result, stem, self._kinds)
        )  # a full disk ends the run: no other picture would do better
        seen = self.seen.pop(name)
        self.manifest.add(entry(result, row(result, name), made, seen, self.mark, out))
        self.done += 1
        if len(self._sections) < SHOWN:
            self._sections.append(section(result, name))

    def close(self) -> Iterator[Event]:
        """The manifest in order, the table and the report."""
        yield Saved(self.manifest.tidy())
        lines = self.manifest.of(self.asked.names)
        rows = (as_text(line) for line in lines if line["status"] == "done")
        yield Saved(write_table(self.config.out / TABLE, rows))
        page = self.config.out / REPORT
        yield Saved(write_folder_report(lines, self._sections, page, self.config))

    @property
    def _kinds(self) -> tuple[str, ...]:
        return self.config.save or AMONG_OTHERS
