"""From a configuration to what trains: prior, objective, data, optimiser, averages."""

import fnmatch
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from undiffuse import data, networks  # noqa: F401 (fill the registries)
from undiffuse.app.series import evenly
from undiffuse.app.train.models import classifier, denoiser
from undiffuse.app.train.pictures import Held
from undiffuse.app.train.targets import Target
from undiffuse.config import TrainConfig, from_term, parse_term
from undiffuse.data import Dataset, Stream, Subset, collate, prepare, split
from undiffuse.data.stream import Skips
from undiffuse.registry import DATASETS, NETWORKS
from undiffuse.training import (
    EMA,
    Objective,
    PowerEMA,
)
from undiffuse.training.loop import Recipe, rates
from undiffuse.training.muon import named

SHOWN = 10  # classes that are named
FILLED_IN = ("in_channels", "out_channels", "num_classes", "null_class", "learned_variance", "told", "size")


@dataclass(frozen=True)
class Pieces:
    """All that a run is made of, on the CPU."""

    objective: Objective
    target: Target
    optimizer: torch.optim.Optimizer
    averages: tuple[EMA, ...]
    recipe: Recipe
    stream: Stream
    notes: tuple[str, ...]
    data: str  # what is the same for a run that goes on

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.objective.model.parameters())

    @contextmanager
    def weights(self, number: int) -> Iterator[nn.Module]:
        """The model with the weights of an average, or its own if there is none, not training meanwhile."""
        model = self.averages[number].module if self.averages else self.objective.model
        was = model.training
        model.eval()
        try:
            yield model
        finally:
            model.train(was)


def build(config: TrainConfig) -> Pieces:
    """ValueError, before anything is written, for whatever does not go together."""
    run, optimizer = config.train, config.optimizer
    _check_network(config)
    training, held_out, classes = images(config)
    torch.manual_seed(run.seed)  # the weights' first values, and dropout
    make = classifier if config.objective.prediction == "label" else denoiser
    count = len(training) + len(held_out)
    left_out = Skips(count, quiet=True)
    held = _held(config, held_out, left_out)
    objective, target = make(config, training, held, classes)
    model = objective.model
    if run.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averages = [EMA(model, halflife_images=halflife) for halflife in run.ema]
    averages += [PowerEMA(model, std=std) for std in run.power_ema]
    if run.compile:
        # Not the model: a learned variance is asked for by another of its methods.
        cast(Any, model).net.compile()
    rate = rates(warmup=optimizer.warmup * run.batch, decay=optimizer.decay, images=run.steps * run.batch)
    return Pieces(
        objective=objective,
        target=target,
        optimizer=named(
            optimizer.name,
            model,
            rate=optimizer.rate,
            betas=optimizer.betas,
            weight_decay=optimizer.weight_decay,
        ),
        averages=tuple(averages),
        recipe=Recipe(
            batch=run.batch,
            part=run.part,
            seed=run.seed,
            rate=rate,
            clip=optimizer.clip,
            skip_limit=run.skip_limit,
        ),
        stream=Stream(
            training,
            transform_of(config),
            seed=run.seed,
            workers=config.data.workers,
            skips=Skips(count, quiet=True),
        ),
        notes=(*training.notes, *([f"to validate: {left_out.summary()}"] if left_out else [])),
        data=_mark(training, held_out, classes),
    )


def _mark(training: Subset, held_out: Subset, classes: tuple[str, ...] | None) -> str:
    """What a run that goes on must find again: how many, of which classes, and who is on which side."""
    sides = ("to train on", training), ("to validate", held_out)
    told = [",".join(map(str, side.indices)) for _, side in sides] + list(classes or ())
    counts = ", ".join(f"{len(side)} {name}" for name, side in sides)
    names = "no classes" if classes is None else f"{len(classes)} classes: {', '.join(classes[:SHOWN])}"
    return f"{counts}, {names}; {hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]}"


def _held(config: TrainConfig, held_out: Subset, left_out: Skips) -> Held:
    # Not the first ones: of a folder of classes these are all of one.
    chosen = evenly(len(held_out), config.train.validate_images)
    d = config.data
    crop = "random" if d.crop == "textured" else d.crop  # of the size that training sees; the same each time
    plain = prepare(d.size, window=d.window, shorter=d.shorter, crop=crop)
    batch = collate(held_out, plain, chosen, seed=config.train.seed, skips=left_out)
    return Held(batch.x, batch.labels if config.conditioning.classes else None, config.train.seed)


def images(config: TrainConfig) -> tuple[Subset, Subset, tuple[str, ...] | None]:
    """Training and validation sets, and the names of the classes."""
    source, first, given = parse_term(config.data.source)
    entry = DATASETS[source]
    whole: Dataset = entry(config.data.path, **from_term(entry, first, given))
    if config.data.exclude:
        names = [whole.name(i) for i in range(len(whole))]
        kept = [i for i, name in enumerate(names) if not _excluded(name, config.data.exclude)]
        note = f"{len(names) - len(kept)} left out by {' '.join(config.data.exclude)}"
        whole = Subset(whole, kept, (*whole.notes, note))
    training, held_out = split(whole, share=config.data.validation, by=config.data.split_by)
    return training, held_out, whole.classes


def _excluded(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def transform_of(config: TrainConfig) -> Callable[..., Tensor]:
    """How stored images become training images."""
    d = config.data
    return prepare(
        d.size,
        window=d.window,
        shorter=d.shorter,
        crop=d.crop,
        tries=d.tries,
        flip=d.flip,
        dequantise=d.dequantise,
    )


def _check_network(config: TrainConfig) -> None:
    asked, classifies = config.network, config.objective.prediction == "label"
    fit = sorted(name for name in NETWORKS if (name == "classifier") == classifies)
    if asked.get("name") not in fit:
        raise ValueError(
            f"network.name: {asked.get('name')} for prediction {config.objective.prediction}; "
            f"choose from {', '.join(fit)}"
        )
    if taken := [key for key in FILLED_IN if key in asked]:
        raise ValueError(
            f"network: {', '.join(taken)} follow from data, conditioning and objective; leave them out"
        )
