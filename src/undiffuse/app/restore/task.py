"""One picture made ready: its measurement, and the algorithm that is to restore it."""

from dataclasses import dataclass

from undiffuse.app.measurement import Measurement, open_measurement
from undiffuse.app.methods import Method, plan_method
from undiffuse.app.priors import Opened, check_guidance, check_shape, denoiser, label_of, open_prior
from undiffuse.config import RestoreConfig, from_term, parse_term
from undiffuse.core.noise import image_seed
from undiffuse.core.state import Denoise
from undiffuse.operators.base import LinearOperator, SVDOperator
from undiffuse.priors import StationaryGaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem

AUTO = ("photo", "photo-gaussian")  # for pictures of 3 channels, and for others
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
        """The prior as this picture needs it."""
        return denoiser(self.opened, self.label, self.config.guidance)

    def asked(self) -> str:
        """The prior and the algorithm, in words."""
        return f"{self.opened.asked(self.label, self.config.guidance)}, {self.method}"


def prepare(config: RestoreConfig, priors: Priors) -> Task:
    """Read the picture and decide how to restore it. ValueError in one line for whatever is wrong."""
    measurement = open_measurement(config)
    shape = measurement.problem.A.in_shape
    if config.prior == "auto":
        config = config.model_copy(update={"prior": AUTO[shape[0] != 3]})
    opened = priors.get(config.prior) or priors.setdefault(config.prior, open_prior(config.prior))
    label = None if config.label is None else label_of(opened, config.label)
    check_guidance(opened, label, config.guidance)
    if opened.prior is not None and opened.prior.conditions:
        raise ValueError(
            f"the prior '{config.prior}' is conditioned on a picture; use undiffuse sample --low-res"
        )
    check_shape(opened, shape)
    return Task(config, opened, label, measurement, choose(config, measurement.problem, opened))


def choose(config: RestoreConfig, problem: Problem, opened: Opened) -> Method:
    """The algorithm as asked for, or a choice by goal, prior and degradation; built once, so that it can refuse."""
    term, steps = config.algorithm, config.steps or 20
    if term == "auto":
        term, steps = _auto(config, problem, opened)
    name, first, given = parse_term(term)
    for option in ("eta", "eta_b"):
        value = getattr(config, option)
        if value is not None:
            given[option] = str(value)
    entry = RESTORERS[name]
    method = plan_method(entry, from_term(entry, first, given), opened, problem, steps)
    if config.draws > 1 and entry.facts.get("deterministic"):
        raise ValueError(
            f"--draws {config.draws} with {entry.name}, whose draws are all the same; use ddrm or diffpir"
        )
    return method


def _auto(config: RestoreConfig, problem: Problem, opened: Opened) -> tuple[str, int]:
    several = config.draws > 1
    if not isinstance(problem.A, LinearOperator):
        return "daps", config.steps or 50
    if isinstance(
        opened.denoise, StationaryGaussian
    ):  # closed form: the mean for one answer, draws for several
        return "exact:sample=" + ("true" if several else "false"), config.steps or 1
    draws = "ddrm" if isinstance(problem.A, SVDOperator) else "diffpir"
    return draws if several else "dpir", config.steps or 20
