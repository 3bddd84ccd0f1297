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
from undiffuse.app.restore.engine import Solved, local
from undiffuse.app.restore.files import AMONG_OTHERS, save
from undiffuse.app.restore.folder import Manifest, entry, pictures, settings
from undiffuse.app.restore.report import section, write_folder_report
from undiffuse.app.restore.result import judge
from undiffuse.app.restore.solve import alike, together
from undiffuse.app.restore.task import AUTO, Priors, Task, prepare
from undiffuse.config import RestoreConfig

SHOWN = 12  # pictures in the report
HELD = 64  # pictures read and waiting for others like them

Failed = tuple[str, str]  # the picture's name and what is wrong with it


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
    if config.out.resolve() == config.image.resolve():
        raise ValueError(f"the results would mix with the pictures in '{config.out}'; choose another --out")
    if config.reference is not None and not config.reference.is_dir():
        raise ValueError(
            f"--reference '{config.reference}'; give a folder whose files have the pictures' names"
        )
    names, notes = pictures(config.image, config.out)
    device = machine.device(config.device)
    outputs.check_writable(config.out)
    priors: Priors = {
        name: open_prior(name) for name in (AUTO if config.prior == "auto" else (config.prior,))
    }
    mark = settings(config, {name: opened.sha256 for name, opened in priors.items()})
    manifest = Manifest(config.out)
    todo = [name for name in names if not manifest.done(config.image, name, mark)]
    yield Note(f"{len(names)} pictures in '{config.image}'" + "".join(f", {note}" for note in notes))
    if kept := len(names) - len(todo):
        yield Note(f"{kept} are restored already")
    outputs.make_folder(config.out)
    with outputs.alone(config.out, wait=False):
        failed: list[Failed] = []
        sections: list[dict[str, Any]] = []
        for event in local(_groups(_tasks(config, names, todo, priors), device), device, len(todo)):
            if isinstance(event, Solved):
                for number, task in enumerate(event.tasks):
                    yield from _finish(config, task, event, number, manifest, mark, sections, failed)
            elif isinstance(event, tuple):
                failed.append(event)
                manifest.add({"image": event[0], "status": "failed", "error": event[1], "settings": mark})
                yield Note(f"passed over {event[0]}: {event[1]}")
            else:
                yield event
        yield from _close(config, manifest, names, sections)
    rows = tuple(manifest.lines[name] for name in names if name in manifest.lines)
    yield Done(Batch(config.out, len(todo) - len(failed), kept, tuple(failed), rows))


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
                raise ValueError(
                    f"'{first}' has the same name but for its ending, and so the same results; rename it"
                )
            if len(os.fsencode(f"{Path(name).stem}_deviation.png")) > outputs.LONGEST:
                raise ValueError("its name is too long for names such as NAME_deviation.png; shorten it")
            own: dict[str, Any] = {"image": config.image / name}
            if config.reference is not None:
                own["reference"] = _reference(config.reference, name)
            yield prepare(config.model_copy(update=own), priors)
        except (ValueError, OSError) as error:
            yield name, str(error)


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
        if isinstance(task, tuple):
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


def _finish(
    config: RestoreConfig,
    task: Task,
    solved: Solved,
    number: int,
    manifest: Manifest,
    mark: str,
    sections: list[dict[str, Any]],
    failed: list[Failed],
) -> Iterator[Event]:
    """Files of one picture, and its line."""
    name = task.config.image.relative_to(config.image).as_posix()
    try:
        result = judge(task, solved.draws[number], solved.seconds / len(solved.tasks), solved.trace[number])
        stem = config.out / Path(name).with_suffix("")
        outputs.make_folder(stem.parent)
        made = [
            path.relative_to(config.out).as_posix()
            for path in save(result, stem, config.save or AMONG_OTHERS)
        ]
    except ValueError as error:
        failed.append((name, str(error)))
        manifest.add({"image": name, "status": "failed", "error": str(error), "settings": mark})
        yield Note(f"passed over {name}: {error}")
        return
    manifest.add(entry(result, name, outputs.row(result, name), made, mark))
    if len(sections) < SHOWN:
        sections.append(section(result, name))


def _close(
    config: RestoreConfig, manifest: Manifest, names: list[str], sections: list[dict[str, Any]]
) -> Iterator[Event]:
    lines = [manifest.lines[name] for name in names if name in manifest.lines]
    done = [line for line in lines if line["status"] == "done"]
    yield Saved(manifest.tidy())
    yield Saved(outputs.write_table(config.out / outputs.TABLE, [outputs.as_text(line) for line in done]))
    yield Saved(write_folder_report(lines, sections, config.out / outputs.REPORT, config))
