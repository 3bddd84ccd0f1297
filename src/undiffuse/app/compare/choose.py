"""The levels and the solver that come nearest to the fine solution with so many network calls."""

import datetime
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.app.compare.asked import fine, on
from undiffuse.app.compare.draw import distance, draw
from undiffuse.app.events import Event, Note
from undiffuse.app.presets import ChosenBy
from undiffuse.app.sample.plan import Plan
from undiffuse.app.sample.preset import SamplerPreset, prior_key
from undiffuse.config.compare import CompareConfig
from undiffuse.config.said import command_line
from undiffuse.core.grids import from_timesteps, karras

SOLVERS = (
    "dpmpp_2m",
    "dpmpp_3m",
    "ddim",
    "heun",
)  # the first, on the levels of Karras et al., is what is beaten
SPACINGS = ("trailing", "leading", "linspace")
FINALISTS = 2  # solvers whose levels are searched
STEP = 2.0  # factor of sigma_min and sigma_max in the first round; of rho its root
RHO = (1.0, 60.0)


@dataclass(frozen=True, slots=True)
class Levels:
    """Noise levels with a name."""

    words: str
    sigmas: Tensor
    karras: tuple[float, float, float] | None = None  # sigma_min, sigma_max, rho


@dataclass(frozen=True, slots=True)
class Search:
    """Starts and ends of the exact paths: half are searched on, half judge."""

    plan: Plan
    members: list[int]
    exact: Tensor
    device: torch.device

    def distance(self, solver: str, levels: Levels, label: str) -> Generator[Event, None, float]:
        """Of pictures that the solver draws on these levels to the ends; infinite if it diverges."""
        drawn = yield from draw(
            on(self.plan, solver, levels.sigmas, levels.words), self.members, self.device, label
        )
        return distance(drawn.x, self.exact) if drawn.finite else math.inf


def choose(
    plan: Plan, config: CompareConfig, calls: int, halves: tuple[Search, Search]
) -> Generator[Event, None, SamplerPreset]:
    """The best for `calls` on the first half; the plain one, if it is not better on the second half, too."""
    search, judge = halves
    label = f"levels for {calls} calls"
    scored: list[tuple[float, str, Levels]] = []
    for solver in SOLVERS:
        for levels in _plain(plan, _steps(solver, calls)):
            scored.append(((yield from search.distance(solver, levels, label)), solver, levels))
    plain = scored[0]
    found: list[tuple[float, str, Levels]] = []
    best_of = {solver: min((one for one in scored if one[1] == solver), key=_score) for solver in SOLVERS}
    for _, solver, _ in sorted(best_of.values(), key=_score)[:FINALISTS]:
        start = next(one for one in scored if one[1] == solver and one[2].karras is not None)
        found.append((yield from _descend(search, start, config.rounds, label)))
    best = min([*scored, *found], key=_score)
    exact = yield from judge.distance(best[1], best[2], label)
    before = yield from judge.distance(plain[1], plain[2], label)
    if exact > before:
        best, exact = plain, before
    guided = "" if config.guidance == 1 else f", {2 * calls} with guidance"
    yield Note(
        f"{calls} calls{guided}: {best[1]}, {best[2].words}: distance {exact:.4f}, {SOLVERS[0]} {before:.4f}"
    )
    figures: dict[str, float | str] = {
        "distance": round(exact, 6), f"distance of {SOLVERS[0]} on its own levels": round(before, 6),
        "distance on the pictures searched on": round(best[0], 6), "fine solution": f"heun, {config.fine} steps",
    }  # fmt: skip
    chosen_by = ChosenBy(
        command=command_line(config.model_copy(update={"device": "auto"}), "undiffuse", "compare"),
        date=datetime.date.today().isoformat(), data="samples of the prior itself", pictures=2 * config.n,
        figures=figures,
    )  # fmt: skip
    return SamplerPreset(
        prior=prior_key(plan.opened), calls=calls, sampler=best[1], grid=best[2].words,
        sigmas=tuple(best[2].sigmas[:-1].tolist()), chosen_by=chosen_by,
    )  # fmt: skip


def _score(one: tuple[float, str, Levels]) -> float:
    return one[0]


def _steps(solver: str, calls: int) -> int:
    """Levels for so many calls: heun takes two a step and one in the last."""
    return (calls + 1) // 2 if solver == "heun" else calls


def _plain(plan: Plan, steps: int) -> Iterator[Levels]:
    """Those of Karras et al. over what the prior knows, and those of its schedule."""
    full = fine(plan, 2).sigmas[:-1].tolist()
    yield _karras(steps, full[1], full[0], 7.0)
    config = plan.opened.config
    if config is not None and config.schedule is not None and steps <= len(config.discrete()):
        for spacing in SPACINGS:
            yield Levels(f"timesteps, {spacing}", from_timesteps(config.discrete(), steps, spacing))


def _karras(steps: int, low: float, high: float, rho: float) -> Levels:
    words = f"karras, sigma {high:.4g} to {low:.4g}, rho {rho:.3g}"
    return Levels(words, karras(steps, sigma_min=low, sigma_max=high, rho=rho), (low, high, rho))


def _descend(
    search: Search, start: tuple[float, str, Levels], rounds: int, label: str
) -> Generator[Event, None, tuple[float, str, Levels]]:
    """One of sigma_min, sigma_max and rho after the other, up and down by a factor, whose root is taken each round."""
    best, factor = start, STEP
    lowest, highest, _ = start[2].karras or (0.0, 0.0, 0.0)
    for _ in range(rounds):
        for axis in range(3):
            for way in (factor, 1 / factor):
                values = list(best[2].karras or ())
                values[axis] *= way if axis < 2 else way**0.5
                low, high, rho = values
                if not (lowest <= low < high <= highest * (1 + 1e-9) and RHO[0] <= rho <= RHO[1]):
                    continue
                levels = _karras(len(best[2].sigmas) - 1, low, high, rho)
                found = yield from search.distance(best[1], levels, label)
                if found < best[0]:
                    best = (found, best[1], levels)
                    break
        factor **= 0.5
    return best
