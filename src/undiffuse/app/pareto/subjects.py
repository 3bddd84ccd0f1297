"""The priors that are compared: all below a folder, the teacher that their runs name, and others beside them."""

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from undiffuse.app.analyse.subjects import names, visible
from undiffuse.app.events import Event, Note
from undiffuse.app.priors import Opened, announced, open_prior
from undiffuse.app.sizes import any_size, check_shape
from undiffuse.app.train.folder import CONFIG, PRIOR
from undiffuse.checkpoints.formats import is_ours
from undiffuse.checkpoints.native import MadeFor
from undiffuse.config.pareto import ParetoConfig
from undiffuse.config.train import DistilConfig, TrainConfig, read_train

SUFFIX = ".safetensors"
DEEPEST = 32  # stages of a chain: 2^32 steps
SHOWN = 5  # files passed over that are told one by one


@dataclass(frozen=True, slots=True)
class Subject:
    """One prior."""

    label: str  # its own, and short
    opened: Opened
    role: str  # student, teacher or beside

    @property
    def made_for(self) -> MadeFor | None:
        """What it was distilled for."""
        return None if self.opened.config is None else self.opened.config.made_for

    @property
    def own_levels(self) -> tuple[float, ...] | None:
        """The only levels that it may be asked at; None: any."""
        return None if self.made_for is None else self.made_for.sigmas

    def levels(self, asked: Sequence[int]) -> tuple[int, ...]:
        """Numbers of levels that it is asked at: what it was made for, or all that are asked for."""
        return tuple(asked) if self.own_levels is None else (len(self.own_levels),)

    @property
    def parameters(self) -> int:
        """Numbers that were trained."""
        assert self.opened.prior is not None
        return sum(p.numel() for p in self.opened.prior.net.parameters())

    def guidance(self, asked: float) -> float:
        """What it is asked for with: nothing, where guidance is built in."""
        return 1.0 if self.made_for is not None and self.made_for.guidance != 1 else asked


@dataclass(frozen=True, slots=True)
class Subjects:
    """Priors of one kind of picture. The teacher is the first, if there is one."""

    members: tuple[Subject, ...]
    shape: tuple[int, int, int]  # (C, H, W) of what they draw, and restore
    runs: tuple[Path, ...]  # run folders, whose held-out images may be used; the teacher's first


def open_subjects(config: ParetoConfig, out: Path) -> Generator[Event, None, Subjects]:
    """Notes on what is passed over. out: a folder whose files are not looked at. ValueError without any prior."""
    if not config.students.exists():
        raise ValueError(
            f"no students at '{config.students}'; expected the folder that `undiffuse distil` wrote, a run or a file"
        )
    found: list[Subject] = []
    left: list[str] = []
    for place in places(config.students, out):
        try:
            yield from announced(str(place))
            found.append(Subject(_label(place, config.students), _ours(place), "student"))
        except ValueError as error:
            left.append(str(error))
    yield from _told(left)
    teachers = yield from _teachers(config, found)
    beside = [Subject("", _network(open_prior(text)), "beside") for text in config.beside]
    members = _named([*teachers, *found, *beside])
    if not members:
        raise ValueError(
            f"'{config.students}' holds no prior of undiffuse; expected runs, or .safetensors files"
        )
    shape = _shape(members, config)
    runs = tuple(Path(one.opened.name) for one in members if (Path(one.opened.name) / CONFIG).is_file())
    return Subjects((yield from _alike(members, shape)), shape, runs)


def places(top: Path, out: Path) -> Iterator[Path]:
    """Runs' folders and files of weights at or below `top`, by name; links to folders are not followed."""
    if top.is_file():
        yield top
        return
    for folder, inner, files in os.walk(top):
        here = Path(folder)
        inner[:] = sorted(name for name in inner if (here / name).resolve() != out.resolve())
        if PRIOR in files or CONFIG in files:
            yield here  # its other files are the run's own
        else:
            yield from (here / name for name in sorted(files) if name.endswith(SUFFIX))


def _ours(place: Path) -> Opened:
    if place.is_dir() and not (place / PRIOR).is_file():
        raise ValueError(f"the run in '{place}' has no {PRIOR} yet; finish it with --resume")
    if not is_ours(place / PRIOR if place.is_dir() else place):
        raise ValueError(f"'{place}' is not of undiffuse; name it with --with, or convert it first")
    return _network(open_prior(str(place)))


def _network(opened: Opened) -> Opened:
    if opened.prior is None:
        raise ValueError(f"'{opened.name}' is no network: it has neither parameters nor calls to be counted")
    if opened.prior.conditions:
        raise ValueError(f"'{opened.name}' is conditioned on a picture; priors without one are compared")
    return opened


def _told(left: Sequence[str]) -> Iterator[Note]:
    yield from (Note(f"passed over: {reason}") for reason in left[:SHOWN])
    if len(left) > SHOWN:
        yield Note(f"passed over: {len(left) - SHOWN} more")


def _label(place: Path, top: Path) -> str:
    if place == top:
        return visible(place.resolve().name if place.is_dir() else place.stem)
    return visible(str(place.relative_to(top).with_suffix("" if place.is_file() else place.suffix)))


def _teachers(config: ParetoConfig, students: Sequence[Subject]) -> Generator[Event, None, list[Subject]]:
    """Those that learned from nobody: stages of progressive distillation are students."""
    if config.teacher is not None:
        yield from announced(config.teacher)
        return [Subject("", _network(open_prior(config.teacher)), "teacher")]
    found: dict[str, Subject] = {}
    known = {student.opened.sha256: student for student in students}
    for student in students:
        told = _lesson(student)
        if told is None or told.sha256 in found:
            continue
        if (here := known.get(told.sha256)) is not None:
            if _lesson(here) is None:
                found[told.sha256] = replace(here, role="teacher")
            continue
        try:
            opened, learned = _network(open_prior(told.teacher)), told
            for _ in range(DEEPEST):  # of stages that are not among the students the teacher's teacher
                if opened.sha256 != learned.sha256:
                    yield Note(
                        f"the teacher '{learned.teacher}' has changed since {student.label} learned from it"
                    )
                before = _lesson_of(opened.name)
                if before is None:
                    break
                opened, learned = _network(open_prior(before.teacher)), before
        except ValueError as error:
            yield Note(f"the teacher of {student.label} is left out: {error}; give it with --teacher")
            continue
        if learned.sha256 not in found:
            place = Path(opened.name)
            label = visible(place.resolve().parent.name) if place.name == PRIOR else ""
            found[learned.sha256] = Subject(label, opened, "teacher")
    return list(found.values())


def _lesson(student: Subject) -> DistilConfig | None:
    return _lesson_of(student.opened.name)


def _lesson_of(name: str) -> DistilConfig | None:
    """What the run of these weights was told, a folder or the file in it."""
    place = Path(name)
    config = trained(place.parent if place.name == PRIOR else place)
    return None if config is None else config.distil


def trained(folder: Path) -> TrainConfig | None:
    """The configuration of a run's folder; None for anything else, and for one that cannot be read."""
    try:
        return read_train(folder / CONFIG) if (folder / CONFIG).is_file() else None
    except ValueError:
        return None


def _named(members: Sequence[Subject]) -> list[Subject]:
    """Each weights file once, the first of its kind, under a name that no other has."""
    first: dict[str, Subject] = {}
    for one in members:
        first.setdefault(one.opened.mark, one)
    unique = list(first.values())
    short = names([one.opened for one in unique])
    labels = [one.label or name for one, name in zip(unique, short, strict=True)]
    labels = [
        f"{label} (teacher)" if one.role == "teacher" else label
        for one, label in zip(unique, labels, strict=True)
    ]
    numbered = [f"{label} ({i + 1})" if labels.count(label) > 1 else label for i, label in enumerate(labels)]
    return [replace(one, label=label) for one, label in zip(unique, numbered, strict=True)]


def _shape(members: Sequence[Subject], config: ParetoConfig) -> tuple[int, int, int]:
    prior = members[0].opened.prior
    assert prior is not None
    if config.size is not None:
        return prior.channels, config.size, config.size
    if prior.size is None:
        raise ValueError(
            f"the prior '{members[0].opened.name}' has no size of its own; give --size, such as 64"
        )
    return (prior.channels, *prior.size)


def _alike(
    members: Sequence[Subject], shape: tuple[int, int, int]
) -> Generator[Event, None, tuple[Subject, ...]]:
    """Those that can be asked for such pictures. ValueError if none can."""
    kept: list[Subject] = []
    reason = ""
    for one in members:
        try:
            _check(one, shape)
            kept.append(one)
        except ValueError as error:
            reason = f"{one.label}: {error}"
            yield Note(f"passed over: {reason}")
    if not kept:
        raise ValueError(f"no prior can be compared: {reason}")
    return tuple(kept)


def _check(one: Subject, shape: tuple[int, int, int]) -> None:
    prior = one.opened.prior
    assert prior is not None
    wanted = "x".join(map(str, shape[1:]))
    if prior.channels != shape[0]:
        raise ValueError(f"it draws {prior.channels} channels, and the others {shape[0]}")
    if prior.size not in (None, shape[1:]) and not any_size(prior):
        size = "x".join(map(str, prior.size or ()))
        raise ValueError(f"it was made for {size}, and {wanted} is asked for; see --size")
    check_shape(one.opened, shape)
