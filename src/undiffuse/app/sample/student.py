"""Distilled priors: sampled on the levels that they were made for, unless something else is asked for."""

from torch import Tensor

from undiffuse.app.methods import explicit
from undiffuse.app.priors import Opened
from undiffuse.config import SampleConfig, parse_term
from undiffuse.registry import SAMPLERS

CHOSEN = ("grid", "preset", "eta", "start", "invert", "interpolate")
CLOSE = 1e-4  # of two levels that count as one: headers and grids round differently


def own_steps(opened: Opened, config: SampleConfig) -> tuple[str, Tensor] | None:
    """The sampler and the levels that a prior was made for; None if it has none, or others are asked for."""
    made_for = None if opened.config is None else opened.config.made_for
    if made_for is None or made_for.sigmas is None or made_for.sampler is None:
        return None
    if any(getattr(config, name) is not None for name in CHOSEN):
        return None
    if config.steps not in (None, len(made_for.sigmas)):
        return None
    if config.sampler is not None and parse_term(config.sampler) != (made_for.sampler, None, {}):
        return None
    return made_for.sampler, explicit(made_for.sigmas)


def warnings(opened: Opened, sampler: str, sigmas: Tensor) -> list[str]:
    """What a user is to know of steps that a distilled prior was not made for."""
    made_for = None if opened.config is None else opened.config.made_for
    if made_for is None or made_for.sigmas is None:
        return []
    own = explicit(made_for.sigmas)
    same = own.shape == sigmas.shape and bool(((own - sigmas).abs() <= CLOSE * own).all())
    if same and SAMPLERS[sampler].name == made_for.sampler:
        return []
    return [
        f"'{opened.name}' was made for {made_for}; these are {len(sigmas) - 1} of {sampler} on other levels"
    ]
