"""Figures and tables of trajectories side by side."""

from typing import Any

import torch
from torch import Tensor

from undiffuse.app.analyse import draw
from undiffuse.app.analyse.section import Cell, Figure, Table
from undiffuse.app.analyse.trajectory_measures import Against, Measured, mean_and_range, per_fold

UNIT = "white - black = 1"
BAND = (0.1, 0.9)  # of the pictures


def figures(found: Measured) -> tuple[Figure, ...]:
    """Each with its table of numbers."""
    with draw.style():
        drawn = [_by_level(found), _shapes(found)]
        if found.others:
            drawn.insert(0, _distances(found))
        if found.sets:
            drawn.append(_sets(found))
    return tuple(drawn)


def geometry_table(found: Measured) -> Table:
    """A row for each prior."""
    rows: list[tuple[Cell, ...]] = []
    for it in found.trajectories:
        cells: list[Cell] = [it.label]
        for values in (
            it.path.length / 2,
            1 - it.path.straightness,
            it.path.turning,
            it.guess.length / 2,
            it.guess.straightness,
        ):
            cells += mean_and_range(values)
        rows.append(tuple(cells))
    columns = (
        "prior", f"length of the path, {UNIT}", "+-", "1 - straightness", "+-", "turning, radians", "+-",
        f"length of the estimate's path, {UNIT}", "+-", "its straightness", "+-",
    )  # fmt: skip
    caption = (
        "means over pictures, +- half the width of their 95 % interval. The path goes from noise to the picture "
        "in x = x0 + sigma n; lengths are root mean squares over pixels, so that the path is at least about the "
        "highest sigma long. Straightness is the distance from end to end over the length: 1 for a straight line, "
        "so that 1 - straightness is 0. Turning is the sum of all angles between steps: 0 for a straight line. "
        "The estimate is the clean picture as the prior sees it on the way; it stands still if all is known at "
        "once."
    )
    return Table("geometry", "The shape of the paths", columns, rows, caption)


def against_table(found: Measured) -> tuple[Table, ...]:
    """A row for each prior but the first; none if there is one prior alone."""
    if not found.others:
        return ()
    far = found.another.states[-1].mean().item()
    sets = {it.label: it for it in found.sets}
    rows: list[tuple[Cell, ...]] = []
    for it in found.others:
        mean, wide = mean_and_range(it.states[-1])
        one = sets.get(it.label)
        told: list[Cell] = [None] * 6
        if one is not None:
            kinds = (one.paired, one.halves, one.floor, one.energy, one.energy_halves, one.energy_floor)
            told = [values[-1].item() for values in kinds]
        rows.append((it.label, mean, wide, mean / far if far > 0 else None, *told))
    columns = (
        "prior", f"distance of the ends, {UNIT}", "+-", "over that of two pictures", f"sliced Wasserstein, {UNIT}",
        "of halves", "its floor", f"energy distance, {UNIT}", "of halves", "its floor",
    )  # fmt: skip
    first = found.trajectories[0].label
    caption = (
        f"pictures of the same noise beside those of {first}. The distance of the ends is a root mean square over "
        "pixels, 0 for the same prior, and 1 in the third column for pictures that have no more in common than "
        f"two of {first} of one class. The others compare sets and do not care which picture is which: 0 for the "
        "same set. Of halves: half of one set beside the other half of the other's noise, and the floor is the "
        f"same with {first} on both sides; a value of halves near the floor means that so few pictures cannot tell "
        "the two sets apart."
    )
    return (Table("against", f"Beside {first}", columns, rows, caption),)


def _distances(found: Measured) -> Figure:
    figure, axes = draw.frame(11, 4.2, 1, 2, sharey=True)
    first = found.trajectories[0].label
    rows: list[tuple[Cell, ...]] = []
    for panel, name in zip(axes[0], ("states", "estimates"), strict=True):
        every = [(found.another, {"color": draw.INK, "linestyle": ":"})]
        every += [(it, draw.line_style(i + 1)) for i, it in enumerate(found.others)]
        for it, look in every:
            values, label = getattr(it, name), it.label
            look = {**look, "markevery": 0.1} if "marker" in look else look
            _banded(panel, it.sigmas, values, label, look)
            rows += [(name, label, *row) for row in _rows(it.sigmas, values)]
        draw.sigma_axis(panel)
        panel.set_title({"states": "states x", "estimates": "estimates of the picture"}[name])
    top = 1.5 * max(_highest(it) for it in (*found.others, found.another))
    axes[0, 0].set(yscale="log", ylim=(top / 100, top), ylabel=f"distance to {first}, {UNIT}")
    draw.plain_log(axes[0, 0].yaxis)
    axes[0, 0].legend()
    caption = (
        f"how far each prior is from {first} at the same noise level, from the same noise: root mean square over "
        "pixels, the mean over pictures as a line and the middle 80 % of them as a band. Noise is at the left, "
        f"the picture at the right. The dotted line is the distance of two different pictures of {first} of one "
        "class: a prior that reaches it has lost track of the picture. States begin in the same noise, at 0, "
        "which has no place on a logarithmic axis; those of another picture begin in other noise, above the frame."
    )
    columns = ("of", "prior", f"sigma, {UNIT}", "mean", "10 %", "90 %")
    return draw.finish(
        figure, "distance", f"Distance to {first} by noise level", caption,
        Table("distance", "Distance by noise level", columns, rows), wide=True,
    )  # fmt: skip


def _highest(it: Against) -> float:
    """Of the distances that are to be seen: those of estimates, and of the ends."""
    of_all = it.estimates.nanquantile(BAND[1], dim=1).max().item()
    return max(of_all, it.states[-1].quantile(BAND[1]).item(), 1e-6)


def _by_level(found: Measured) -> Figure:
    figure, axes = draw.frame(11, 4.2, 1, 2)
    rows: list[tuple[Cell, ...]] = []
    for i, it in enumerate(found.trajectories):
        levels, turns, moves = per_fold(it)
        kinds = (("turning, degrees", levels[:-1], turns), (f"movement, {UNIT}", levels, moves))
        for panel, (name, sigmas, values) in zip(axes[0], kinds, strict=True):
            _banded(panel, sigmas, values, it.label, {**draw.line_style(i), "markevery": 0.1})
            rows += [(name, it.label, *row) for row in _rows(sigmas, values)]
    for panel, words in zip(
        axes[0], ("turning of the path, degrees", f"movement of the estimate, {UNIT}"), strict=True
    ):
        draw.sigma_axis(panel)
        panel.set_ylim(bottom=0)
        panel.set_ylabel(f"{words},\nfor a factor e of sigma")
    axes[0, 0].legend()
    caption = (
        "where on the way things are decided. Left: by how many degrees the path turns while sigma falls by a "
        "factor e = 2.7; 0 for a straight line. Right: how far the estimate of the clean picture moves in the "
        "same stretch, root mean square over pixels. Lines are means over pictures, bands the middle 80 %. Steps "
        "are best spent where the curves are high; priors whose curves differ decide at other noise levels."
    )
    columns = ("of", "prior", f"sigma, {UNIT}", "mean", "10 %", "90 %")
    return draw.finish(
        figure, "by_level", "Turning and movement by noise level", caption,
        Table("by_level", "Turning and movement by noise level", columns, rows), wide=True,
    )  # fmt: skip


def _shapes(found: Measured) -> Figure:
    kinds = (
        "turning of the path,\nradians",
        f"length of the\nestimate's path, {UNIT}",
        "straightness of the\nestimate's path",
    )
    figure, axes = draw.frame(11, 1.4 + 0.55 * len(found.trajectories), 1, 3, sharey=True)
    rows: list[tuple[Cell, ...]] = []
    generator = torch.Generator().manual_seed(0)
    for i, it in enumerate(found.trajectories):
        values = (it.path.turning, it.guess.length / 2, it.guess.straightness)
        shaken = i + 0.5 * (torch.rand(it.n, generator=generator) - 0.5)
        for panel, kind in zip(axes[0], values, strict=True):
            look = draw.line_style(i)
            panel.plot(
                kind.tolist(), shaken.tolist(), look["marker"], color=look["color"], markersize=3, alpha=0.45
            )
            panel.plot([kind.median().item()] * 2, [i - 0.35, i + 0.35], color=draw.INK, linewidth=2.2)
        rows += [(it.label, n, *(kind[n].item() for kind in values)) for n in range(it.n)]
    for panel, kind in zip(axes[0], kinds, strict=True):
        panel.set_xlabel(kind)
        panel.set_yticks(range(len(found.trajectories)), [it.label for it in found.trajectories])
        panel.margins(x=0.08)
    axes[0, 0].invert_yaxis()
    caption = (
        "a prior of few steps has few angles to add up. Shown is a dot for each picture, shaken up and down so "
        "that all are seen, and a bar at the median. A path that turns little can be followed in few steps. An "
        "estimate that travels far and with low straightness changes its mind on the way."
    )
    columns = (
        "prior",
        "picture",
        "turning, radians",
        f"length of the estimate's path, {UNIT}",
        "its straightness",
    )
    return draw.finish(
        figure, "shapes", "The shape of every path", caption, Table("shapes", "The shape of every path", columns, rows),
        wide=True,
    )  # fmt: skip


def _sets(found: Measured) -> Figure:
    figure, panel = draw.frame(6.4, 4.2)
    first, rows = found.trajectories[0].label, list[tuple[Cell, ...]]()
    one = max(found.sets, key=lambda it: len(it.sigmas))
    above = one.sigmas > 0
    low, high = ((one.floor + k * 1.96 * one.spread)[above].tolist() for k in (-1, 1))
    x = (one.sigmas[above] / 2).tolist()
    panel.fill_between(x, [max(v, 1e-6) for v in low], high, color=draw.INK, alpha=0.15, linewidth=0)
    panel.plot(
        x, one.floor[above].tolist(), color=draw.INK, linestyle=":", label=f"floor: {first} and itself"
    )
    for i, it in enumerate(found.sets):
        above = it.sigmas > 0
        look = draw.line_style(i + 1)
        panel.plot((it.sigmas[above] / 2).tolist(), it.halves[above].tolist(), label=it.label, **look)
        for row in zip(*(getattr(it, k).tolist() for k in SETS_COLUMNS), strict=True):
            rows.append((it.label, row[0] / 2, *row[1:]))
    draw.sigma_axis(panel)
    panel.set_yscale("log")
    draw.plain_log(panel.yaxis)
    panel.set_ylabel(f"sliced Wasserstein distance, {UNIT}")
    panel.legend()
    caption = (
        f"the estimates of each prior and of {first} as two sets, whichever picture is which, at each noise level. "
        f"Halves of the sets from different noise are compared. The dotted line is the same for {first} on both "
        "sides, with the 95 % range of single splits: curves within the band cannot be told apart with so many "
        "pictures; above it the priors draw different sets. A set moved by d in every pixel is at d."
    )
    columns = (
        "prior", f"sigma, {UNIT}", "sliced Wasserstein", "of halves", "floor", "deviation of the floor",
        "energy distance", "of halves", "floor",
    )  # fmt: skip
    return draw.finish(
        figure, "sets", f"The set of estimates beside that of {first}", caption,
        Table("sets", "Sets by noise level", columns, rows),
    )  # fmt: skip


SETS_COLUMNS = ("sigmas", "paired", "halves", "floor", "spread", "energy", "energy_halves", "energy_floor")


def _banded(panel: Any, sigmas: Tensor, values: Tensor, label: str, look: dict[str, Any]) -> None:
    """Mean and band over pictures (T, n) at the levels above 0."""
    shown = sigmas > 0
    x = (sigmas[shown] / 2).tolist()
    mean = values[shown].nanmean(1)
    if not mean.isfinite().any() or not (mean > 0).any():
        told = "0 at every level" if shown.any() else "too few levels"
        panel.plot([], [], label=f"{label}: {told}", **{**look, "marker": ""})
        return
    low, high = values[shown].nanquantile(torch.tensor(BAND, dtype=values.dtype), dim=1)
    panel.fill_between(x, low.tolist(), high.tolist(), color=look["color"], alpha=0.15, linewidth=0)
    mean = torch.where(mean > 0, mean, torch.nan)  # 0 has no place on a logarithmic axis
    panel.plot(x, mean.tolist(), label=label, **look)


def _rows(sigmas: Tensor, values: Tensor) -> list[tuple[Cell, ...]]:
    if not len(values):
        return []
    low, high = values.nanquantile(torch.tensor(BAND, dtype=values.dtype), dim=1)
    columns = ((sigmas / 2).tolist(), values.nanmean(1).tolist(), low.tolist(), high.tolist())
    return list(zip(*columns, strict=True))
