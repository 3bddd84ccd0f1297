"""What is compared: restoration algorithms on the prior, and methods of their own that need no step or no prior."""

import difflib
import importlib.metadata
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from undiffuse.app.methods import plan_method
from undiffuse.app.priors import Opened, denoiser, levels
from undiffuse.config import from_term, parse_term
from undiffuse.config.bench import split_calls
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.registry import RESTORERS, Entry, Registry
from undiffuse.restore import Problem

BASELINES = Registry("baseline")  # functions (problem, given, /, *, options) -> x of (draws, C, H, W)
CHUNK = 12_000_000  # values of x in one batch of draws


@dataclass(frozen=True, slots=True)
class Given:
    """What a method may use beside the measurement. One seed for each draw that is asked for."""

    opened: Opened
    calls: int
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Contender:
    """One method with its options. `calls`: of the network, as asked for."""

    entry: Entry
    options: dict[str, Any]
    calls: int
    term: str  # as a user types it
    top: float | None = None  # on the prior's grid below this level, [0, 1] units; None: on its own
    grid: tuple[float, ...] | None = None  # levels above 0, where they are not the method's own
    asked: bool = True  # by name; else it came with `auto`, and is not missed where it cannot be used

    @property
    def restorer(self) -> bool:
        """Whether it is an algorithm of `undiffuse restore`."""
        return self.entry.name in RESTORERS and RESTORERS[self.entry.name] is self.entry

    @property
    def uses_prior(self) -> bool:
        """Whether its answer depends on the prior."""
        return self.restorer or bool(self.entry.facts.get("prior"))

    def draws(self, asked: int) -> int:
        """How many draws are taken where `asked` are asked for: one, where all would be the same."""
        fixed = not self.uses_prior or bool(self.entry.facts.get("deterministic"))
        return 1 if fixed else asked

    def label(self, draws: int) -> str:
        """Its name in a table."""
        if not self.uses_prior:
            return self.term
        several = f" x{self.draws(draws)}" if self.draws(draws) > 1 else ""
        top = "" if self.top is None else f"@{self.top:g}"
        return f"{self.term}@{self.calls}{top}{several}"

    def settings(self, draws: int) -> str:
        """All that decides its answer but the measurement and the prior, in one line: also the package's version."""
        told = [f"undiffuse={importlib.metadata.version('undiffuse')}"]
        told += [f"{name}={value}" for name, value in self.options.items()]
        told += [f"calls={self.calls}", f"draws={self.draws(draws)}"] if self.uses_prior else []
        told += [] if self.top is None else [f"top={self.top:g}"]
        told += [] if self.grid is None else ["grid=" + "+".join(f"{level:.6g}" for level in self.grid)]
        return " ".join(told)

    def restore(self, problem: Problem, given: Given) -> Tensor:
        """(draws, C, H, W). ValueError, in one line, for what it cannot do."""
        given = replace(given, calls=self.calls, seeds=given.seeds[: self.draws(len(given.seeds))])
        if not self.restorer:
            return self.entry(problem, given, **self.options)
        grid = self.grid or self.below_top(given.opened, problem.A.in_shape)
        method = plan_method(self.entry, self.options, given.opened, problem, self.levels(), grid)
        batch = max(1, CHUNK // math.prod(problem.A.in_shape))
        found: list[Tensor] = []
        for i in range(0, len(given.seeds), batch):
            seeds = given.seeds[i : i + batch]
            noise, part = SeededNoise(seeds), problem.repeat(len(seeds))
            step = method.step(denoiser(given.opened), part, noise)
            x = method.start(part, method.sigmas[0].to(part.y), noise)
            found.append(last(sample(step, x, method.sigmas)).x)
        return torch.cat(found)

    def below_top(self, opened: Opened, shape: tuple[int, ...]) -> tuple[float, ...] | None:
        """The prior's grid from `top` down, without its 0, in [-1, 1] units; None without a `top`."""
        if self.top is None:
            return None
        high, low = levels(opened, shape, 2)[:-1].tolist()
        return tuple(karras(self.levels(), sigma_min=low, sigma_max=min(2 * self.top, high))[:-1].tolist())

    def levels(self) -> int:
        """Noise levels for so many calls: algorithms that take several a level get fewer levels."""
        option: str | None = self.entry.facts.get("calls")
        each = self.options[option] if option else 1
        if self.calls < each:
            raise ValueError(
                f"{self.entry.name} takes {each} calls a level ({option}); ask for {each} or more"
            )
        return self.calls // each


def contender(text: str, calls: int, *, asked: bool = True) -> Contender:
    """`dpir@5:lam=0.3`, or the name of a baseline. ValueError, in one line, for an unknown name or option."""
    term, own, top = split_calls(text)
    name, first, given = parse_term(term)
    table = BASELINES if name in BASELINES else RESTORERS
    if name not in table:
        near = difflib.get_close_matches(name, [*RESTORERS, *BASELINES], n=1)
        hint = f" did you mean '{near[0]}'?" if near else ""
        raise ValueError(
            f"no method named '{name}';{hint} choose from the algorithms {', '.join(sorted(RESTORERS))}, and the "
            f"baselines {', '.join(sorted(BASELINES))}"
        )
    entry = table[name]
    if top is not None and table is BASELINES:
        raise ValueError(f"'{text}'; {name} has no noise levels that could be set: leave out @{top:g}")
    return Contender(entry, from_term(entry, first, given), own or calls, term, top, asked=asked)


def contenders(algorithms: Iterable[str], baselines: Iterable[str], calls: int) -> list[Contender]:
    """All that are compared, each once. `auto` stands for the baselines that take seconds, `all` for all, `none`."""
    found = [contender(text, calls) for text in algorithms]
    for text in baselines:
        if text in ("auto", "all"):
            quick = [n for n in BASELINES if not BASELINES[n].facts.get("prior")]
            quick = [n for n in quick if text == "all" or not BASELINES[n].facts.get("slow")]
            found += [contender(name, calls, asked=False) for name in quick]
        elif text != "none":
            found.append(contender(text, calls))
    unique = {one.label(1): one for one in reversed(found)}  # the one asked for by name stays
    return list(unique.values())[::-1]
