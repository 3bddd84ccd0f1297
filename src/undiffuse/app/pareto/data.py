"""What priors are measured on: pictures that samples are compared with, and pictures that are restored."""

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic
import torch
from torch import Tensor

from undiffuse.app import outputs
from undiffuse.app.bench.pictures import Picture, open_pictures
from undiffuse.app.evaluate.networks import network_file
from undiffuse.app.evaluate.run import check
from undiffuse.app.evaluate.sources import Source, digest_of, open_source
from undiffuse.app.events import Event, Note, Progress
from undiffuse.app.pareto.subjects import Subjects, trained
from undiffuse.app.series import evenly
from undiffuse.app.train.build import images
from undiffuse.config import explain
from undiffuse.config.evaluate import EvaluateConfig
from undiffuse.config.pareto import SAMPLE, Metric, ParetoConfig
from undiffuse.config.train import TrainConfig
from undiffuse.core.images import to_bytes
from undiffuse.data import Dataset, Unusable, prepare
from undiffuse.data.encoded import as_channels
from undiffuse.data.transforms import item_generator

HELD, SAMPLES = "reference.npz", "samples.npz"
LEAST = 3  # that a kernel distance takes
MOST = 10_000  # held-out pictures that samples are compared with: as many as FID wants
COMPONENTS, SIDE = 64, 8  # of features without a network: principal ones of 16x16 areas, or plain areas


@dataclass(frozen=True, slots=True)
class Reference:
    """What samples are compared with, and by which features."""

    config: EvaluateConfig  # of samples that lie at config.samples
    metrics: tuple[Metric, ...]
    digest: str  # of the pictures and of the features' network
    told: str
    comparable: bool  # with published numbers


@dataclass(frozen=True, slots=True)
class Clean:
    """A picture to be restored, and its class, if that is known."""

    picture: Picture
    label: int | None


@dataclass(frozen=True, slots=True)
class Data:
    """None, or no pictures: no task asks for them."""

    reference: Reference | None
    clean: tuple[Clean, ...]
    told: str  # where these are from


class Held:
    """What the first run of these held out, if it is there, read when it is asked for."""

    def __init__(self, subjects: Subjects):
        self.subjects = subjects
        self._found: tuple[Dataset, TrainConfig, str] | None = None
        self._looked = False

    def open(self) -> Generator[Event, None, tuple[Dataset, TrainConfig, str] | None]:
        """The images, the configuration and the name of the run."""
        if self._looked:
            return self._found
        self._looked, tried = True, set[str]()
        for run in self.subjects.runs:
            config = trained(run)
            if config is None or self.subjects.shape[1:] != (config.data.size, config.data.size):
                continue
            told = json.dumps(config.data.model_dump(mode="json"), sort_keys=True)
            if told in tried:
                continue
            tried.add(told)
            yield Note(f"splitting '{config.data.path}' as '{run}' did, for the images that it held out")
            try:
                self._found = images(config)[1], config, str(run)
                return self._found
            except ValueError as error:
                yield Note(f"the images that '{run}' held out are not there: {error}")
        return None

    def pictures(self, count: int) -> Generator[Event, None, list[tuple[str, Tensor, int | None]] | None]:
        """Names, (C, H, W) in [-1, 1] and classes of `count` of them, evenly; None if there are none."""
        found = yield from self.open()
        if found is None:
            return None
        dataset, config, _ = found
        d = config.data
        crop = "none" if d.crop == "none" else "centre"
        transform = prepare(d.size, window=d.window, shorter=d.shorter, crop=crop)
        kept: list[tuple[str, Tensor, int | None]] = []
        for done, i in enumerate(chosen := evenly(len(dataset), count)):
            try:
                item = dataset[i]
                image = as_channels(item.image, self.subjects.shape[0], dataset.name(i))
                kept.append((dataset.name(i), transform(image, item_generator(0, 0, i)), item.label))
            except Unusable:
                continue
            yield Progress(done, len(chosen), "reading pictures")
        return kept


def open_data(config: ParetoConfig, subjects: Subjects, out: Path) -> Generator[Event, None, Data]:
    """ValueError for data that is not there, or does not fit. Held-out images are written to `out`, as an .npz."""
    held, reference = Held(subjects), None
    if SAMPLE in config.tasks:
        reference = yield from _reference(config, held, out)
    if set(config.tasks) <= {SAMPLE}:
        return Data(reference, (), "")
    clean, told = yield from _clean(config, subjects, held)
    return Data(reference, clean, told)


def _reference(config: ParetoConfig, held: Held, out: Path) -> Generator[Event, None, Reference]:
    path, told = config.reference, f"'{config.reference}'"
    if path is None:
        found = yield from held.pictures(MOST)
        if not found:
            raise ValueError(
                f"nothing to compare samples with; give pictures with --reference, or --tasks without {SAMPLE}"
            )
        path = save(out / HELD, [x for _, x, _ in found])
        told = f"{len(found)} images that a run held out"
    source = open_source(path)
    if source.pictures is not None and len(source.pictures) < LEAST:
        count = f"{len(source.pictures)} pictures to compare samples with"
        raise ValueError(f"{told}: {count}; expected {LEAST} or more, give others with --reference")
    asked = _features(config, path, source, out)
    check(asked, source)
    file = network_file(asked)
    comparable = asked.features == "inception"
    if not comparable:
        yield Note(
            f"features: {asked.features}, no network of the literature: distances compare with nothing published"
        )
    told += f", by {asked.features}"
    mark = [_digest(source), asked.features, asked.resize]
    if file is not None:
        with file.open("rb") as weights:
            mark.append(hashlib.file_digest(weights, "sha256").hexdigest())
    metrics = asked.metrics or ()
    return Reference(
        asked, tuple(m for m in metrics if m in ("fid", "kid")), " ".join(mark), told, comparable
    )


def save(path: Path, pictures: Sequence[Tensor]) -> Path:
    """Pictures (C, H, W) in [-1, 1] as an .npz of bytes, whole or not at all."""
    outputs.make_folder(path.parent)
    part = path.with_name(f"part_{path.name}")
    np.savez(part, arr_0=np.stack([to_bytes(x) for x in pictures]))
    part.replace(path)
    return path


def _features(config: ParetoConfig, path: Path, source: Source, out: Path) -> EvaluateConfig:
    whole = source.pictures is not None
    metrics = config.metrics or (("kid", "fid") if whole else ("fid",))
    given = {
        "samples": out / SAMPLES, "reference": path, "metrics": metrics, "weights": config.weights,
        "out": out / "evaluate", "device": config.device,
    }  # fmt: skip
    try:
        if config.features != "auto":
            return EvaluateConfig(features=config.features, **given)
        asked = EvaluateConfig(features="inception", **given)
        try:
            network_file(asked)
            return asked
        except ValueError:
            if config.weights is not None or source.pictures is None:
                raise
        enough = len(source.pictures) > COMPONENTS
        plain = f"pca:{COMPONENTS}" if enough else f"pixels:{SIDE}"
        return EvaluateConfig(features=plain, **given)
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, "pareto", EvaluateConfig)) from None


def _digest(source: Source) -> str:
    if source.pictures is not None:
        return digest_of([source.pictures.digest(i) for i in range(len(source.pictures))])
    with source.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _clean(
    config: ParetoConfig, subjects: Subjects, held: Held
) -> Generator[Event, None, tuple[tuple[Clean, ...], str]]:
    channels, height, width = subjects.shape
    if config.data:
        if height != width:
            raise ValueError(f"--data with pictures of {height}x{width}; expected square ones, give --size")
        pictures, notes = open_pictures(config.data, config.count, height, channels)
        yield from (Note(note) for note in notes)
        return tuple(Clean(picture, None) for picture in pictures), f"{len(pictures)} pictures of --data"
    found = yield from held.pictures(config.count)
    if not found:
        raise ValueError("no pictures to restore; give a folder of them with --data")
    kept = tuple(Clean(_picture(name, x), label) for name, x, label in _unique(found))
    return kept, f"{len(kept)} images that a run held out"


def _unique(found: list[tuple[str, Tensor, int | None]]) -> Iterator[tuple[str, Tensor, int | None]]:
    """Without exact copies: one measurement for each picture."""
    seen: set[bytes] = set()
    for name, x, label in found:
        content = x.contiguous().numpy().tobytes()
        if content not in seen:
            seen.add(content)
            yield name, x, label


def _picture(name: str, x: Tensor) -> Picture:
    pixels = x[None].to(torch.float32).contiguous()
    told = f"{tuple(pixels.shape)}".encode() + pixels.numpy().tobytes()
    return Picture(name, hashlib.sha256(told).hexdigest(), pixels)
