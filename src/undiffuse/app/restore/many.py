"""A folder of pictures: grouped, resumable, with a manifest; a bad file is told and passed over."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from undiffuse.app import machine, outputs
from undiffuse.app.events import Done, Event, Note, Saved
from undiffuse.app.measurement import check_terms
from undiffuse.app.priors import open_prior
from undiffuse.app.restore.engine import Failed, Solved, engine
from undiffuse.app.restore.files import AMONG_OTHERS, save
from undiffuse.app.restore.folder import Manifest, entry, pictures, settings
from undiffuse.app.restore.report import section, write_folder_report
from undiffuse.app.restore.result import judge
from undiffuse.app.restore.solve import alike, together
from undiffuse.app.restore.task import AUTO, Priors, Task, network_of_lpips, prepare
from undiffuse.config import RestoreConfig

SHOWN = 12  # pictures in the report
HELD = 64  # pictures read and waiting for others like them


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a folder."""

    folder: Path
    done: int
    kept: int  # were there already
    failed: tuple[Failed, ...]
    rows: tuple[dict[str, Any], ...]  # lines of the manifest


def run_folder(config: RestoreConfig) -> Iterator[Event]:
    """Restore what is not restored yet. ValueError, before anything is written, for what no picture can have."""
    check_terms(config)
    _check_folders(config)
    names, left = pictures(config.image, config.out)
    device = machine.device(config.device)
    outputs.check_writable(config.out)
    chosen = AUTO if config.prior == "auto" else (config.prior,)
    priors: Priors = {name: open_prior(name) for name in chosen}
    mark = settings(config, {name: opened.sha256 for name, opened in priors.items()})
    work = _Work(config, Manifest(config.out), mark)
    todo = [name for name in names if not work.manifest.done(config.image, name, mark)]
    yield Note("; ".join((f"{len(names)} pictures in '{config.image}'", *left)))
    if kept := len(names) - len(todo):
        yield Note(f"{kept} are restored already")
    outputs.make_folder(config.out)
    with outputs.alone(config.out, wait=False):
        groups = _groups(_tasks(config, names, todo, priors), device)
        for event in engine(config, groups, priors, device, len(todo)):
            if isinstance(event, Solved):
                for number in range(len(event.tasks)):
                    yield from work.finish(event, number)
            elif isinstance(event, Failed):
                yield work.fail(event)
            else:
                yield event
        yield from work.close(names)
    rows = tuple(work.manifest.lines[name] for name in names if name in work.manifest.lines)
    yield Done(Batch(config.out, len(todo) - len(work.failed), kept, tuple(work.failed), rows))


def _check_folders(config: RestoreConfig) -> None:
    if config.out.resolve() == config.image.resolve():
        raise ValueError(f"the results would mix with the pictures in '{config.out}'; choose another --out")
    if config.reference is not None and not config.reference.is_dir():
        raise ValueError(
            f"--reference '{config.reference}'; give a folder whose files have the names of the pictures"
        )


def _tasks(
    config: RestoreConfig, names: list[str], todo: list[str], priors: Priors
) -> Iterator[Task | Failed]:
    """Pictures made ready, one after another, or what is wrong with them."""
    owners: dict[str, str] = {}
    for name in names:
        owners.setdefault(str(Path(name).with_suffix("")), name)
    for name in todo:
        first = owners[str(Path(name).with_suffix(""))]
        try:
            if first != name:
                raise ValueError(f"'{first}' has the same name but for its ending: they would share results")
            if len(os.fsencode(f"{Path(name).stem}_deviation.png")) > outputs.LONGEST:
                raise ValueError("its name is too long for names such as NAME_deviation.png; shorten it")
            if "\ufffd" in os.fsencode(name).decode(errors="replace"):
                raise ValueError("its name is not UTF-8; rename it")
            own: dict[str, Any] = {"image": config.image / name}
            if config.reference is not None:
                own["reference"] = _reference(config.reference, name)
            yield prepare(config.model_copy(update=own), priors)
        except (ValueError, OSError) as error:
            yield Failed(name, str(error))


def _reference(folder: Path, name: str) -> Path:
    """The file of the same name, else of the same name but for its ending."""
    wanted = folder / name
    if wanted.is_file():
        return wanted
    found = sorted(path for path in wanted.parent.glob("*") if path.stem == wanted.stem and path.is_file())
    if not found:
        raise ValueError(f"no reference '{wanted}'; add it, or leave out --reference")
    return found[0]


def _groups(found: Iterable[Task | Failed], device: torch.device) -> Iterator[list[Task] | Failed]:
    """Pictures that can share a batch. On a CPU each is alone unless --batch says otherwise: it is no slower."""
    waiting: list[list[Task]] = []
    for task in found:
        if isinstance(task, Failed):
            yield task
            continue
        alone = device.type == "cpu" and task.config.batch == "auto"
        room = 1 if alone else max(1, together(task, device) // task.config.draws)
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

    def __init__(self, config: RestoreConfig, manifest: Manifest, mark: str):
        self.config, self.manifest, self.mark = config, manifest, mark
        self.failed: list[Failed] = []
        self._sections: list[dict[str, Any]] = []
        self._lpips = network_of_lpips(config)

    def fail(self, failed: Failed) -> Note:
        """Tell it, and go on."""
        self.failed.append(failed)
        line = {"image": failed.name, "status": "failed", "error": failed.error, "settings": self.mark}
        self.manifest.add(line)
        return Note(f"passed over {failed.name}: {failed.error}")

    def finish(self, solved: Solved, number: int) -> Iterator[Event]:
        """Files of one picture of a group, and its line."""
        task, out = solved.tasks[number], self.config.out
        name = task.config.image.relative_to(self.config.image).as_posix()
        try:
            seconds = solved.seconds / len(solved.tasks)
            result = judge(task, solved.draws[number], seconds, solved.trace[number], self._lpips)
            stem = out / Path(name).with_suffix("")
            outputs.make_folder(stem.parent)
            made = [path.relative_to(out).as_posix() for path in save(result, stem, self._kinds)]
        except ValueError as error:
            yield self.fail(Failed(name, str(error)))
            return
        self.manifest.add(entry(result, name, outputs.row(result, name), made, self.mark))
        if len(self._sections) < SHOWN:
            self._sections.append(section(result, name))

    def close(self, names: list[str]) -> Iterator[Event]:
        """The manifest in order, the table and the report."""
        lines = [self.manifest.lines[name] for name in names if name in self.manifest.lines]
        rows = [outputs.as_text(line) for line in lines if line["status"] == "done"]
        yield Saved(self.manifest.tidy())
        yield Saved(outputs.write_table(self.config.out / outputs.TABLE, rows))
        page = self.config.out / outputs.REPORT
        yield Saved(write_folder_report(lines, self._sections, page, self.config))

    @property
    def _kinds(self) -> tuple[str, ...]:
        return self.config.save or AMONG_OTHERS
