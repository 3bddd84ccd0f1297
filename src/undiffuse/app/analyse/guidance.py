"""`undiffuse analyse guidance`: the same noise at several scales of guidance."""

import math
from collections.abc import Generator, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from undiffuse.analysis.embedding import Frame, pca
from undiffuse.analysis.geometry import rms
from undiffuse.analysis.guidance import Drawn, Field, Guided, Saturations, accuracy, diversity
from undiffuse.analysis.trajectory import Recorder, Sketch, Trajectories, fitting, together
from undiffuse.app.analyse import guidance_figures
from undiffuse.app.analyse.judged import Judge, check_labels, open_judge
from undiffuse.app.analyse.section import Section
from undiffuse.app.analyse.subjects import Subject, Subjects, open_subjects
from undiffuse.app.events import Done, Event, Note, Progress
from undiffuse.app.priors import check_guidance
from undiffuse.app.sample.guided import Guidance
from undiffuse.config.analyse.guidance import GuidanceConfig
from undiffuse.core.state import State

PICTURES = 8  # of the grid
FIELDS = (4.0, 1.0, 0.25)  # noise levels of the field of pushes, white - black = 1
AXES, FITTED, LOW = 2, 2048, 0.5


def analyse(config: GuidanceConfig) -> Iterator[Event]:
    """Notes and progress, and Done(Section). ValueError for a prior that cannot be guided, in one line."""
    texts = [config.run] + ([] if config.against is None else [config.against])
    subjects = yield from open_subjects(config, texts)
    teacher, scales = subjects.teacher, sorted({1.0, *config.scales})
    if teacher.opened.num_classes is None and scales != [1.0]:
        raise ValueError(
            f"the prior '{teacher.opened.name}' has no classes, and guidance is towards one; choose one that has"
        )
    for scale in scales:
        check_guidance(teacher.opened, next((c for c in teacher.plan.labels if c is not None), None), scale)
    judge = None
    if config.classifier is not None:
        check_labels(teacher.plan.labels)
        judge = open_judge(config, subjects.device, subjects.shape[0], teacher.opened.num_classes or 0)
    sketch, _ = fitting(subjects.shape, config.n * 2 * len(scales), len(subjects.sigmas) - 1)
    notes = [] if judge else ["no class accuracy: give --classifier FILE, a classifier of such pictures"]
    asked = [(teacher, scale) for scale in scales]
    if config.against is not None:
        student = subjects.members[1]
        known = scales if can_be_guided(student) else [1.0]
        if known != scales:
            notes.append(f"{student.label} was trained without class dropout and is drawn at scale 1 alone")
        asked += [(student, scale) for scale in known]
    drawn: list[Drawn] = []
    fields: list[Field] = []
    for number, (subject, scale) in enumerate(asked):
        found = yield from _draw(
            subjects, at_scale(subject, scale), scale, sketch, judge, (number, len(asked))
        )
        drawn.append(found)
        if subject is teacher and scale == 1 and can_be_guided(teacher):
            fields = yield from _fields(subjects, sketch)
    yield Note("drawing the figures")
    mine, others = tuple(drawn[: len(scales)]), tuple(drawn[len(scales) :])
    unguided = next(one for one in mine if one.scale == 1)
    frame = fitted(unguided.trajectories.estimates)
    label = subjects.members[1].label if others else None
    labels = tuple(subjects.labels(range(config.n)))
    yield Done(section(Guided(teacher.label, mine, tuple(fields), frame, labels, label, others), notes))


def at_scale(subject: Subject, scale: float) -> Subject:
    """The same prior, guided."""
    config = subject.plan.config.model_copy(update={"guidance": scale})
    return replace(subject, plan=replace(subject.plan, guidance=Guidance(scale), config=config))


def can_be_guided(subject: Subject) -> bool:
    """Whether it knows pictures without a class beside those of its classes."""
    prior = subject.opened.prior
    return prior is not None and prior.null_class and any(label is not None for label in subject.plan.labels)


def _draw(
    subjects: Subjects,
    subject: Subject,
    scale: float,
    sketch: Sketch,
    judge: Judge | None,
    place: tuple[int, int],
) -> Generator[Event, None, Drawn]:
    n, steps = subjects.config.n, len(subject.sigmas) - 1
    alone = replace(subjects, members=(subject,))
    _, kept = fitting(subjects.shape, n, steps)
    parts: list[Trajectories] = []
    shown: list[Tensor] = []
    scores: list[Tensor] = []
    colours = Saturations()
    for members in alone.batches():
        recorder, last = Recorder(sketch, kept), None
        for done, state in enumerate(recorder(subjects.states(subject, members))):
            last = state
            before = place[0] * n + members[0] + done * len(members) // steps
            yield Progress(before, place[1] * n, f"{subject.label} at scale {scale:g}")
        assert last is not None
        parts.append(recorder.trajectories(subject.label))
        colours(last.x)
        shown.append(last.x[: max(0, PICTURES - members[0])].float().cpu())
        scores += [] if judge is None else [judge(last.x)]
    found = together(parts)
    labels = subjects.labels(range(n))
    varied = diversity(found.states[-1], labels) / 2
    seen = None if judge is None else accuracy(scores, labels)
    return Drawn(scale, found, torch.cat(shown), colours.saturation(), varied, seen)


def _fields(subjects: Subjects, sketch: Sketch) -> Generator[Event, None, list[Field]]:
    """The push of guidance at a few levels of the unguided trajectories: D_2 - D_1 = D(class) - D(no class)."""
    teacher = at_scale(subjects.teacher, 2.0)
    plain = at_scale(subjects.teacher, 1.0)
    wanted = chosen_levels(subjects.teacher.sigmas)
    found: dict[int, list[tuple[Tensor, Tensor]]] = {number: [] for number in wanted}
    for members in replace(subjects, members=(teacher,)).batches():
        both = subjects.denoise(teacher, members), subjects.denoise(plain, members)
        for number, state in enumerate(subjects.states(plain, members)):
            if number in wanted:
                found[number].append(_push(state, both[0], both[1], sketch))
            yield Progress(members[0], subjects.config.n, "where guidance pushes")
    return [
        Field(subjects.teacher.sigmas[number].item(), *(torch.cat(part) for part in zip(*pairs, strict=True)))
        for number, pairs in found.items()
    ]


def _push(state: State, guided, plain, sketch: Sketch) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        unguided = plain(state.x, state.sigma)
        push = guided(state.x, state.sigma) - unguided
    return sketch(unguided).float().cpu().clone(), sketch(push).float().cpu().clone()


def chosen_levels(sigmas: Tensor) -> list[int]:
    """Numbers of the levels nearest to those of FIELDS, in order."""
    logs = sigmas[:-1].log()
    return sorted({int((logs - math.log(2 * level)).abs().argmin()) for level in FIELDS})


def fitted(estimates: Tensor) -> Frame:
    """The PCA of (T, n, k), of evenly chosen levels where that is much."""
    every = max(1, -(-estimates.shape[0] * estimates.shape[1] // FITTED))
    return pca(estimates[::every].flatten(0, 1), AXES)


def section(found: Guided, notes: list[str]) -> Section:
    """Words, figures and the table."""
    shown = found.frame.seen(torch.cat([one.trajectories.states[-1] for one in found.drawn]))
    share = 100 * found.frame.explained.sum().item()
    told = f"the frame shows {share:.0f} % of the variance at scale 1, and {100 * shown:.0f} % of that of all ends"
    notes.append(
        told + ("" if shown >= LOW else ": points that are close in it may be far apart; rely on distances")
    )
    sketch = found.unguided.trajectories
    figures = guidance_figures.draw(found)
    facts = {
        "scales": [one.scale for one in found.drawn],
        "levels": len(sketch.levels) - 1,
        "push": {
            f"{field.sigma / 2:.4g}": rms(field.push.double()).mean().item() / 2 for field in found.fields
        },
    }
    if found.student is None:
        notes.append("no student: give --against RUN for the sixth figure")
    if not found.fields:
        notes.append("no field of pushes: the prior knows no pictures without a class")
    table = guidance_figures.numbers(found)
    return Section(
        "guidance", f"Guidance of {found.name}", summary(found), figures, (table,), tuple(notes), facts
    )


def summary(found: Guided) -> str:
    """What the highest scale does beside 1."""
    one, most = found.unguided, found.drawn[-1]
    before, after = (100 * it.saturation.beyond for it in (one, most))
    if most.scale == 1:
        return f"{found.name} at scale 1 alone: {before:.2g} % of the pixels are beyond white and black."
    words = f"From scale 1 to {most.scale:g} the pixels beyond white and black go from {before:.2g} % to {after:.2g} %"
    if one.diversity > 0:
        words += f", and the diversity within a class to {100 * most.diversity / one.diversity:.0f} %"
    if one.accuracy is not None and most.accuracy is not None:
        words += f"; the class is seen in {100 * one.accuracy:.0f} % and {100 * most.accuracy:.0f} % of the pictures"
    return words + "."
