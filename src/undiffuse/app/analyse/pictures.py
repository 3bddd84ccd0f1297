"""Clean pictures that priors are asked about: given ones, those that a run held out, or else the prior's own."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from undiffuse import data  # noqa: F401 (fills the registry)
from undiffuse.app.analyse.subjects import Subject, Subjects
from undiffuse.app.events import Event, Note, Progress
from undiffuse.app.train.build import images
from undiffuse.app.train.folder import CONFIG
from undiffuse.config import from_term, parse_term
from undiffuse.config.train import TrainConfig, read_train
from undiffuse.core.loop import last
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.data import Dataset, Subset, Unusable, prepare
from undiffuse.data.encoded import as_channels
from undiffuse.data.transforms import Transform, item_generator
from undiffuse.registry import DATASETS


@dataclass(frozen=True, slots=True)
class Pictures:
    """In an order that the seed decides."""

    clean: Tensor  # (n, C, H, W) float32 in [-1, 1], on the CPU
    labels: tuple[int | None, ...]  # the class that each is asked about with
    names: tuple[str, ...]  # what its noise is made from
    told: str  # where they are from, in words
    unseen: bool  # by the first prior; its own samples are not

    def noise(self, seed: int, members: list[int]) -> Tensor:
        """N(0, I), the same for all priors, levels and batches; by name, so that the order is no matter."""
        noise = SeededNoise(image_seeds(seed, [f"noise/{self.names[i]}" for i in members]))
        return noise(self.clean[members])

    def asked(self, subject: Subject) -> Subject:
        """The same prior, asked about each picture with its class."""
        return replace(subject, plan=replace(subject.plan, labels=self.labels))


def pictures(
    subjects: Subjects, runs: tuple[str, ...], path: str | None, source: str | None
) -> Generator[Event, None, Pictures]:
    """config.n pictures, or as many as there are. ValueError, in one line, for data that does not fit the priors.

    path: given pictures, read by `source`. None: the validation images of the first run whose folder names a set that
    is there; else samples of the first prior.
    """
    if path is not None:
        dataset, transform = _given(subjects, path, source or "folder")
        told = f"'{path}'" + (f" ({source})" if source else "")
        return (yield from _chosen(subjects, dataset, transform, told))
    for text in runs:
        config = _trained(text)
        if config is None or (reason := _other(subjects, config)):
            if config is not None:
                yield Note(f"the images that '{text}' held out are not used: {reason}")
            continue
        yield Note(f"splitting '{config.data.path}' as '{text}' did, for the images that it held out")
        try:
            _, held, _ = images(config)
        except ValueError as error:
            yield Note(f"the images that '{text}' held out are not there: {error}")
            continue
        found = yield from _chosen(
            subjects, held, _transform(subjects, config), f"images that '{text}' held out"
        )
        if others := [other for other in runs if other != text and _split(other) != _split(text)]:
            yield Note(f"{', '.join(others)}: no telling whether these images were trained on there")
        return found
    return (yield from _own(subjects))


def _trained(text: str) -> TrainConfig | None:
    """The configuration of a run's folder; None for anything else, and for one that cannot be read."""
    place = Path(text) / CONFIG
    if not place.is_file():
        return None
    try:
        return read_train(place)
    except ValueError:
        return None


def _split(text: str) -> tuple[object, ...] | None:
    """What decides which images a run held out."""
    config = _trained(text)
    d = None if config is None else config.data
    return None if d is None else (d.source, Path(d.path).resolve(), d.exclude, d.validation, d.split_by)


def _other(subjects: Subjects, config: TrainConfig) -> str:
    """Why a run's images are not the ones to ask about."""
    size = "x".join(map(str, subjects.shape[1:]))
    if subjects.shape[1:] != (config.data.size, config.data.size):
        return f"they are {config.data.size}x{config.data.size}, and the priors are asked about {size}; use --data"
    return ""


def _transform(subjects: Subjects, config: TrainConfig) -> Transform:
    d = config.data
    crop = "none" if d.crop == "none" else "centre"
    return prepare(d.size, window=d.window, shorter=d.shorter, crop=crop)


def _given(subjects: Subjects, path: str, source: str) -> tuple[Dataset, Transform]:
    channels, height, width = subjects.shape
    if height != width:
        raise ValueError(f"--data with pictures of {height}x{width}; expected square ones, give --size")
    name, first, given = parse_term(source)
    entry = DATASETS[name]
    chosen = from_term(entry, first, given)
    if "channels" in chosen and "channels" not in given and channels in (1, 3):
        chosen["channels"] = channels
    return entry(path, **chosen), prepare(height)


def _chosen(
    subjects: Subjects, dataset: Dataset, transform: Transform, told: str
) -> Generator[Event, None, Pictures]:
    """As many as asked for, at random; with --label those of the classes, if the data knows them."""
    config, plan = subjects.config, subjects.teacher.plan
    wanted = None if config.label is None or None in plan.labels else set(plan.labels)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(config.seed)).tolist()
    clean: list[Tensor] = []
    labels: list[int | None] = []
    names: list[str] = []
    for i in order:
        try:
            item = dataset[i]
            if wanted is not None and item.label is not None and item.label not in wanted:
                continue
            image = as_channels(item.image, subjects.shape[0], dataset.name(i))
            clean.append(transform(image, item_generator(config.seed, 0, i)))
        except Unusable:
            continue
        labels.append(item.label)
        names.append(dataset.name(i))
        if len(names) == config.n:
            break
        yield Progress(len(names), config.n, "reading pictures")
    if len(names) < 2:
        raise ValueError(
            f"{told}: {len(names)} pictures to ask about; expected 2 or more, give others with --data"
        )
    if len(names) < config.n:
        yield Note(f"{told}: {len(names)} pictures, {config.n} were asked for")
    yield from (Note(note) for note in (dataset.notes if isinstance(dataset, Subset) else ()))
    return Pictures(torch.stack(clean), _labels(subjects, labels, told), tuple(names), told, True)


def _labels(subjects: Subjects, found: list[int | None], told: str) -> tuple[int | None, ...]:
    """The class each is asked with. ValueError where the prior needs one and nothing says which."""
    plan, opened = subjects.teacher.plan, subjects.teacher.opened
    count = opened.num_classes
    if count is None or (subjects.config.label is not None and None in plan.labels):
        return (None,) * len(found)
    if subjects.config.label is not None and None in found:
        return tuple(plan.label(i) for i in range(len(found)))
    if None in found:
        if opened.prior is not None and opened.prior.null_class:
            return (None,) * len(found)
        raise ValueError(
            f"the prior '{opened.name}' has classes and {told} has none; give --label, or a --source with labels, such "
            "as folder:classes=true"
        )
    if (highest := max(label or 0 for label in found)) >= count:
        raise ValueError(
            f"{told} has a class {highest} and the prior '{opened.name}' classes 0 to {count - 1}; give --label"
        )
    return tuple(found)


def _own(subjects: Subjects) -> Generator[Event, None, Pictures]:
    """Samples of the first prior, from the noise that `undiffuse sample` begins in; exact where it can draw them."""
    teacher, n = subjects.teacher, subjects.config.n
    names = tuple(f"sample/{i}" for i in range(n))
    exact = getattr(teacher.opened.denoise, "sample", None)
    clean: list[Tensor] = []
    with torch.no_grad():
        for part in subjects.batches():
            yield Progress(part[0], n, "drawing pictures")
            if exact is not None:
                clean.append(exact(teacher.plan.noise(part), torch.empty(len(part), *subjects.shape)))
            else:
                clean.append(last(subjects.states(teacher, part)).x.cpu())
    how = "" if exact is not None else f" ({subjects.config.sampler}, {subjects.config.steps} steps)"
    told = f"samples of '{teacher.opened.name}' itself{how}"
    labels = tuple(subjects.labels(range(n)))
    return Pictures(torch.cat(clean).float(), labels, names, told, False)
