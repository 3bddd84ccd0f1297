"""Measure what is missing, find the fronts, and write them down."""

import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from undiffuse.app import machine, outputs
from undiffuse.app.analyse import report
from undiffuse.app.analyse.draw import check_drawing
from undiffuse.app.bench.measurements import Measurements
from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.pareto.cost import here, network_cost
from undiffuse.app.pareto.data import HELD, SAMPLES, Data, open_data
from undiffuse.app.pareto.drawing import Drawing, drawing
from undiffuse.app.pareto.points import Measure, Point, with_fronts
from undiffuse.app.pareto.restoring import Restoring
from undiffuse.app.pareto.store import FILE, Answer, Question, Store, known
from undiffuse.app.pareto.subjects import Subject, Subjects, open_subjects
from undiffuse.app.pareto.table import sections
from undiffuse.app.sample.preset import read_presets
from undiffuse.config import from_term, options, parse_term
from undiffuse.config.pareto import SAMPLE, ParetoConfig
from undiffuse.config.said import command_line
from undiffuse.metrics import LPIPS, open_lpips
from undiffuse.operators import build
from undiffuse.registry import RESTORERS, SAMPLERS

PLACE = Path("out/pareto")  # of results, unless --out says where
COLUMNS = {"kid": "KID", "fid": "FID", "psnr": "PSNR, dB", "lpips": "LPIPS"}
OTHERS = {"kid": "kernel distance", "fid": "Frechet distance"}  # of features other than Inception's
HIGHER = ("psnr",)
MEASURED = ("n", "calls", "seconds", "cpu")  # numbers of an answer
BEFORE = {"measurements", "evaluate"} | {part + name for part in ("", "part_") for name in (HELD, SAMPLES)}
# Files that a run leaves which is stopped before its first answer.


@dataclass(frozen=True, slots=True)
class Compared:
    """What came out."""

    folder: Path
    points: tuple[Point, ...]
    summary: str
    notes: tuple[str, ...]
    measured: int  # questions of this run
    kept: int  # those answered before


def run(config: ParetoConfig) -> Iterator[Event]:
    """Notes, progress and a `Compared`; ValueError for bad input, before anything is measured.

    The same command again goes on where it was stopped; other tasks, calls and priors are added to what was
    measured. The report is of what this command asks for.
    """
    check_drawing()
    name = config.students.resolve().stem if config.students.is_file() else config.students.resolve().name
    out = config.out or _place(config.students, name or "students")
    _check(config, out)
    subjects = yield from open_subjects(config, out)
    for task in config.tasks:
        if task != SAMPLE:
            build(task, subjects.shape)  # refuses unknown names and options
    lpips = _lpips(config, subjects)
    outputs.make_folder(out)
    with outputs.alone(out, wait=False):
        data = yield from open_data(config, subjects, out)
        job = _Job(
            config, subjects, data, machine.device(config.device), Store(out), Measurements(out), lpips
        )
        yield Note(f"{len(subjects.members)} priors: {', '.join(one.label for one in subjects.members)}")
        points, notes, counts = yield from job.points()
        if not points:
            raise ValueError(f"nothing could be measured: {notes[0] if notes else 'no task fits a prior'}")
        yield Progress(0, 1, "drawing")
        found = sections(config, points, data, notes, name)
        for path in report.write(
            out, found, command_line(config, "undiffuse", "pareto"), _settings(config.students)
        ):
            yield Saved(path)
    yield Done(Compared(out, tuple(points), found[0].summary, found[0].notes, *counts))


def _check(config: ParetoConfig, out: Path) -> None:
    outputs.check_writable(out)
    held = {path.name for path in out.iterdir()} if out.is_dir() else set[str]()
    if not held <= BEFORE and FILE not in held and _record(out).get("analysis") != "pareto":
        raise ValueError(f"'{out}' holds other files; choose another folder with --out")
    if config.presets is not None:
        read_presets(config.presets)
    for term, table in ((config.sampler, SAMPLERS), (config.algorithm, RESTORERS)):
        name, first, given = parse_term(term)
        if "steps" in options(table[name].factory).model_fields and first is None:
            given.setdefault("steps", str(max(config.calls)))  # its own for each number of calls
        from_term(table[name], first, given)


def _lpips(config: ParetoConfig, subjects: Subjects) -> LPIPS | None:
    if config.lpips is None:
        return None
    found = open_lpips(None if config.lpips == "auto" else config.lpips)
    if min(subjects.shape[1:]) < found.least:
        size = "x".join(map(str, subjects.shape[1:]))
        raise ValueError(f"--lpips needs {found.least} pixels a side, and pictures are {size}; leave it out")
    return found


def _settings(students: Path) -> dict[str, Any]:
    """What a report is known by."""
    return {"analysis": "pareto", "students": str(students.resolve())}


def _place(students: Path, name: str) -> Path:
    """PLACE/NAME, NAME-2, ... whichever holds no report of other students of that name."""
    out, number, mine = PLACE / name, 1, _settings(students)["students"]
    while _record(out).get("students", mine) != mine:  # earlier versions did not say whose
        number += 1
        out = PLACE / f"{name}-{number}"
    return out


def _record(out: Path) -> dict[str, Any]:
    """What the report that lies there is known by; nothing without one."""
    try:
        return dict(json.loads((out / report.RECORD).read_bytes())["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@dataclass(frozen=True, slots=True)
class _Job:
    config: ParetoConfig
    subjects: Subjects
    data: Data
    device: torch.device
    store: Store
    measurements: Measurements
    lpips: LPIPS | None

    def points(self) -> Generator[Event, None, tuple[list[Point], list[str], tuple[int, int]]]:
        """All points with their fronts, why some are missing, and how many were measured and kept."""
        found: list[Point] = []
        missing: dict[str, None] = {}
        kept = asked = 0
        for name in self.config.tasks:
            for subject in self.subjects.members:
                subject.opened.to(self.device)
                for levels in subject.levels(self.config.calls):
                    try:
                        task = self._task(name, subject, levels)
                        question = task.question()
                    except ValueError as error:
                        told = f"{name}: {subject.label} is left out: {error}"
                        yield from () if told in missing else (Note(told),)
                        missing[told] = None
                        continue
                    label = f"{name}: {subject.label}, {levels} levels"
                    held = self._known(question)
                    answer = held or (yield from self._measured(task, question, label))
                    kept, asked = kept + (held is not None), asked + (held is None)
                    found += self._points(name, subject, levels, task, answer)
        if kept:
            yield Note(f"{kept} of {kept + asked} were measured before")
        order = {name: i for i, name in enumerate(COLUMNS)}
        found.sort(
            key=lambda point: (self.config.tasks.index(point.measure.task), order[point.measure.metric])
        )
        return with_fronts(found), list(missing), (asked, kept)

    def _task(self, name: str, subject: Subject, levels: int) -> "Drawing | Restoring":
        if name == SAMPLE:
            assert self.data.reference is not None
            size = "x".join(map(str, self.subjects.shape[1:]))
            return drawing(subject, self.config, levels, self.data.reference, size)
        task = Restoring(
            subject,
            self.config,
            name,
            levels,
            self.data.clean,
            self.measurements,
            self.lpips and self.lpips.to(self.device),
        )
        task.check()
        return task

    def _asked(self, question: Question) -> Question:
        return {**question, **here(self.device)}

    def _known(self, question: Question) -> Answer | None:
        """What was measured before; None, too, for a line that no run wrote."""
        held = self.store.get(self._asked(question))
        return held if known(held, MEASURED) else None

    def _measured(
        self, task: "Drawing | Restoring", question: Question, label: str
    ) -> Generator[Event, None, Answer]:
        answer = yield from task.measured(self.device, label)
        self.store.add(self._asked(question), answer)
        return self.store.get(self._asked(question)) or {}

    def _spent(self, task: "Drawing | Restoring", subject: Subject) -> Answer:
        """FLOP and memory, which depend on the network and the pictures' size alone."""
        question = {"task": "one call", "prior": subject.opened.mark, "shape": list(self.subjects.shape)}
        question = self._asked({**question, "guided": task.guidance != 1})
        if not known(found := self.store.get(question) or {}, ("flop", "memory")):
            asked, plain = task.denoisers(self.device)
            prior = subject.opened.prior
            assert prior is not None
            guided = task.guidance != 1
            found = network_cost(plain, asked, prior, self.subjects.shape, guided=guided)
            self.store.add(question, found)
        return found

    def _points(
        self, name: str, subject: Subject, levels: int, task: "Drawing | Restoring", answer: Answer
    ) -> Iterator[Point]:
        spent = self._spent(task, subject)
        for measure in self._measures(name):
            value, low, high = answer["values"].get(measure.metric) or (None, None, None)
            yield Point(
                measure, subject.label, subject.role, str(task), levels, task.guidance, answer["n"],
                *(float("nan") if one is None else one for one in (value, low, high)),
                calls=answer["calls"], parameters=subject.parameters, flop_of_call=spent["flop"],
                seconds=answer["seconds"], cpu=answer["cpu"], memory=spent["memory"],
                each=tuple(answer.get("each", {}).get(measure.metric, ())) if value is not None else (),
            )  # fmt: skip

    def _measures(self, name: str) -> Sequence[Measure]:
        reference = self.data.reference
        if name != SAMPLE:
            metrics = ("psnr",) if self.lpips is None else ("psnr", "lpips")
        else:
            metrics = () if reference is None else reference.metrics
        published = reference is None or reference.comparable
        titles = COLUMNS if published else COLUMNS | OTHERS
        return [Measure(name, metric, titles[metric], metric in HIGHER) for metric in metrics]
