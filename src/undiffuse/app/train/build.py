"""From a configuration to what trains: prior, objective, data, optimiser, averages."""

import fnmatch
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from undiffuse import data, networks  # noqa: F401 (fill the registries)
from undiffuse.app.train.targets import DenoiserTarget, Target
from undiffuse.checkpoints import PriorConfig
from undiffuse.checkpoints.native import load_into
from undiffuse.config import TrainConfig, from_term, parse_term
from undiffuse.data import Dataset, Stream, Subset, collate, prepare, split
from undiffuse.priors import Prior
from undiffuse.registry import DATASETS, NETWORKS
from undiffuse.training import EMA, WEIGHTS, Denoising, Objective, PowerEMA, levels_of, lognormal
from undiffuse.training.loop import Recipe, rates
from undiffuse.training.muon import named

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
    training, held_out, classes = images(config)
    torch.manual_seed(run.seed)  # the weights' first values, and dropout
    objective, target = denoiser(config, training, held_out, classes)
    model = objective.model
    averages = [EMA(model, halflife_images=halflife) for halflife in run.ema]
    averages += [PowerEMA(model, std=std) for std in run.power_ema]
    if run.compile:
        model.compile()
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
        stream=Stream(training, transform_of(config), seed=run.seed, workers=config.data.workers),
        notes=training.notes,
    )


def denoiser(
    config: TrainConfig, training: Dataset, held_out: Dataset, classes: tuple[str, ...] | None
) -> tuple[Objective, Target]:
    """A prior, what it learns, and what is looked at meanwhile."""
    description = describe(config, training, classes)
    prior = description.build()
    multiple = 1 if config.network.get("name") == "photo" else cast(Any, prior.net).config.multiple
    if config.data.size % multiple:
        raise ValueError(
            f"data.size: {config.data.size} for a network of {multiple}-pixel blocks; expected a multiple"
        )
    if config.train.start is not None:
        load_into(config.train.start, prior)
    if config.train.channels_last:
        prior.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    checked = collate(
        held_out,
        prepare(config.data.size, crop="centre"),
        range(min(config.train.validate_images, len(held_out))),
        seed=config.train.seed,
    )
    labels = checked.labels if config.conditioning.classes else None
    target = DenoiserTarget(
        description, checked.x, labels, pictures=config.train.pictures, seed=config.train.seed
    )
    return objective_of(config, prior, description), target


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


def describe(config: TrainConfig, training: Dataset, classes: tuple[str, ...] | None) -> PriorConfig:
    """What the weights will need to be a prior again."""
    asked, conditioning, objective = dict(config.network), config.conditioning, config.objective
    if asked.get("name") not in NETWORKS or asked["name"] == "classifier":
        raise ValueError(
            f"network.name: {asked.get('name')}; choose from {', '.join(n for n in NETWORKS if n != 'classifier')}"
        )
    if taken := [key for key in FILLED_IN if key in asked]:
        raise ValueError(
            f"network: {', '.join(taken)} follow from data, conditioning and objective; leave them out"
        )
    count = conditioning.classes
    if count is not None:
        _check_classes(training, count, classes)
    hidden = count is not None and conditioning.dropout > 0 and objective.prediction != "label"
    network = {
        **asked,
        "in_channels": training.channels,
        "out_channels": training.channels,
        "num_classes": count,
        "null_class": hidden,
        "learned_variance": objective.learned_variance,
    }
    if asked.get("name") == "photo":
        network["told"] = "log" if objective.prediction == "edm" else "timestep"
    elif objective.prediction == "edm":
        raise ValueError(
            f"network {asked.get('name')} is told timesteps; expected prediction eps, v or x0, or the network photo"
        )
    assert objective.prediction != "label"
    return PriorConfig(
        network=network,
        prediction=objective.prediction,
        sigma_data=objective.sigma_data,
        schedule=objective.schedule,
        timesteps=objective.timesteps,
        channels=training.channels,
        size=(config.data.size, config.data.size),
        num_classes=count,
        null_class=hidden,
        classes=classes if count else None,
    )


def _check_classes(training: Dataset, count: int, names: tuple[str, ...] | None) -> None:
    found = len(names) if names is not None else None
    if found is None and training[0].label is None:
        raise ValueError(f"conditioning.classes: {count}, but the data has no labels; leave it out")
    if found is not None and found != count:
        raise ValueError(f"conditioning.classes: {count}, but the data has {found}; write classes: {found}")


def objective_of(config: TrainConfig, prior: Prior, description: PriorConfig) -> Objective:
    """What training lowers."""
    objective, conditioning = config.objective, config.conditioning
    if objective.log_sigma is not None:
        draw = lognormal(*objective.log_sigma)
    elif objective.prediction == "edm":
        draw = lognormal()
    else:
        draw = levels_of(description.discrete())
    weight = WEIGHTS[objective.weight or objective.prediction]
    dropout = conditioning.dropout if description.null_class else 0.0
    return Denoising(prior, draw, weight, label_dropout=dropout)
