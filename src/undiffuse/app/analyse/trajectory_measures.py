"""Numbers of trajectories side by side. Distances leave here in units where white - black = 1."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.analysis.ensembles import energy_distance, floor, sliced_wasserstein
from undiffuse.analysis.geometry import distance
from undiffuse.analysis.trajectory import Trajectories

NORMAL95 = 1.96
SETS = 11  # levels at which sets are compared


@dataclass(frozen=True, slots=True)
class Against:
    """A prior beside the first one, at the levels that both visit."""

    label: str
    sigmas: Tensor  # (T,) in [-1, 1] units
    states: Tensor  # (T, n), distance between the two states of each picture
    estimates: Tensor  # (T, n), between the estimates


@dataclass(frozen=True, slots=True)
class Sets:
    """The estimates of a prior and of the first one as two sets, at some levels."""

    label: str
    sigmas: Tensor  # (L,), in [-1, 1] units
    paired: Tensor  # (L,), sliced Wasserstein distance of all, from the same noise: 0 for the same prior
    halves: Tensor  # (L,), between halves from other noise: at the floor for the same prior
    floor: Tensor  # (L,), between halves of the first prior
    spread: Tensor  # (L,), standard deviation of the floor over splits
    energy: Tensor  # (L,), energy distance of all
    energy_halves: Tensor
    energy_floor: Tensor


@dataclass(frozen=True, slots=True)
class Measured:
    """All that is shown."""

    trajectories: tuple[Trajectories, ...]
    others: tuple[Against, ...]  # all but the first
    another: Against  # the first prior's pictures beside others of its own, of one class where there are two of one
    sets: tuple[Sets, ...]

    def summary(self) -> str:
        """What was found, in two sentences."""
        first = self.trajectories[0]
        bent = first.path.turning.mean().item()
        told = f"{first.n} trajectories of {first.label} turn by {bent:.3g} radians in all."
        if not self.others:
            return told
        far = self.another.states[-1].mean().item()
        ends: list[str] = []
        for it in self.others:
            end = it.states[-1].mean().item()
            share = f" ({100 * end / far:.0f} % of the distance of two pictures)" if far > 0 else ""
            ends.append(f"{it.label} ends {end:.3g} from {first.label}'s pictures{share}")
        return f"{told} From the same noise, {'; '.join(ends)}."


def measured(found: Sequence[Trajectories], classes: int) -> Measured:
    """classes: pictures i and i + classes are of one class."""
    first, rest = found[0], found[1:]
    shift = classes if classes < first.n else 1  # no class has two: neighbours
    another = Against(
        f"another picture of {first.label}",
        first.sigmas,
        distance(first.states[:, shift:], first.states[:, :-shift]) / 2,
        distance(first.estimates[:, shift:], first.estimates[:, :-shift]) / 2,
    )
    return Measured(
        tuple(found),
        tuple(against(first, it) for it in rest),
        another,
        tuple(sets(first, it) for it in rest) if first.n >= 4 else (),
    )


def against(first: Trajectories, other: Trajectories) -> Against:
    """ValueError if the two have no level above 0 in common."""
    mine, theirs = common(first, other)
    return Against(
        other.label,
        first.sigmas[mine],
        distance(first.states[mine], other.states[theirs]) / 2,
        distance(first.estimates[mine], other.estimates[theirs]) / 2,
    )


def common(first: Trajectories, other: Trajectories) -> tuple[list[int], list[int]]:
    """Where in each the levels are that both visit: never by their number, always by sigma."""
    a, b = first.sigmas.float().tolist(), other.sigmas.float().tolist()
    places = {sigma: i for i, sigma in enumerate(b)}
    mine = [i for i, sigma in enumerate(a) if sigma in places]
    if len(mine) < 2:
        raise ValueError(
            f"{other.label} and {first.label} visit no noise level together; give the same --steps"
        )
    return mine, [places[a[i]] for i in mine]


def sets(first: Trajectories, other: Trajectories) -> Sets:
    """At up to SETS of the common levels, evenly chosen, the last one being the pictures."""
    mine, theirs = common(first, other)
    chosen = sorted({round(i * (len(mine) - 1) / (SETS - 1)) for i in range(SETS)})
    rows: list[list[float]] = []
    for i in chosen:
        a, b = first.estimates[mine[i]], other.estimates[theirs[i]]
        row = [sliced_wasserstein(a, b), floor(a, sliced_wasserstein, b=b)[0], *floor(a, sliced_wasserstein)]
        rows.append(
            row + [energy_distance(a, b), floor(a, energy_distance, b=b)[0], floor(a, energy_distance)[0]]
        )
    sigmas = first.sigmas[[mine[i] for i in chosen]]
    return Sets(other.label, sigmas, *(torch.tensor(rows, dtype=torch.float64).T / 2))


def mean_and_range(values: Tensor) -> tuple[float, float]:
    """Over pictures: the mean, and half the width of its 95 % interval. NaN is left out."""
    values = values[values.isfinite()].double()
    if len(values) < 2:
        return (values.mean().item() if len(values) else float("nan")), float("nan")
    return values.mean().item(), NORMAL95 * values.std().item() / len(values) ** 0.5


def per_fold(trajectories: Trajectories) -> tuple[Tensor, Tensor, Tensor]:
    """Turning and movement by level, for each factor e of sigma: so it is no matter how fine the levels are.

    (levels (S - 2,), turns of the path in degrees (S - 3, n), moves of the estimate (S - 2, n)); levels are geometric
    means of neighbours, in [-1, 1] units, the last one of moves only. A step of DDIM has the direction of the flow
    where it begins, so that two steps turn by what the flow turns between their beginnings; solvers of higher order
    turn half a step later.
    """
    log = trajectories.levels[:-1].log()
    wide = (log[:-1] - log[1:])[:, None]
    turns = trajectories.path.turns[:-1].rad2deg() / wide[:-1]
    return (0.5 * (log[:-1] + log[1:])).exp(), turns, trajectories.guess.steps / 2 / wide
