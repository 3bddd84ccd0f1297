"""`undiffuse analyse sizes`: what students of several sizes give for what they cost."""

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.analysis.cost import Cost, cost
from undiffuse.analysis.ensembles import energy_distance, floor
from undiffuse.analysis.geometry import distance
from undiffuse.analysis.guidance import unrelated
from undiffuse.analysis.sizes import Measured, Sized, law_of, nearest, spread_over, within
from undiffuse.analysis.trajectory import Recorder, Sketch, Trajectories, fitting, together
from undiffuse.app.analyse import sizes_figures
from undiffuse.app.analyse.featured import Features, open_features
from undiffuse.app.analyse.pictures import pictures
from undiffuse.app.analyse.section import Section
from undiffuse.app.analyse.subjects import Subject, Subjects, open_subjects
from undiffuse.app.analyse.trajectory_measures import common
from undiffuse.app.events import Done, Event, Note, Progress
from undiffuse.app.train.folder import CONFIG
from undiffuse.config.analyse.sizes import SizesConfig
from undiffuse.config.train import read_train
from undiffuse.metrics.features import kid

PICTURES = 8


def analyse(config: SizesConfig) -> Iterator[Event]:
    """Notes and progress, and Done(Section). ValueError for bad input, in one line."""
    teacher = config.teacher or named_teacher(config.students)
    texts = (
        [*config.students] if teacher is None else [teacher, *(s for s in config.students if s != teacher)]
    )
    subjects = yield from open_subjects(config, texts)
    notes: list[str] = []
    if teacher is None:
        first = max(subjects.members, key=lambda it: it.parameters)
        members = (first, *(it for it in subjects.members if it is not first))
        subjects = replace(subjects, members=members)
        notes.append(f"no teacher is named, and {first.label} stands for it: the largest; give --teacher RUN")
    if len(subjects.members) < 2:
        raise ValueError("one prior alone has no sizes to compare; give students beside their teacher")
    if not subjects.teacher.parameters:
        raise ValueError(
            f"'{subjects.teacher.opened.name}' is in closed form and has no size; give a network"
        )
    measure = open_features(config, subjects.device)
    held = yield from pictures(_reseeded(subjects), (texts[0],), config.data, config.source)
    reference = measure(held.clean)
    found = yield from _measured(config, subjects, measure, reference)
    found = replace(found, reference=held.told)
    yield Note("drawing the figures")
    yield Done(section(found, notes))


def named_teacher(students: Sequence[str]) -> str | None:
    """Whom the first student's folder names, if that is there."""
    for text in students:
        path = Path(text) / CONFIG
        if not path.is_file():
            continue
        try:
            told = read_train(path).distil
        except ValueError:
            continue
        if told is None:
            continue
        for place in (Path(told.teacher), Path(text) / told.teacher):
            if place.exists():
                return str(place)
        return None if "/" in told.teacher else told.teacher
    return None


def _reseeded(subjects: Subjects) -> Subjects:
    """Other noise: samples that are compared with others must not be begun where those were."""
    members = []
    for subject in subjects.members:
        seed = subjects.config.seed + 1
        config = subject.plan.config.model_copy(update={"seed": seed})
        members.append(replace(subject, plan=replace(subject.plan, config=config)))
    return replace(subjects, members=tuple(members))


def _measured(
    config: SizesConfig, subjects: Subjects, measure: Features, reference: Tensor
) -> Generator[Event, None, Measured]:
    n, total = config.n, len(subjects.members) * config.n
    sketch, _ = fitting(subjects.shape, 2 * n, len(subjects.sigmas) - 1)
    first: Trajectories | None = None
    found: list[Sized] = []
    for number, subject in enumerate(subjects.members):
        drawn, features, shown = yield from _draw(subjects, subject, sketch, measure, (number * n, total))
        first = drawn if first is None else first
        mine, theirs = common(first, drawn)
        apart = distance(first.estimates[mine], drawn.estimates[theirs]) / 2
        found.append(
            Sized(
                label=subject.label,
                share=subject.parameters / subjects.teacher.parameters,
                cost=_cost(subjects, subject, config.repeats),
                calls=_calls(subject),
                sigmas=first.sigmas[mine],
                apart=apart,
                energy=_energy(first.states[-1], drawn.states[-1]),
                features=kid(features, reference),
                pictures=shown,
            )
        )
    assert first is not None
    members = (found[0], *sorted(found[1:], key=lambda it: (it.share, it.label)))
    far = unrelated(first.states[-1], subjects.labels(range(n))) / 2
    return Measured(
        members,
        _energy(*[first.states[-1]] * 2),
        far,
        config.focus,
        _chosen(config, members),
        "",
        config.features,
    )


def _energy(teacher: Tensor, other: Tensor) -> float:
    """Between halves that were begun in other noise, over random splits: of a set with itself that is the floor."""
    return floor(teacher, energy_distance, b=other)[0] / 2 if len(teacher) >= 4 else math.nan


def _chosen(config: SizesConfig, members: Sequence[Sized]) -> tuple[int, ...]:
    """Of the students: the sizes asked for, else three over the focus, else over all."""
    shares = [it.share for it in members[1:]]
    if config.choose:
        return tuple(i + 1 for i in nearest(shares, config.choose))
    seen = within(shares, *config.focus) if config.focus else list(range(len(shares)))
    if not seen:
        low, high = config.focus or (0.0, 0.0)
        known = ", ".join(f"{share:.3g}" for share in shares)
        raise ValueError(f"--focus {low:g}-{high:g} holds none of the sizes {known}; widen it")
    return tuple(seen[i] + 1 for i in spread_over([shares[i] for i in seen]))


def _draw(
    subjects: Subjects, subject: Subject, sketch: Sketch, measure: Features, place: tuple[int, int]
) -> Generator[Event, None, tuple[Trajectories, Tensor, Tensor]]:
    steps = len(subject.sigmas) - 1
    kept = list(range(steps + 1)) if steps < 65 else fitting(subjects.shape, subjects.config.n, steps)[1]
    parts: list[Trajectories] = []
    features: list[Tensor] = []
    shown: list[Tensor] = []
    for members in replace(subjects, members=(subject,)).batches():
        recorder, last = Recorder(sketch, kept), None
        for done, state in enumerate(recorder(subjects.states(subject, members))):
            last = state.x
            yield Progress(
                place[0] + members[0] + done * len(members) // steps, place[1], f"drawing by {subject.label}"
            )
        assert last is not None
        parts.append(recorder.trajectories(subject.label))
        features.append(measure(last))
        shown.append(last[: max(0, PICTURES - members[0])].float().cpu())
    return together(parts), torch.cat(features), torch.cat(shown)


def _calls(subject: Subject) -> int:
    """For a picture: a sampler of two calls a step, such as heun, makes its last one, to 0, with one."""
    each = subject.plan.entry.facts.get("calls", 1)
    return each * (len(subject.sigmas) - 1) - (each - 1)


def _cost(subjects: Subjects, subject: Subject, repeats: int) -> Cost:
    denoise, prior = subjects.denoise(subject, [0]), subject.opened.prior
    return cost(denoise, (1, *subjects.shape), module=None if prior is None else prior.net, repeats=repeats)


def section(found: Measured, notes: list[str]) -> Section:
    """Words, figures and tables."""
    facts = {
        "teacher": found.members[0].label,
        "reference": found.reference,
        "chosen": [found.members[i].label for i in found.chosen],
        "laws": {name: _law(found, name) for name in ("end", "energy")},
    }
    notes = [
        *notes,
        f"features: {found.features} of {len(found.members[0].apart[0])} pictures each, beside {found.reference}",
    ]
    tables = (sizes_figures.table(found), sizes_figures.compared(found))
    figures = sizes_figures.draw(found)
    return Section("sizes", "Sizes and what they give", summary(found), figures, tables, tuple(notes), facts)


def _law(found: Measured, name: str) -> dict[str, float] | None:
    seen = found.focused
    law = law_of(seen, lambda it: getattr(it, name))
    return None if law is None else {"exponent": law.exponent, "factor": law.factor, "error": law.error}


def summary(found: Measured) -> str:
    """What the smallest and the largest of the focus give."""
    seen = found.focused
    ends = [seen[0], seen[-1]] if len(seen) > 1 else seen[:1]
    words = [
        f"{it.label} has {100 * it.share:.3g} % of the teacher's parameters and ends {it.end:.3g} from its pictures"
        + (
            f" ({100 * it.end / found.another:.0f} % of the distance of two pictures)"
            if found.another > 0
            else ""
        )
        for it in ends
    ]
    law = _law(found, "end")
    told = (
        f" Twice the size divides that distance by {2 ** law['exponent']:.2f}."
        if law and len(seen) > 2
        else ""
    )
    return "; ".join(words) + "." + told
