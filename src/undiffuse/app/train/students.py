"""What a student is, and what it learns: the training of `undiffuse distil`."""

import math
from typing import Any

import torch

from undiffuse.app.priors import Opened, open_prior
from undiffuse.checkpoints import PriorConfig
from undiffuse.checkpoints.native import MadeFor
from undiffuse.config import TrainConfig, from_term, parse_term
from undiffuse.config.train import PracticeConfig
from undiffuse.data import Dataset
from undiffuse.distil import Consistency, Guided, Progressive, Stages
from undiffuse.distil.matching import Matching
from undiffuse.distil.restoring import Practice, Restoring
from undiffuse.distil.stages import LAST
from undiffuse.distil.students import inherit
from undiffuse.operators import build
from undiffuse.priors import Prior
from undiffuse.registry import RESTORERS
from undiffuse.training import LowRes, Objective
from undiffuse.training.draws import DrawSigma
from undiffuse.training.objective import Weight


def open_teacher(config: TrainConfig) -> Opened:
    """The teacher. ValueError unless it is the network, to the bit, that the run was planned with."""
    assert config.distil is not None
    opened = open_prior(config.distil.teacher)
    if opened.prior is None or opened.config is None:
        raise ValueError(
            f"'{config.distil.teacher}' is no network; students learn from a run, or its weights"
        )
    if opened.sha256 != config.distil.sha256:
        raise ValueError(
            f"the teacher '{config.distil.teacher}' has changed: its sha256 is {str(opened.sha256)[:12]}, expected "
            f"{config.distil.sha256[:12]}; bring the old one back, or begin in another folder with --out"
        )
    return opened


def check_taught(config: TrainConfig, teacher: PriorConfig, data: Dataset, classes: int | None) -> None:
    """ValueError, with the reason, for a teacher of other pictures than those of the run."""
    name, size = f"the teacher '{config.distil and config.distil.teacher}'", config.data.size
    if teacher.channels != data.channels:
        raise ValueError(
            f"{name} takes {teacher.channels} channels, the data has {data.channels}; choose others"
        )
    free = teacher.network.get("name") == "photo" and teacher.num_classes is None
    if teacher.size is not None and teacher.size != (size, size) and not free:
        height, width = teacher.size
        raise ValueError(f"{name} was made for {height}x{width} pixels, data.size is {size}; make them equal")
    if teacher.num_classes != classes:
        raise ValueError(
            f"{name} has {teacher.num_classes or 'no'} classes, conditioning.classes is {classes or 'not given'}; "
            "make them equal"
        )
    told, asked = config.objective, (teacher.schedule, teacher.timesteps)
    if (teacher.prediction == "edm") != (told.prediction == "edm"):
        raise ValueError(
            f"{name} predicts {teacher.prediction}, the student {told.prediction}; edm learns from edm"
        )
    if told.schedule is not None and (told.schedule, told.timesteps) != asked:
        raise ValueError(
            f"{name} knows the levels of {teacher.timesteps} {teacher.schedule} steps, objective asks for "
            f"{told.timesteps} {told.schedule}; make them equal"
        )
    if teacher.prediction == "edm" and told.sigma_data != teacher.sigma_data:
        raise ValueError(
            f"{name} was made for data of deviation {teacher.sigma_data:g}, objective.sigma_data is "
            f"{told.sigma_data:g}; make them equal"
        )
    if told.learned_variance:
        raise ValueError("objective.learned_variance, and students predict no variance; leave it out")
    _check_low_res(name, config, teacher)
    highest = teacher.around(torch.nn.Identity()).sigma_range[1]
    levels = (config.distil.sigmas if config.distil else None) or (highest,)
    if levels[0] > highest * (1 + 1e-6):
        raise ValueError(f"{name} knows noise up to sigma {highest:.4g}, the steps begin at {levels[0]:.4g}")
    if told.log_sigma is not None and math.exp(min(told.log_sigma[0] + 2 * told.log_sigma[1], 700)) > highest:
        raise ValueError(
            f"{name} knows noise up to sigma {highest:.4g}; objective.log_sigma={list(told.log_sigma)} draws more than "
            "a fiftieth of its levels beyond: lower it"
        )


def check_names(config: TrainConfig, teacher: PriorConfig, names: tuple[str, ...] | None) -> None:
    """ValueError for classes that the teacher knows under other numbers; all names may be others."""
    known = teacher.classes
    if config.conditioning.classes and known and names and known != names and set(known) & set(names):
        raise ValueError(
            f"the teacher '{config.distil and config.distil.teacher}' numbers its classes {', '.join(known)}, and the "
            f"data {', '.join(names)}; give data of the same classes"
        )


def _check_low_res(name: str, config: TrainConfig, teacher: PriorConfig) -> None:
    """ValueError unless the run makes the pictures that the teacher is conditioned on."""
    asked, noise = config.conditioning.low_res, config.conditioning.augmentation
    asked = f"sr{asked}" if isinstance(asked, int) else asked
    if (teacher.low_res, teacher.augmentation) != (asked, noise):
        raise ValueError(
            f"{name} is conditioned on {teacher.low_res or 'no picture'} with noise up to {teacher.augmentation:g}, "
            f"conditioning.low_res is {asked or 'not given'} with {noise:g}; make them equal"
        )
    if teacher.low_res is not None and teacher.low_res_as != "pinv":
        raise ValueError(
            f"{name} is shown its picture enlarged by {teacher.low_res_as}, and training enlarges by pinv; "
            "choose another"
        )


def describe_student(config: TrainConfig, teacher: PriorConfig) -> PriorConfig:
    """The teacher's description, with the student's network and what it is made for."""
    distil = config.distil
    assert distil is not None and config.objective.prediction != "label"
    follow: dict[str, Any] = {**teacher.follows(), "learned_variance": False}
    if config.network["name"] == "photo":
        follow["told"] = teacher.network_config().told
    return teacher.model_copy(
        update={
            "network": {**config.network, **follow},
            "prediction": config.objective.prediction,
            "made_for": _made_for(config, _built_in(config, teacher)),
        }
    )


def _built_in(config: TrainConfig, teacher: PriorConfig) -> float:
    """The guidance that is in the student's answers: asked of the teacher, or already in the teacher's own."""
    assert config.distil is not None
    if teacher.made_for is not None and config.distil.guidance == 1:
        return teacher.made_for.guidance
    return config.distil.guidance


def _made_for(config: TrainConfig, guidance: float) -> MadeFor | None:
    distil = config.distil
    assert distil is not None
    if distil.method == "restore":
        assert distil.practice is not None
        return MadeFor(guidance=guidance, algorithm=distil.practice.algorithm, calls=distil.practice.calls)
    if distil.method == "match":
        return None if guidance == 1 else MadeFor(guidance=guidance)
    assert distil.sigmas is not None
    progressive = distil.method == "progressive"
    return MadeFor(
        sampler="ddim" if progressive else "consistency",
        sigmas=distil.sigmas[::2] if progressive else distil.sigmas,
        guidance=guidance,
    )


def begin(student: Prior, teacher: Opened) -> None:
    """The student's first weights: the teacher's, as far as they fit."""
    assert teacher.prior is not None
    inherit(student.net, teacher.prior.net)


def lesson(
    config: TrainConfig,
    student: Prior,
    teacher: Opened,
    weight: Weight,
    draw_sigma: DrawSigma,
    condition: LowRes | None,
) -> Objective:
    """What training lowers."""
    distil, prior = config.distil, teacher.prior
    assert distil is not None and prior is not None and teacher.config is not None
    plain = prior.null_class and _built_in(config, teacher.config) == 1
    taught = prior if distil.guidance == 1 else Guided(prior, distil.guidance)
    told: dict[str, Any] = {
        "label_dropout": config.conditioning.dropout if plain else 0.0,
        "condition": condition,
    }
    if distil.method == "match":
        return Matching(
            student, taught, draw_sigma, weight, truth=distil.truth, features=distil.features, **told
        )
    if distil.method == "restore":
        assert distil.practice is not None
        shape = teacher.config.channels, config.data.size, config.data.size
        return Restoring(student, taught, draw_sigma, weight, practised(distil.practice, shape))
    if distil.method == "progressive":
        assert distil.sigmas is not None
        sigmas = torch.tensor([*distil.sigmas, 0.0], dtype=torch.float64)
        return Progressive(student, taught, sigmas, weight, **told)
    images = max(
        1, config.train.steps * config.train.batch // (LAST + 1)
    )  # as many stages as the authors' run
    own = None if config.objective.weight is None else weight
    return Consistency(student, None if distil.tuning else taught, draw_sigma, Stages(images), own, **told)


def practised(config: PracticeConfig, shape: tuple[int, int, int]) -> Practice:
    """Its degradations of pictures (C, H, W), and its algorithm. ValueError for names and options not known."""
    name, first, given = parse_term(config.algorithm)
    entry = RESTORERS[name]
    operators = tuple(build(task, shape).float() for task in config.tasks)
    return Practice(operators, 2 * config.noise, entry, from_term(entry, first, given), config.calls)
