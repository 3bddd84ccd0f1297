"""A folder of pictures: grouped, resumable, with a manifest; a bad file is told and passed over."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from undiffuse.app import machine, outputs
from undiffuse.app.events import Done, Event, Note, Saved
from undiffuse.app.measurement import check_terms, operator
from undiffuse.app.presets import read_presets
from undiffuse.app.priors import Opened, announced
from undiffuse.app.restore.answers import Failed, Solved, of_this_picture
from undiffuse.app.restore.engine import engine
from undiffuse.app.restore.files import AMONG_OTHERS, LONGEST, REPORT, save
from undiffuse.app.restore.folder import MANIFEST, SUFFIXES, entry, fingerprint, pictures, settings
from undiffuse.app.restore.manifest import Manifest
from undiffuse.app.restore.report import section, write_folder_report
from undiffuse.app.restore.result import judge
from undiffuse.app.restore.solve import alike, together
from undiffuse.app.restore.table import TABLE, as_text, row, write_table
from undiffuse.app.restore.task import (
    Priors,
    Task,
    asked_for,
    candidates,
    check_prior,
    network_of_lpips,
    open_asked,
    prepare,
)
from undiffuse.config import RestoreConfig
from undiffuse.metrics import LPIPS

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
    check_folders(config)
    names, left = pictures(config.image, config.out)
    device = machine.device(config.device)
    outputs.check_writable(config.out)
    yield from announced(config.prior)
    priors: Priors = {name: open_asked(config, name) for name in candidates(config)}
    lpips = network_of_lpips(config)
    weights = {name: _weights(opened) for name, opened in priors.items()}
    mark = settings(config, weights, lpips and lpips.mark)
    for opened in priors.values():
        check_prior(config, opened)
    yield from (
        Note(note) for opened in priors.values() for note in opened.notes_to_restore(*asked_for(config))
    )
    yield Note("; ".join((f"{len(names)} pictures in '{config.image}'", *left)))
    outputs.make_folder(config.out)
    with outputs.alone(config.out, wait=False):
        work = _Work(config, Manifest(config.out), mark, lpips)
        owners = _owners(names)
        references = _References(config.reference)
        todo = [n for n in names if n in owners or not _done(work.manifest, config, n, mark, references)]
        if kept := len(names) - len(todo):
            yield Note(f"{kept} are restored already")
        groups = _groups(_tasks(config, owners, todo, references, priors, work.seen), device)
        for event in engine(config, groups, priors, device, len(todo)):
            if isinstance(event, Solved):
                for number in range(len(event.tasks)):
                    yield from work.finish(event, number)
            elif isinstance(event, Failed):
                yield work.fail(event)
            else:
                yield event
        yield from work.close(names)
    yield Done(Batch(config.out, work.done, kept, tuple(work.failed), work.manifest.of(names)))


def _weights(opened: Opened) -> str | None:
    """What decides its answers beside its name; None for a prior without a file."""
    return opened.mark if opened.sha256 is not None or opened.asked_for else None


def check_folders(config: RestoreConfig) -> None:
    """ValueError for settings that no picture can have, and for folders that would mix or be overwritten."""
    check_terms(config)
    if config.preset is not None:
        read_presets(config.preset)
    for name in (TABLE, REPORT):
        if (config.out / name).exists() and not (config.out / MANIFEST).exists():
            raise ValueError(f"'{config.out}' holds a {name} that is of no folder; choose another --out")
    if config.out.resolve() == config.image.resolve():
        raise ValueError(f"the results would mix with the pictures in '{config.out}'; choose another --out")
    if config.reference is not None and not config.reference.is_dir():
        raise ValueError(
            f"--reference '{config.reference}'; give a folder whose files have the names of the pictures"
        )


def _owners(names: list[str]) -> dict[str, str]:
    """For pictures that have no results of their own the one that has: the first that differs in its ending only."""
    first: dict[str, str] = {}
    found = ((name, first.setdefault(os.path.splitext(name)[0], name)) for name in names)
    return {name: owner for name, owner in found if owner != name}


def _tasks(
    config: RestoreConfig,
    owners: dict[str, str],
    todo: list[str],
    references: "_References",
    priors: Priors,
    seen: dict[str, dict[str, Any]],
) -> Iterator[Task | Failed]:
    """Pictures made ready, one after another, or what is wrong with them. `seen`: filled with what was read."""
    make = lru_cache(maxsize=BUILT)(operator)
    for name in todo:
        try:
            if name in owners:
                raise ValueError(
                    f"'{owners[name]}' has the same name but for its ending: they would share results"
                )
            if len(os.fsencode(f"{Path(name).stem}_deviation.png")) > LONGEST:
                raise ValueError("its name is too long for names such as NAME_deviation.png; shorten it")
            own = {"image": config.image / name, "reference": references.of(name)}
            read = {"input": config.image / name, "reference": own["reference"]}
            seen[name] = {what: fingerprint(path) for what, path in read.items() if path is not None}
            yield prepare(config.model_copy(update=own), priors, make)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            if not of_this_picture(error):
                raise
            yield Failed(name, str(error))


def _done(manifest: Manifest, config: RestoreConfig, name: str, mark: str, references: "_References") -> bool:
    """Whether a picture needs no work; one without its reference is told of again."""
    try:
        return manifest.done(config.image, name, mark, references.of(name))
    except ValueError:
        return False


class _References:
    """Clean pictures of the same names, or of the same names but for their endings."""

    def __init__(self, folder: Path | None):
        self._folder = folder
        self._known: dict[Path, dict[str, list[Path]]] = {}  # of each folder by name without ending

    def of(self, name: str) -> Path | None:
        """The reference of a picture; None if there are none at all, ValueError if it has none, or two."""
        if self._folder is None:
            return None
        wanted = self._folder / name
        if wanted.is_file():
            return wanted
        found = self._of_folder(wanted.parent).get(wanted.stem, [])
        if len(found) == 1:
            return found[0]
        what = "no reference" if not found else f"{len(found)} references for"
        raise ValueError(f"{what} '{wanted}'; expected one, or leave out --reference")

    def _of_folder(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._known:
            known = self._known.setdefault(folder, {})
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    known.setdefault(path.stem, []).append(path)
        return self._known[folder]


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

    def __init__(self, config: RestoreConfig, manifest: Manifest, mark: str, lpips: LPIPS | None):
        self.config, self.manifest, self.mark = config, manifest, mark
        self.failed: list[Failed] = []
        self.seen: dict[str, dict[str, Any]] = {}
        self.done = 0
        self._sections: list[dict[str, Any]] = []
        self._lpips = lpips

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
            result = judge(task, solved.draws[number], seconds, solved.trace[number], self._lpips)
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

    def close(self, names: list[str]) -> Iterator[Event]:
        """The manifest in order, the table and the report."""
        yield Saved(self.manifest.tidy())
        lines = self.manifest.of(names)
        rows = (as_text(line) for line in lines if line["status"] == "done")
        yield Saved(write_table(self.config.out / TABLE, rows))
        page = self.config.out / REPORT
        yield Saved(write_folder_report(lines, self._sections, page, self.config))

    @property
    def _kinds(self) -> tuple[str, ...]:
        return self.config.save or AMONG_OTHERS
