"""What is compared: a plan of `undiffuse sample` for each sampler that was asked for."""

from dataclasses import dataclass, replace

import torch

from undiffuse.app.priors import Opened, levels
from undiffuse.app.sample.plan import HIGHEST, Plan, plan_with
from undiffuse.config import SampleConfig, explain
from undiffuse.config.compare import CompareConfig, split_sampler
from undiffuse.registry import SAMPLERS


@dataclass(frozen=True, slots=True)
class Contender:
    """A sampler as it was asked for, on its grid."""

    label: str
    plan: Plan


def contender(opened: Opened, config: CompareConfig, text: str) -> Contender:
    """ValueError, in one line, for what is no sampler or what the prior cannot do."""
    import pydantic

    term, grid, steps = split_sampler(text)
    given = {
        "prior": config.prior, "prior_options": config.prior_options, "precision": config.precision,
        "n": config.n, "label": config.label, "guidance": config.guidance, "sampler": term, "steps": steps,
        "grid": grid, "clip": config.clip, "size": config.size, "seed": config.seed, "batch": config.batch,
        "device": config.device,
    }  # fmt: skip
    try:
        return Contender(text, plan_with(opened, SampleConfig(**given)))
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, f"'{text}'", SampleConfig)) from None


def fine(plan: Plan, steps: int) -> Plan:
    """The probability-flow ODE by Heun's method on the levels of Karras et al. that the prior knows."""
    sigmas = levels(plan.opened, plan.shape, steps, HIGHEST)
    return replace(plan, entry=SAMPLERS["heun"], options={}, sigmas=sigmas, grid="karras")


def on(plan: Plan, sampler: str, sigmas: torch.Tensor, grid: str) -> Plan:
    """The same prior and noise with another sampler, without options, on other levels."""
    return replace(plan, entry=SAMPLERS[sampler], options={}, sigmas=sigmas, grid=grid)
