"""One picture made ready: its measurement, and the algorithm that is to restore it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from undiffuse.app.kinds import kind_of
from undiffuse.app.measurement import Build, Measurement, open_measurement, operator
from undiffuse.app.methods import Method, plan_method
from undiffuse.app.presets import preset_for, read_presets
from undiffuse.app.priors import (
    Opened,
    check_guidance,
    check_unconditioned,
    denoiser,
    guided_by,
    label_of,
    open_prior,
)
from undiffuse.app.sizes import in_windows
from undiffuse.config import RestoreConfig, from_term, parse_term
from undiffuse.core.noise import image_seed
from undiffuse.core.state import Denoise
from undiffuse.metrics import LPIPS, open_lpips
from undiffuse.operators.base import LinearOperator, Separable, SVDOperator
from undiffuse.operators.jpeg import Jpeg
from undiffuse.priors import StationaryGaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem
from undiffuse.restore.dpir import levels_of_loss

NETWORK, QUICK, CLOSED = "photo", "photo-fast", "photo-gaussian"  # what the prior `auto` may be
Priors = dict[str, Opened]  # those a run has opened, by the name they were asked for


@dataclass(frozen=True, slots=True)
class Task:
    """A picture to restore."""

    config: RestoreConfig  # with the picture, its reference and its prior filled in
    opened: Opened
    label: int | None
    measurement: Measurement
    method: Method

    @property
    def name(self) -> str:
        """What results are called, and what the noise is seeded by."""
        return self.config.image.stem

    @property
    def problem(self) -> Problem:
        """What is measured."""
        return self.measurement.problem

    def seed(self, draw: int) -> int:
        """Of one draw: depends on the run's seed and the file's name, on no folder, order or batch."""
        return image_seed(self.config.seed, self.name, draw)

    def denoiser(self) -> Denoise:
        """The prior as this picture needs it: of its class, in windows."""
        return self._windows()[0]

    def asked(self) -> str:
        """The prior and the algorithm, in words."""
        windows = self._windows()[1]
        asked = f"{self.opened.asked(self.label, self.config.guidance)}, {self.method}"
        return f"{asked}; {windows}" if windows else asked

    def _windows(self) -> tuple[Denoise, str | None]:
        plain = denoiser(self.opened, self.label, self.config.guidance)
        return in_windows(self.opened, plain, self.problem.A.in_shape, self.config.window)


def prepare(config: RestoreConfig, priors: Priors, make: Build = operator) -> Task:
    """Read the picture and decide how to restore it. ValueError in one line for whatever is wrong."""
    measurement = open_measurement(config, make)
    config = measurement.config
    shape = measurement.problem.A.in_shape
    name = _chosen_prior(config, measurement.problem, priors)
    opened = _known(config, name, priors)
    precision = "fp32" if config.prior == "auto" and name == CLOSED else config.precision  # as `open_asked`
    config = config.model_copy(update={"prior": name, "precision": precision})
    label = check_prior(config, opened)
    in_windows(opened, denoiser(opened), shape, config.window)  # refuses what the prior cannot take
    return Task(config, opened, label, measurement, choose(config, measurement.problem, opened))


def candidates(config: RestoreConfig) -> tuple[str, ...]:
    """The priors that its pictures may get, by name."""
    if config.prior != "auto":
        return (config.prior,)
    asked = (config.preset, config.steps, config.eta, config.eta_b, config.label, config.classifier)
    one = config.goal == "psnr" and config.draws == 1
    plain = one and config.algorithm == "auto" and all(value is None for value in asked)
    return (NETWORK, QUICK, CLOSED) if plain else (NETWORK, CLOSED)


def _chosen_prior(config: RestoreConfig, problem: Problem, priors: Priors) -> str:
    """A closed form for pictures that have not 3 channels; the network of few calls where it is as good; the other."""
    if config.prior != "auto":
        return config.prior
    if problem.A.in_shape[0] != 3:
        return CLOSED
    if QUICK in candidates(config):
        preset = preset_for(_known(config, QUICK, priors), problem, config.goal)
        if preset is not None and preset.stands_in(NETWORK, problem):
            return QUICK
    return NETWORK


def _known(config: RestoreConfig, name: str, priors: Priors) -> Opened:
    return priors.get(name) or priors.setdefault(name, open_asked(config, name))


def open_asked(config: RestoreConfig, name: str) -> Opened:
    """The prior of that name, as the settings want it. Of those of `auto` only the networks have a precision."""
    closed = config.prior == "auto" and name == CLOSED
    opened = open_prior(name, config.prior_options, "fp32" if closed else config.precision)
    return guided_by(opened, config.classifier, config.classifier_scale)


def check_prior(config: RestoreConfig, opened: Opened) -> int | None:
    """The class that is asked for. ValueError for what this prior cannot be asked, whatever the picture."""
    label = None if config.label is None else label_of(opened, config.label)
    check_guidance(opened, label, config.guidance)
    check_unconditioned(opened)
    return label


def choose(config: RestoreConfig, problem: Problem, opened: Opened) -> Method:
    """The algorithm as asked for, or a choice by goal, prior and degradation; built once, so that it can refuse."""
    chosen = Choice(config.algorithm, config.steps or 20)
    if config.algorithm == "auto":
        chosen = _chosen(config, problem, opened)
    name, first, given = parse_term(chosen.algorithm)
    own = {option: getattr(config, option) for option in ("eta", "eta_b")}
    for option, value in own.items():
        if value is not None and config.algorithm != "auto" and option in given:
            raise ValueError(
                f"--{option.replace('_', '-')} {value:g} beside {option}={given[option]} of --algorithm; leave one of "
                "them out"
            )
    given |= {option: str(value) for option, value in own.items() if value is not None}
    entry, grid = RESTORERS[name], chosen.grid
    if name == "dpir" and grid is None and isinstance(problem.A, Jpeg):
        grid = levels_of_loss(chosen.steps, problem.A.loss(problem.y))[:-1].tolist()
    options, guided = from_term(entry, first, given), config.guidance != 1
    method = plan_method(entry, options, opened, problem, chosen.steps, grid, guided=guided)
    if config.draws > 1 and entry.facts.get("deterministic"):
        raise ValueError(
            f"--draws {config.draws} with {entry.name}, whose draws are all the same; use ddrm or diffpir"
        )
    measured = all(value is None for value in (*own.values(), config.window, config.classifier))
    return replace(method, widen=chosen.widen if measured and config.draws > 1 else None)


@dataclass(frozen=True, slots=True)
class Choice:
    """An algorithm with its options, how many levels, where if not by itself, and by how much error bars widen."""

    algorithm: str
    steps: int
    grid: Sequence[float] | None = None
    widen: float | None = None


def _chosen(config: RestoreConfig, problem: Problem, opened: Opened) -> Choice:
    """The preset for this prior, task, noise and goal; else what suits in general."""
    presets = None if config.preset is None else read_presets(config.preset)
    preset = preset_for(opened, problem, config.goal, presets)
    if preset is not None and not (config.draws > 1 and preset.draws == 1):
        if config.steps in (None, preset.steps):
            return Choice(preset.algorithm, preset.steps, preset.grid, preset.widen)
        return Choice(preset.algorithm, config.steps or preset.steps)
    if config.preset is not None:
        raise ValueError(
            f"'{config.preset}' has no preset for the prior '{opened.name}', {kind_of(problem.A)}, noise "
            f"{problem.sigma_y / 2:.3g}, the goal {config.goal} and {config.draws} draws; leave out --preset, or "
            "tune one for it"
        )
    one, made_for = config.goal == "psnr" and config.draws == 1, opened.config and opened.config.made_for
    if isinstance(problem.A, Separable):
        few = 4 if isinstance(problem.A, Jpeg) else 20
        return Choice("dpir", config.steps or few) if one else Choice("diffpir", config.steps or 20)
    if not isinstance(problem.A, LinearOperator):
        return Choice("daps", config.steps or 50)
    if isinstance(
        opened.denoise, StationaryGaussian
    ):  # closed form: the mean for one answer, draws for several
        return Choice("exact:sample=" + ("false" if one else "true"), config.steps or 1)
    if not one:
        return Choice("ddrm" if isinstance(problem.A, SVDOperator) else "diffpir", config.steps or 20)
    if made_for is not None and made_for.algorithm is not None:
        return Choice(made_for.algorithm, config.steps or made_for.calls or 20)
    return Choice("dpir", config.steps or 20)


def asked_for(config: RestoreConfig) -> tuple[str, int | None]:
    """The algorithm and the calls that a user asks for. For other goals auto takes none that a prior practised."""
    auto = config.algorithm == "auto" and (config.goal != "psnr" or config.draws > 1)
    return f"auto for {config.goal}" if auto else config.algorithm, config.steps


def network_of_lpips(config: RestoreConfig) -> LPIPS | None:
    """LPIPS with the weights that were asked for, here or in the environment; None if none were."""
    named = config.lpips or os.environ.get("UNDIFFUSE_LPIPS")
    return None if named is None else open_lpips(named)
