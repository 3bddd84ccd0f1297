"""Presets of samplers: for a prior and a number of network calls, the solver and levels that a comparison chose."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import pydantic

from undiffuse.app.methods import explicit
from undiffuse.app.presets import SHORTEST, ChosenBy
from undiffuse.app.priors import Opened
from undiffuse.config import Options, SampleConfig, explain, from_term, parse_term
from undiffuse.config.train import read_yaml, write_yaml
from undiffuse.registry import SAMPLERS


class SamplerPreset(Options):
    """What to draw with. sigmas: levels above 0, falling, in [-1, 1] units."""

    prior: str  # its name, or the first digits of its file's sha256
    calls: Annotated[int, pydantic.Field(ge=1, le=100_000)]  # for a picture; with guidance twice as many
    sampler: str  # with its options
    grid: str  # what the levels are, in words
    sigmas: Annotated[tuple[float, ...], pydantic.Field(min_length=1, max_length=100_000)]
    chosen_by: ChosenBy

    @pydantic.model_validator(mode="after")
    def _complete(self) -> "SamplerPreset":
        explicit(self.sigmas)
        name, first, given = parse_term(self.sampler)
        from_term(SAMPLERS[name], first, given)
        return self


class _File(Options):
    samplers: Annotated[tuple[SamplerPreset, ...], pydantic.Field(min_length=1)]


def prior_key(opened: Opened) -> str:
    """What a preset calls its prior."""
    return opened.name if opened.sha256 is None else opened.sha256[:SHORTEST]


def read_preset(config: SampleConfig, opened: Opened) -> SamplerPreset | None:
    """The one of `config.preset` for so many steps; None if no file is named. ValueError if it has none that fits."""
    path = config.preset
    if path is None:
        return None
    if taken := [name for name in ("sampler", "grid", "eta") if getattr(config, name) is not None]:
        raise ValueError(f"--{taken[0]} with --preset, which says it; leave one of them out")
    mine = [one for one in read_presets(path) if one.prior == prior_key(opened)]
    if not mine:
        raise ValueError(
            f"'{path}' holds nothing for the prior '{opened.name}' ({prior_key(opened)}); presets hold for the "
            "weights that they were chosen on: run `undiffuse compare --presets` on these"
        )
    if len(mine) == 1 and config.steps is None:
        return mine[0]
    for one in mine:
        if one.calls == config.steps:
            return one
    known = ", ".join(str(one.calls) for one in mine)
    raise ValueError(f"'{path}' has presets of {known} calls; choose one of them with --steps")


def read_presets(path: Path) -> tuple[SamplerPreset, ...]:
    """A file of presets. ValueError in one line for whatever is wrong."""
    if not path.is_file():
        raise ValueError(f"no file of presets '{path}'; `undiffuse compare --presets` writes one")
    try:
        return _File.model_validate(
            read_yaml(path, "samplers:, as `undiffuse compare --presets` writes")
        ).samplers
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, f"'{path}'", _File)) from None


def presets_text(presets: Iterable[SamplerPreset]) -> str:
    """A file of presets."""
    return write_yaml({"samplers": [preset.model_dump(mode="json") for preset in presets]})
