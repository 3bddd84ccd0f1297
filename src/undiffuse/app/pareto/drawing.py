"""The task of drawing samples: their distance to a reference, and what they cost."""

import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from undiffuse.app.compare.asked import on
from undiffuse.app.compare.draw import draw
from undiffuse.app.evaluate import run as evaluate
from undiffuse.app.events import Done, Event, Progress
from undiffuse.app.methods import explicit
from undiffuse.app.pareto.cost import warm
from undiffuse.app.pareto.data import Reference, save
from undiffuse.app.pareto.store import Answer, Question
from undiffuse.app.pareto.subjects import Subject
from undiffuse.app.sample.guided import Guidance
from undiffuse.app.sample.plan import Plan, plan_with
from undiffuse.app.sample.preset import prior_key, read_presets
from undiffuse.config import SampleConfig, explain, parse_term
from undiffuse.config.pareto import SAMPLE, ParetoConfig
from undiffuse.core.state import Denoise
from undiffuse.registry import SAMPLERS

Values = dict[str, list[float | None]]  # by metric: the value, and its 95 % interval if there is one
MEASURED = {"fid": ("fid", "fd"), "kid": ("kid", "kd")}  # what evaluate calls them, by the features


@dataclass(frozen=True, slots=True)
class Drawing:
    """Samples, compared with a reference."""

    plan: Plan
    reference: Reference
    n: int

    def __str__(self) -> str:
        return str(self.plan)

    @property
    def guidance(self) -> float:
        """What it is asked with."""
        return self.plan.guidance.scale

    def question(self) -> Question:
        """All that decides what is measured, but the machine."""
        told = {"n": self.n, "reference": self.reference.digest, "metrics": list(self.reference.metrics)}
        return {"task": SAMPLE, **self.plan.settings(), **told}

    def denoisers(self, device: torch.device) -> tuple[Denoise, Denoise]:
        """As it is asked, and one call of the network."""
        plain = replace(self.plan, guidance=Guidance(1.0))
        return self.plan.denoise([0], device), plain.denoise([0], device)

    def measured(self, device: torch.device, label: str) -> Generator[Event, None, Answer]:
        """Seconds are those of all pictures, in batches, over their number."""
        members = list(range(self.n))
        warm(self.plan.denoise(members[:16], device), (min(16, self.n), *self.plan.shape), device)
        began = time.process_time()
        drawn = yield from draw(self.plan, members, device, label)
        cpu = (time.process_time() - began) / self.n
        values = (yield from compared(drawn.x, self.reference)) if drawn.finite else {}
        return {"values": values, "n": self.n, "calls": drawn.calls, "seconds": drawn.seconds, "cpu": cpu}


def drawing(subject: Subject, config: ParetoConfig, levels: int, reference: Reference, size: str) -> Drawing:
    """ValueError for what the prior cannot do."""
    import pydantic

    entry = SAMPLERS[parse_term(config.sampler)[0]]
    steps = (levels + 1) // 2 if entry.facts.get("calls") == 2 else levels  # heun: one call in its last step
    given: dict[str, Any] = {
        "prior": subject.opened.name, "n": config.n, "label": config.label, "size": size, "seed": config.seed,
        "guidance": subject.guidance(config.guidance), "batch": config.batch,
    }  # fmt: skip
    own = subject.own_levels
    if own is None and _preset(subject, config, levels):
        given |= {"preset": config.presets, "steps": levels}
    elif own is None:
        given |= {"sampler": config.sampler, "steps": steps}
    try:
        plan = plan_with(subject.opened, SampleConfig(**given))
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, "pareto", SampleConfig)) from None
    if own is not None:
        assert subject.made_for is not None and subject.made_for.sampler is not None
        plan = replace(on(plan, subject.made_for.sampler, explicit(own), ""), grid=list(own))
    return Drawing(plan, reference, config.n)


def _preset(subject: Subject, config: ParetoConfig, calls: int) -> bool:
    """Whether there is one for this prior and so many calls."""
    if config.presets is None:
        return False
    mine = prior_key(subject.opened)
    return any(one.prior == mine and one.calls == calls for one in read_presets(config.presets))


def compared(x: Tensor, reference: Reference) -> Generator[Event, None, Values]:
    """The distances of pictures (n, C, H, W) to the reference's, by `undiffuse evaluate`."""
    save(reference.config.samples, list(x))
    values: Values = {}
    for event in evaluate(reference.config):
        if isinstance(event, Progress):
            yield event
        elif isinstance(event, Done):
            found = event.result.values
            for metric in reference.metrics:
                one = next(found[name] for name in MEASURED[metric] if name in found)
                values[metric] = (
                    [one["value"], one["low"], one["high"]] if isinstance(one, dict) else [one, None, None]
                )
    reference.config.samples.unlink()
    return values
