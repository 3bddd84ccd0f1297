"""The parts of `undiffuse analyse all`: which there are, what each is told, and whether it applies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pydantic
import torch

from undiffuse.analysis.attention import attention
from undiffuse.app.analyse.subjects import Subjects
from undiffuse.config import explain
from undiffuse.config.analyse.attention import AttentionConfig
from undiffuse.config.analyse.common import AnalyseConfig, ReportConfig
from undiffuse.config.analyse.everything import AllConfig
from undiffuse.config.analyse.guidance import GuidanceConfig
from undiffuse.config.analyse.noise import NoiseConfig
from undiffuse.config.analyse.restore import RestoreAnalysisConfig
from undiffuse.config.analyse.sizes import SizesConfig
from undiffuse.config.analyse.trajectories import DeterminismConfig, TrajectoriesConfig
from undiffuse.networks import Photo

Why = Callable[[AllConfig, Subjects], str]  # why it does not apply; empty if it does


@dataclass(frozen=True, slots=True)
class Part:
    """One analysis."""

    name: str
    model: type[ReportConfig]
    own: Callable[[AllConfig], dict[str, Any]]  # settings beside those that all share
    why_not: Why
    shared: tuple[str, ...] = ()  # settings that are not handed on

    def config(self, config: AllConfig) -> Any:
        """What it is told: what `all` is told, and its own. ValueError, in one line, for what does not fit."""
        known = ReportConfig if not issubclass(self.model, AnalyseConfig) else AnalyseConfig
        given = {name: getattr(config, name) for name in known.model_fields if name not in self.shared}
        try:
            return self.model(**{**given, **self.own(config)})
        except pydantic.ValidationError as error:
            raise ValueError(explain(error, f"analyse {self.name}", self.model)) from None


def _always(config: AllConfig, subjects: Subjects) -> str:
    return ""


def _unguided(config: AllConfig, subjects: Subjects) -> str:
    prior = subjects.teacher.opened.prior
    if prior is None or prior.num_classes is None:
        return "the prior has no classes"
    if not prior.null_class:
        return "the prior was trained without class dropout"
    return "" if any(label is not None for label in subjects.teacher.plan.labels) else "no class is asked for"


def _no_students(config: AllConfig, subjects: Subjects) -> str:
    if not config.students:
        return "no students are given"
    return "" if subjects.teacher.parameters else "the prior is in closed form and has no size"


def _no_attention(config: AllConfig, subjects: Subjects) -> str:
    opened = subjects.teacher.opened
    if opened.prior is None or isinstance(opened.prior.net, Photo):
        return "the prior has no attention"
    x = torch.zeros(1, *subjects.shape, device=subjects.device)
    denoise = subjects.denoise(subjects.teacher, [0])
    size = (subjects.shape[1], subjects.shape[2])
    with torch.no_grad():
        level = subjects.sigmas[0].to(x)
        _, layers = attention(opened.prior.net, lambda: denoise(x, level), size=size)
    return "" if layers else "the prior's network has no attention"


def _nothing_restored(config: AllConfig, subjects: Subjects) -> str:
    return "" if config.restored is not None else "no restoration is given with --restored OUT/NAME"


def _guidance(config: AllConfig) -> dict[str, Any]:
    against = config.students[0] if config.students else None
    return {
        "run": config.run,
        "scales": config.scales,
        "against": against,
        "classifier": config.classifier,
        "guidance": 1.0,
    }


def _sizes(config: AllConfig) -> dict[str, Any]:
    students = {"students": config.students, "teacher": config.run}
    return {**students, "data": config.data, "source": config.source}


PARTS = (
    Part(
        "trajectories",
        TrajectoriesConfig,
        lambda config: {"priors": (config.run, *config.students), "embed": config.embed},
        _always,
    ),
    Part("guidance", GuidanceConfig, _guidance, _unguided),
    Part("sizes", SizesConfig, _sizes, _no_students),
    Part(
        "noise",
        NoiseConfig,
        lambda config: {
            "runs": (config.run, *config.students),
            "data": config.data,
            "source": config.source,
        },
        _always,
    ),
    Part("attention", AttentionConfig, lambda config: {"run": config.run}, _no_attention, ("n",)),
    Part("restore", RestoreAnalysisConfig, lambda config: {"result": config.restored}, _nothing_restored),
    Part("determinism", DeterminismConfig, lambda config: {"run": config.run}, _always, ("n", "steps")),
)
