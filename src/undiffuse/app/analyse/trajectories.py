"""`undiffuse analyse trajectories`: how priors go from the same noise to pictures, and how far apart on the way."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.analysis.trajectory import Recorder, Sketch, Trajectories, fitting, together
from undiffuse.app.analyse import embedding, store, trajectory_figures, trajectory_strip
from undiffuse.app.analyse.section import Attachment, Section
from undiffuse.app.analyse.subjects import Subject, Subjects, open_subjects
from undiffuse.app.analyse.trajectory_measures import Measured, measured
from undiffuse.app.events import Done, Event, Progress
from undiffuse.config.analyse.trajectories import TrajectoriesConfig

STORE, FRAME = "trajectories.safetensors", "frame.safetensors"


@dataclass(frozen=True, slots=True)
class Recorded:
    """Trajectories of all priors, the first one's first, and what they depend on beside the prior."""

    drawing: store.Drawing
    trajectories: tuple[Trajectories, ...]
    strips: tuple[trajectory_strip.Strip, ...]  # of those that were drawn now

    @property
    def sketch(self) -> Sketch:
        """From pictures to what was kept of them."""
        return self.drawing.sketched()


def analyse(config: TrajectoriesConfig) -> Iterator[Event]:
    """Notes and progress, and Done(Section). ValueError for bad input, in one line."""
    embedding.check(config)
    recorded = yield from record(config)
    yield Progress(0, 3, "measuring")
    found = measured(recorded.trajectories, len(recorded.drawing.labels))
    yield Progress(1, 3, "embedding")
    embedded = yield from embedding.embedded(config, recorded.trajectories, recorded.sketch)
    yield Progress(2, 3, "drawing")
    result = section(config, recorded, found, embedded)
    yield Progress(3, 3, "drawing")
    yield Done(result)


def record(config: TrajectoriesConfig) -> Generator[Event, None, Recorded]:
    """The trajectories of all priors, and those that are stored."""
    earlier = None if config.stored is None else store.read_trajectories(config.stored)
    if not config.priors:
        assert earlier is not None  # one of the two is given
        return Recorded(earlier[0], _apart(earlier[1]), ())
    subjects = yield from open_subjects(config, config.priors)
    sketch, _ = fitting(subjects.shape, config.n, len(subjects.sigmas) - 1)
    drawing = drawing_of(config, subjects, sketch)
    if earlier is not None:
        check_alike(config.stored or Path(), earlier, drawing, subjects)
    found, strips = list(earlier[1] if earlier else ()), list[trajectory_strip.Strip]()
    for number, subject in enumerate(subjects.members):
        mine, strip = yield from one(subjects, subject, sketch, number)
        found.append(mine)
        strips.append(strip)
    return Recorded(drawing, _apart(found), tuple(strips))


def one(
    subjects: Subjects, subject: Subject, sketch: Sketch, number: int
) -> Generator[Event, None, tuple[Trajectories, trajectory_strip.Strip]]:
    """The trajectories of one prior, and some of its pictures on their way."""
    n, steps = subjects.config.n, len(subject.sigmas) - 1
    total, before = len(subjects.members) * n, number * n
    _, kept = fitting(subjects.shape, n, steps)
    kept = sorted({*kept, *_matched(subjects, subject, kept)})
    parts: list[Trajectories] = []
    strip = trajectory_strip.Watcher(subject, subjects)
    for members in subjects.batches():
        recorder = Recorder(sketch, kept)
        states = recorder(subjects.states(subject, members))
        for done, state in enumerate(strip(states, members)):
            share = (done * len(state.x)) // steps
            yield Progress(before + members[0] + share, total, f"trajectories of {subject.label}")
        parts.append(recorder.trajectories(subject.label))
    return together(parts), strip.strip()


def _matched(subjects: Subjects, subject: Subject, kept: list[int]) -> list[int]:
    """Levels that others were made for: all of them are kept, to be compared at."""
    own = [other.sigmas for other in subjects.members if len(other.sigmas) < len(subjects.sigmas)]
    if not own or len(subject.sigmas) < len(subjects.sigmas):
        return kept
    return torch.isin(subject.sigmas, torch.cat(own)).nonzero().flatten().tolist()


def drawing_of(config: TrajectoriesConfig, subjects: Subjects, sketch: Sketch) -> store.Drawing:
    """What the trajectories depend on beside the priors."""
    told = {
        "shape": subjects.shape, "n": config.n, "seed": config.seed, "sampler": config.sampler,
        "labels": subjects.teacher.plan.labels, "guidance": config.guidance, "sketch": sketch.k,
        "sketch_seed": sketch.seed,
    }  # fmt: skip
    return store.Drawing.model_validate(told)


def check_alike(
    path: Path, earlier: tuple[store.Drawing, list[Trajectories]], drawing: store.Drawing, subjects: Subjects
) -> None:
    """ValueError if stored trajectories began in other noise, or have no levels in common with those to come."""
    held, found = earlier
    for name in store.Drawing.model_fields:
        mine, theirs = getattr(drawing, name), getattr(held, name)
        if mine != theirs:
            raise ValueError(
                f"'{path}' holds trajectories with {name} {theirs}, and these would have {mine}; give the same"
            )
    levels = subjects.sigmas.float()
    for it in found:
        if torch.isin(it.sigmas.float(), levels).sum() < 2 or it.sigmas[0].float() != levels[0]:
            raise ValueError(
                f"'{path}' holds levels from {it.sigmas[0] / 2:.4g}, and these go from {levels[0] / 2:.4g}; give "
                "the same --steps, and priors that know the same levels"
            )


def _apart(found: list[Trajectories]) -> tuple[Trajectories, ...]:
    """With names that differ."""
    names = [it.label for it in found]
    return tuple(
        replace(it, label=f"{it.label} ({i + 1})") if names.count(it.label) > 1 else it
        for i, it in enumerate(found)
    )


def section(
    config: TrajectoriesConfig, recorded: Recorded, found: Measured, embedded: embedding.Embedded
) -> Section:
    """Tables, figures and words."""
    sketch = recorded.sketch
    notes = list(embedded.notes)
    if not sketch.exact:
        notes.append(
            f"Distances between priors, sets and embeddings are of {sketch.k:,} numbers of each picture, which keep a "
            f"distance to {100 * sketch.error:.1g} %; lengths and angles are of whole pictures."
        )
    attachments = list(embedded.attachments)
    if config.store:
        attachments.append(Attachment(STORE, "all trajectories, for --stored", _writer(recorded)))
    figures = trajectory_strip.figures(recorded.strips)
    figures += trajectory_figures.figures(found) + embedded.figures
    return Section(
        "trajectories",
        "Trajectories from noise to pictures",
        found.summary(),
        figures,
        (trajectory_figures.geometry_table(found), *trajectory_figures.against_table(found)),
        tuple(notes),
        {"drawing": store.record(recorded.drawing), "priors": [it.label for it in recorded.trajectories]},
        tuple(attachments),
    )


def _writer(recorded: Recorded):
    def write(path: Path) -> None:
        store.write_trajectories(path, recorded.drawing, recorded.trajectories)

    return write


def pictures_of(trajectories: Trajectories, sketch: Sketch) -> Tensor:
    """(n, C, H, W): the ends, where whole pictures were kept. ValueError for sketches."""
    if not sketch.exact:
        raise ValueError(f"pictures of {sketch.k} numbers each; expected whole ones: draw them again")
    return trajectories.states[-1].reshape(-1, *sketch.shape)
