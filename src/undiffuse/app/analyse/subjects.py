"""The priors that are analysed, side by side: the same pictures, the same noise, the same noise levels."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.app import machine
from undiffuse.app.events import Event, Note
from undiffuse.app.methods import explicit
from undiffuse.app.priors import LOWEST, Opened, announced, highest, open_prior
from undiffuse.app.sample.plan import HIGHEST, Plan, batch_size, plan_with
from undiffuse.config import SampleConfig, explain
from undiffuse.config.analyse.common import AnalyseConfig
from undiffuse.core.grids import karras
from undiffuse.core.loop import sample
from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import Denoise, State
from undiffuse.registry import SAMPLERS

ALIKE = 1e-6  # of two levels that count as one: headers and grids round differently


@dataclass(frozen=True, slots=True)
class Subject:
    """One prior and how it is asked."""

    label: str  # a short name, of one subject only
    plan: Plan

    @property
    def opened(self) -> Opened:
        """The prior."""
        return self.plan.opened

    @property
    def sigmas(self) -> Tensor:
        """The levels that it visits: the shared ones, or of a distilled prior those that it was made for."""
        return self.plan.sigmas

    @property
    def parameters(self) -> int:
        """Numbers that were trained; 0 of a prior in closed form."""
        prior = self.opened.prior
        return 0 if prior is None else sum(p.numel() for p in prior.net.parameters())


@dataclass(frozen=True, slots=True)
class Subjects:
    """All of them on one device; the first is the one that others are compared with."""

    members: tuple[Subject, ...]
    config: AnalyseConfig
    shape: tuple[int, ...]  # (C, H, W)
    sigmas: (
        Tensor  # (steps + 1,) float64, from the highest to 0, in [-1, 1] units; all own levels are among them
    )
    device: torch.device

    @property
    def teacher(self) -> Subject:
        """The first."""
        return self.members[0]

    def batches(self) -> list[list[int]]:
        """Numbers of pictures, as many at once as the largest prior's memory allows."""
        size = min(batch_size(subject.plan, self.device) for subject in self.members)
        return [list(range(i, min(i + size, self.config.n))) for i in range(0, self.config.n, size)]

    def labels(self, pictures: Sequence[int]) -> list[int | None]:
        """The classes that these pictures are asked to be of."""
        return [self.teacher.plan.label(i) for i in pictures]

    def start(self, pictures: list[int]) -> Tensor:
        """(B, C, H, W) at sigmas[0] on the device: a function of the seed and the picture's number alone."""
        return self._begin(self.teacher.plan, self.sigmas, pictures)[0]

    def denoise(self, subject: Subject, pictures: list[int]) -> Denoise:
        """The denoiser for these pictures' classes."""
        return subject.plan.denoise(pictures, self.device)

    def states(self, subject: Subject, pictures: list[int]) -> Iterator[State]:
        """From noise to pictures by the subject's sampler: states at all of its levels, in order."""
        plan = subject.plan
        x, noise = self._begin(plan, plan.sigmas, pictures)
        yield from sample(plan.step(pictures, noise, self.device), x, plan.sigmas)

    def _begin(self, plan: Plan, sigmas: Tensor, pictures: list[int]) -> tuple[Tensor, SeededNoise]:
        noise = plan.noise(pictures)
        x = sigmas[0].item() * noise(torch.empty(len(pictures), *self.shape))
        return x.to(self.device), noise


def open_subjects(
    config: AnalyseConfig, texts: Sequence[str], *, drawing: bool = True
) -> Generator[Event, None, Subjects]:
    """Open the priors by their names, files or runs' folders. Yields notes; ValueError if they cannot be compared.

    drawing: whether they will draw config.n pictures; then a note says how.
    """
    opened: list[Opened] = []
    for text in texts:
        yield from announced(text)
        opened.append(open_prior(text, _options_for(text, config), config.precision))
    found = compared(config, opened)
    for one in opened:
        yield from (Note(note) for note in one.notes())
    if drawing:
        yield Note(told(found))
    return found


def compared(config: AnalyseConfig, opened: Sequence[Opened]) -> Subjects:
    """The same for priors that are open. ValueError, in one line, for those that differ in what they draw."""
    device = machine.device(config.device)
    plans = [_plan(config, one) for one in opened]
    for plan in plans[1:]:
        _check_alike(plans[0], plan)
    shape = plans[0].shape
    own = [own_plan(plan) for plan in plans]
    sigmas = merged(shared_levels(opened, shape, config.steps), [plan.sigmas for plan in own if plan])
    plans = [mine or replace(plan, sigmas=sigmas) for plan, mine in zip(plans, own, strict=True)]
    for plan in plans:
        plan.to(device)
    members = tuple(Subject(label, plan) for label, plan in zip(names(opened), plans, strict=True))
    return Subjects(members, config, shape, sigmas, device)


def told(subjects: Subjects) -> str:
    """What is done with them, in words."""
    low, high = subjects.sigmas[-2].item() / 2, subjects.sigmas[0].item() / 2
    size = "x".join(map(str, subjects.shape[1:]))
    own = [
        f"{subject.label} at the {len(subject.sigmas) - 1} that it was made for"
        for subject in subjects.members
        if len(subject.sigmas) != len(subjects.sigmas)
    ]
    return (
        f"{', '.join(subject.label for subject in subjects.members)}: {subjects.config.n} pictures of {size} from the "
        f"same noise, {subjects.config.sampler}, {len(subjects.sigmas) - 1} levels from {high:.3g} to {low:.2g} "
        f"(white - black = 1)" + (f"; {'; '.join(own)}" if own else "")
    )


def shared_levels(opened: Sequence[Opened], shape: Sequence[int], steps: int) -> Tensor:
    """The grid of Karras et al. over the levels that all of the priors know, (steps + 1,) float64."""
    known = [one.prior.sigma_range[0] for one in opened if one.prior is not None]
    low, high = max([LOWEST, *known]), min(highest(one, shape, HIGHEST) for one in opened)
    if not low < high:
        raise ValueError(
            f"the priors have no noise levels in common: one begins at {low:g}, another ends at {high:g}"
        )
    return karras(steps, sigma_min=low, sigma_max=high)


def own_plan(plan: Plan) -> Plan | None:
    """With the sampler and the levels that a distilled prior was made for; None for priors that know all levels."""
    made_for = None if plan.opened.config is None else plan.opened.config.made_for
    if made_for is None or made_for.sigmas is None or made_for.sampler is None:
        return None
    return replace(plan, entry=SAMPLERS[made_for.sampler], options={}, sigmas=explicit(made_for.sigmas))


def merged(sigmas: Tensor, own: Sequence[Tensor]) -> Tensor:
    """A grid that holds the levels of others too, falling to 0: its nearest level makes room for each of them.

    So steps do not get tiny. The first level stays, and none is added above it: priors may know no higher one.
    """
    if not own:
        return sigmas
    top = sigmas[0]
    extra = torch.cat([levels[(levels > 0) & (levels < top * (1 - ALIKE))] for levels in own]).unique()
    inner = sigmas[1:-1].log()
    left = torch.ones_like(inner, dtype=torch.bool)
    for level in extra.log():
        if left.any():
            left[(inner - level).abs().masked_fill(~left, torch.inf).argmin()] = False
    return torch.cat(
        [sigmas[:1], torch.cat([sigmas[1:-1][left], extra]).sort(descending=True).values, sigmas[-1:]]
    )


def names(opened: Sequence[Opened]) -> list[str]:
    """A short name for each: the last part of its path, with more of the path or a number where two are alike.

    None begins with _, which figures leave out of their legends.
    """
    paths = [Path(one.name.rstrip("/")) for one in opened]
    found = [path.stem if path.is_file() else path.name or str(path) for path in paths]
    if len(set(found)) < len(found):
        longer = [f"{path.parent.name}/{name}" for path, name in zip(paths, found, strict=True)]
        found = [long if found.count(name) > 1 else name for name, long in zip(found, longer, strict=True)]
    found = [visible(name.removeprefix("/")) for name in found]
    return [f"{name} ({i + 1})" if found.count(name) > 1 else name for i, name in enumerate(found)]


def visible(name: str) -> str:
    """The name as a legend shows it too."""
    return f"./{name}" if name.startswith("_") else name


def _plan(config: AnalyseConfig, opened: Opened) -> Plan:
    import pydantic

    if opened.prior is not None and opened.prior.conditions:
        raise ValueError(f"'{opened.name}' is conditioned on a picture; priors without one are analysed")
    label = None if config.label == "none" and opened.num_classes is None else config.label
    given = {
        "prior": opened.name, "n": config.n, "seed": config.seed, "label": label, "sampler": config.sampler,
        "steps": config.steps, "size": config.size, "batch": config.batch, "guidance": _guidance(config, opened),
        "grid": "karras",
    }  # fmt: skip
    try:
        return plan_with(opened, SampleConfig(**given))
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, "analyse", SampleConfig)) from None


def _guidance(config: AnalyseConfig, opened: Opened) -> float:
    """1 for a prior that has its guidance built in."""
    made_for = None if opened.config is None else opened.config.made_for
    return config.guidance if made_for is None or made_for.guidance == 1 else 1.0


def _options_for(text: str, config: AnalyseConfig) -> str | None:
    """Facts are of files from outside; what comes with the package takes none."""
    return config.prior_options if Path(text).exists() else None


def _check_alike(first: Plan, other: Plan) -> None:
    if first.shape != other.shape:
        mine, theirs = ("x".join(map(str, plan.shape)) for plan in (first, other))
        raise ValueError(
            f"'{other.opened.name}' draws {theirs} and '{first.opened.name}' {mine} (channels x height x width); "
            "expected priors of one kind of picture, or give --size"
        )
    if first.labels != other.labels:
        counts = " and ".join(
            f"'{plan.opened.name}' has {plan.opened.num_classes or 'no'} classes" for plan in (first, other)
        )
        raise ValueError(f"{counts}; expected the same classes, or give --label none")
