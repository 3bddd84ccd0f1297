"""What a configuration trains: the model with its description, its objective, and how its run sees it."""

from functools import partial
from typing import Any, cast

from torch import nn

from undiffuse.app.priors import Opened, open_prior
from undiffuse.app.train import students
from undiffuse.app.train.pictures import Held
from undiffuse.app.train.targets import ClassifierTarget, DenoiserTarget, Target
from undiffuse.checkpoints import NoisyClassifierConfig, PriorConfig
from undiffuse.config import TrainConfig
from undiffuse.data import Dataset
from undiffuse.priors import DiscreteSchedule, Prior
from undiffuse.training import (
    WEIGHTS,
    Classifying,
    Denoising,
    Hybrid,
    LowRes,
    Objective,
    levels_of,
    lognormal,
)
from undiffuse.training.draws import DrawSigma
from undiffuse.training.objective import edm


def denoiser(
    config: TrainConfig, training: Dataset, held: Held, classes: tuple[str, ...] | None
) -> tuple[Objective, Target]:
    """A prior, what it learns, and what is looked at meanwhile."""
    teacher = None if config.distil is None else students.open_teacher(config)
    description = describe(config, training, classes, teacher)
    prior = description.build()
    _check_size(config, prior.net)
    if config.train.start is not None:
        _start_from(config.train.start, config.train.start_options, prior, description.classes)
    elif teacher is not None:
        students.begin(prior, teacher)
    condition = None
    if description.low_res is not None:
        shape = (training.channels, config.data.size, config.data.size)
        condition = LowRes(description.low_res, shape, augmentation=description.augmentation)
    target = DenoiserTarget(description, held, condition, pictures=config.train.pictures)
    return objective_of(config, prior, description, condition, teacher), target


def _start_from(source: str, options: str | None, prior: Prior, classes: tuple[str, ...] | None) -> None:
    """The weights of a file, a run or a prior of ours, of the same shapes.

    Other classes may be what is wanted; the same ones under other numbers are not.
    """
    try:
        opened = open_prior(source, options)
    except ValueError as error:
        raise ValueError(str(error).replace("--prior-options", "train.start_options")) from None
    found, known = opened.prior, None if opened.config is None else opened.config.classes
    if known and classes and known != classes and set(known) == set(classes):
        raise ValueError(
            f"train.start: '{source}' numbers its classes {', '.join(known)}, and the data {', '.join(classes)}; give "
            "the data in that order"
        )
    if found is None:
        raise ValueError(f"train.start: '{source}' is no network; expected a run, or its weights")
    try:
        prior.net.load_state_dict(found.net.state_dict())
    except RuntimeError as error:
        raise ValueError(f"'{source}' is of another network: {' '.join(str(error).split())[:300]}") from None


def classifier(
    config: TrainConfig, training: Dataset, held: Held, classes: tuple[str, ...] | None
) -> tuple[Objective, Target]:
    """A classifier of noisy images, likewise."""
    conditioning, objective, size = config.conditioning, config.objective, config.data.size
    if conditioning.classes is None or conditioning.low_res is not None or config.train.start is not None:
        raise ValueError(
            "prediction label needs conditioning.classes, and takes neither low_res nor train.start"
        )
    _check_classes(training, conditioning.classes, classes)
    follow = {"in_channels": training.channels, "num_classes": conditioning.classes, "size": size}
    assert objective.schedule is not None
    description = NoisyClassifierConfig(
        network={**config.network, **follow},
        schedule=objective.schedule,
        timesteps=objective.timesteps,
        channels=training.channels,
        size=(size, size),
        num_classes=conditioning.classes,
        classes=classes,
    )
    model = description.build()
    _check_size(config, model.net)
    return Classifying(model, draws(config, description.discrete())), ClassifierTarget(description, held)


def _check_size(config: TrainConfig, net: nn.Module) -> None:
    """Fixed networks halve the picture; `photo` pads it."""
    multiple = 1 if config.network.get("name") == "photo" else cast(Any, net).config.multiple
    if config.data.size % multiple:
        raise ValueError(
            f"data.size: {config.data.size} for a network of {multiple}-pixel blocks; expected a multiple"
        )


def describe(
    config: TrainConfig, training: Dataset, classes: tuple[str, ...] | None, teacher: Opened | None = None
) -> PriorConfig:
    """What the weights will need to be a prior again."""
    if teacher is not None and teacher.config is not None:
        students.check_taught(config, teacher.config, training, config.conditioning.classes)
        if config.conditioning.classes is not None:
            _check_classes(training, config.conditioning.classes, classes)
        students.check_names(config, teacher.config, classes)
        return students.describe_student(config, teacher.config)
    asked, conditioning, objective = config.network, config.conditioning, config.objective
    if asked["name"] != "photo" and objective.prediction == "edm":
        raise ValueError(
            f"network {asked['name']} is told timesteps; expected prediction eps, v or x0, or the network photo"
        )
    count, low_res = conditioning.classes, conditioning.low_res
    if count is not None:
        _check_classes(training, count, classes)
    assert objective.prediction != "label"
    hidden = count is not None and conditioning.dropout > 0
    network = {
        **asked,
        "in_channels": training.channels * (1 if low_res is None else 2) + (low_res is not None),
        "out_channels": training.channels,
        "num_classes": count,
        "null_class": hidden,
        "learned_variance": objective.learned_variance,
    }
    if asked["name"] == "photo":
        network["told"] = "log" if objective.prediction == "edm" else "timestep"
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
        low_res=f"sr{low_res}" if isinstance(low_res, int) else low_res,
        augmentation=conditioning.augmentation,
    )


def _check_classes(training: Dataset, count: int, names: tuple[str, ...] | None) -> None:
    if names is None and training[0].label is None:
        raise ValueError(f"conditioning.classes: {count}, but the data has no labels; leave it out")
    if names is not None and len(names) != count:
        raise ValueError(
            f"conditioning.classes: {count}, but the data has {len(names)}; write classes: {len(names)}"
        )


def objective_of(
    config: TrainConfig,
    prior: Prior,
    description: PriorConfig,
    condition: LowRes | None,
    teacher: Opened | None = None,
) -> Objective:
    """What training lowers."""
    objective = config.objective
    name = objective.weight or objective.prediction
    # EDM's: unit error of the raw network at every level, for this data's deviation.
    weight = partial(edm, data_std=description.sigma_data) if name == "edm" else WEIGHTS[name]
    schedule = None if objective.schedule is None else description.discrete()
    if teacher is not None:
        return students.lesson(config, prior, teacher, weight, draws(config, schedule), condition)
    dropout = config.conditioning.dropout if description.null_class else 0.0
    if objective.learned_variance:
        if objective.log_sigma is not None:
            raise ValueError(
                "learned_variance takes the schedule's own levels; leave objective.log_sigma out"
            )
        return Hybrid(
            prior,
            description.discrete(),
            weight,
            bound_weight=objective.bound_weight,
            label_dropout=dropout,
            condition=condition,
        )
    return Denoising(prior, draws(config, schedule), weight, label_dropout=dropout, condition=condition)


def draws(config: TrainConfig, schedule: DiscreteSchedule | None) -> DrawSigma:
    """The levels trained on: log-normal where that is asked for or there is no schedule, else the schedule's."""
    if config.objective.log_sigma is not None:
        return lognormal(*config.objective.log_sigma)
    return lognormal() if schedule is None else levels_of(schedule)
