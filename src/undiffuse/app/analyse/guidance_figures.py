"""The figures of `undiffuse analyse guidance`, and its table."""

import math
from typing import Any

import torch
from torch import Tensor

from undiffuse.analysis.geometry import distance, rms
from undiffuse.analysis.guidance import Drawn, Guided, similarity, unrelated
from undiffuse.app.analyse.draw import (
    INK,
    OKABE_ITO,
    finish,
    frame,
    line_style,
    plain_log,
    ramp,
    sigma_axis,
    style,
)
from undiffuse.app.analyse.section import Cell, Figure, Table
from undiffuse.app.analyse.trajectory_measures import common

UNIT = "white - black = 1"
LINES = 6  # trajectories that are drawn whole


def draw(found: Guided) -> tuple[Figure, ...]:
    """The six figures, those of a field and of a student where there is one, and the numbers by scale."""
    with style():
        figures = [in_one_frame(found)]
        if len(found.drawn) > 1:
            figures.append(pairs(found))
        figures.append(grid(found))
        if len(found.drawn) > 1:
            figures.append(alike(found))
        if found.fields:
            figures.append(field(found))
        if found.others:
            figures.append(beside_student(found))
        figures.append(by_scale(found))
    return tuple(figures)


def numbers(found: Guided) -> Table:
    """A row for each scale, of the student too."""
    rows: list[tuple[Cell, ...]] = []
    for name, drawn in _runs(found):
        first = next(one for one in drawn if one.scale == 1)
        for one in drawn:
            rows.append(
                (
                    name, one.scale, one.saturation.beyond, one.saturation.contrast, one.saturation.colour,
                    one.diversity, one.diversity / first.diversity if first.diversity > 0 else None, one.accuracy,
                )
            )  # fmt: skip
    columns = (
        "prior", "scale", "share of pixels beyond white and black", "mean |x|, [-1, 1]", "colour saturation",
        f"diversity, {UNIT}", "diversity over that at 1", "class accuracy",
    )  # fmt: skip
    caption = (
        "before clipping: the share of the pixels of which a channel is beyond [-1, 1] (0: none); the mean "
        "distance from mid-grey (1: black and white only); half the distance of the highest from the lowest "
        "channel (0: grey). Diversity is the mean distance of two pictures of one class, root mean square over "
        "pixels. Class accuracy is the share of pictures in which a classifier sees the class that was asked for. "
        "A dash: not measured."
    )
    return Table("scales", "By scale", columns, rows, caption)


def _runs(found: Guided) -> list[tuple[str, "tuple[Drawn, ...]"]]:
    return [(found.name, found.drawn)] + ([(found.student, found.others)] if found.student else [])


def _looks(found: Guided) -> dict[float, Any]:
    """A colour a scale, rising from dark to light; 1 in the text's."""
    guided = [one.scale for one in found.drawn if one.scale != 1]
    return {1.0: INK, **dict(zip(guided, ramp(len(guided), "plasma"), strict=True))}


def _axes_named(axes: Any, found: Guided, *, ylabel: bool = True) -> None:
    shares = [f"{100 * share:.0f} %" for share in found.frame.explained.tolist()]
    axes.set_xlabel(f"axis 1 ({shares[0]})")
    if ylabel:
        axes.set_ylabel(f"axis 2 ({shares[1]})")


def _placed(found: Guided, points: Tensor) -> Tensor:
    """(..., k) -> (..., 2): root mean squares over a picture's numbers, white - black = 1."""
    return found.frame(points) / 2 / math.sqrt(points.shape[-1])


def in_one_frame(found: Guided) -> Figure:
    """All scales in the frame of the unguided one."""
    figure, axes = frame(7.2, 5.4)
    looks, rows = _looks(found), list[tuple[Cell, ...]]()
    for one in found.drawn:
        ends = _placed(found, one.trajectories.states[-1])
        paths = _placed(found, one.trajectories.estimates)
        axes.scatter(*ends.T.numpy(), s=9, color=looks[one.scale], alpha=0.45, linewidths=0)
        for i in range(min(LINES, paths.shape[1])):
            label = f"scale {one.scale:g}" if i == 0 else None
            axes.plot(*paths[:, i].T.numpy(), color=looks[one.scale], linewidth=1.2, label=label)
        rows += [(one.scale, i, *ends[i].tolist()) for i in range(len(ends))]
    _axes_named(axes, found)
    axes.legend()
    return finish(
        figure,
        "frame",
        "All scales in one frame",
        f"Points: all final pictures. Lines: the estimates of the first {min(LINES, found.unguided.trajectories.n)} "
        "from noise to picture, the same noise at every scale. The axes are the directions in which the unguided "
        f"estimates vary most, the same for all scales; in brackets the share of their variance. Units: {UNIT}, as "
        "a root mean square over pixels. Lines of one start that part early are pictures that guidance changed "
        "altogether; points that draw together have lost diversity.",
        Table("frame", "Final pictures in the frame", ("scale", "picture", "axis 1", "axis 2"), rows),
    )


def pairs(found: Guided) -> Figure:
    """Guided beside unguided, a panel a scale."""
    guided = [one for one in found.drawn if one.scale != 1]
    columns = min(3, len(guided))
    height = -(-len(guided) // columns)
    size = (3.4 * columns + 0.6, 3.3 * height + 0.4, height, columns + (len(guided) == 1))
    figure, panels = frame(*size, sharex=True, sharey=True)
    flat, looks, rows = list(panels.flat), _looks(found), list[tuple[Cell, ...]]()
    start = _placed(found, found.unguided.trajectories.states[-1])
    far = unrelated(found.unguided.trajectories.states[-1], found.labels)
    for axes, one in zip(flat, guided, strict=False):
        end = _placed(found, one.trajectories.states[-1])
        moved = distance(one.trajectories.states[-1:], found.unguided.trajectories.states[-1:])[0] / 2
        for a, b in zip(start.tolist(), end.tolist(), strict=True):
            axes.plot((a[0], b[0]), (a[1], b[1]), color=looks[one.scale], linewidth=0.8, alpha=0.6)
        axes.scatter(*start.T.numpy(), s=10, color=INK, linewidths=0, label="scale 1")
        axes.scatter(*end.T.numpy(), s=10, color=looks[one.scale], linewidths=0, label=f"scale {one.scale:g}")
        axes.set_title(f"scale {one.scale:g}: moved by {moved.mean():.2g}")
        _axes_named(axes, found, ylabel=axes in flat[::columns])
        rows += [
            (one.scale, i, *start[i].tolist(), *end[i].tolist(), moved[i].item()) for i in range(len(end))
        ]
    for axes in flat[len(guided) :]:
        axes.remove()
    names = ("scale", "picture", "axis 1 at 1", "axis 2 at 1", "axis 1", "axis 2", f"distance, {UNIT}")
    return finish(
        figure,
        "pairs",
        "Guided against unguided",
        "Each line joins two final pictures from the same noise: scale 1, in the text's colour, and the guided "
        "one. Long lines are pictures that guidance changed; lines that all point one way are a change of colour "
        f"or contrast that all pictures share. In the titles the mean distance in all directions, {UNIT}; two "
        f"unguided pictures of a class are {far / 2:.2g} apart.",
        Table("pairs", "Guided against unguided", names, rows),
        wide=True,
    )


def grid(found: Guided) -> Figure:
    """Final pictures: rows of scales, columns of noise."""
    runs = [(name, one) for name, drawn in _runs(found) for one in drawn]
    columns = found.drawn[0].pictures.shape[0]
    figure, panels = frame(0.95 * columns + 1.5, 0.98 * len(runs) + 0.3, len(runs), columns)
    panels = panels.reshape(len(runs), columns) if hasattr(panels, "reshape") else [[panels]]
    for row, (name, one) in zip(panels, runs, strict=True):
        for axes, picture in zip(row, one.pictures, strict=True):
            shown = (picture.clamp(-1, 1) + 1) / 2
            image = shown.permute(1, 2, 0).numpy() if shown.shape[0] == 3 else shown[0].numpy()
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            for spine in axes.spines.values():
                spine.set_visible(False)
        prefix = f"{name}\n" if found.student else ""
        row[0].set_ylabel(f"{prefix}scale {one.scale:g}", rotation=0, ha="right", va="center")
    return finish(
        figure,
        "pictures",
        "Final pictures",
        "A row a scale, a column a start in noise, so that a column is one picture under more and more guidance. "
        "Look for contrast and colour that grow with the scale, details that go, and pictures that become alike "
        "along a row.",
        Table(
            "pictures",
            "Final pictures",
            ("prior", "scale", "picture", f"distance to scale 1, {UNIT}"),
            _moved(found),
        ),
        wide=True,
    )


def _moved(found: Guided) -> list[tuple[Cell, ...]]:
    """How far each final picture is from the same prior's at scale 1."""
    rows: list[tuple[Cell, ...]] = []
    for name, drawn in _runs(found):
        first = next(one for one in drawn if one.scale == 1).trajectories.states[-1:]
        for one in drawn:
            apart = distance(one.trajectories.states[-1:], first)[0] / 2
            rows += [(name, one.scale, i, value) for i, value in enumerate(apart.tolist())]
    return rows


def alike(found: Guided) -> Figure:
    """Similarity and distance to the unguided trajectory by level."""
    figure, panels = frame(9.6, 4.2, 1, 2)
    (left, right), looks, rows = panels[0], _looks(found), list[tuple[Cell, ...]]()
    base = found.unguided.trajectories
    centre = base.estimates.double().mean(1, keepdim=True)
    far = torch.tensor([unrelated(points, found.labels) / 2 for points in base.estimates])
    for one in found.drawn:
        if one.scale == 1:
            continue
        cosine = similarity(base.estimates, one.trajectories.estimates, centre)
        apart = distance(base.estimates, one.trajectories.estimates) / 2
        for axes, values in ((left, cosine), (right, apart)):
            _banded(axes, base.sigmas, values, looks[one.scale], f"scale {one.scale:g}")
        for level, likeness, gap in zip(base.sigmas.tolist(), cosine, apart, strict=True):
            rows.append((one.scale, level / 2, likeness.nanmean().item(), gap.mean().item()))
    keep = base.sigmas > 0
    right.plot(base.sigmas[keep] / 2, far[keep], color=INK, linestyle=":", label="two pictures of a class")
    left.set_ylabel("similarity of the estimates")
    left.set_ylim(top=1.02)
    right.set_ylabel(f"distance of the estimates, {UNIT}")
    for axes in (left, right):
        sigma_axis(axes)
    left.legend()
    right.legend()
    return finish(
        figure,
        "similarity",
        "When guidance takes another way",
        "The guided estimate beside the unguided one from the same noise, at the same noise level (noise at the "
        "left). Left: the cosine between their differences from the mean unguided estimate of that level: 1 the "
        f"same, 0 as unrelated as two pictures. Right: their distance, {UNIT}; at the dotted line they are as far "
        "apart as two unguided pictures of a class. Lines are means, bands the middle 80 % of the pictures.",
        Table(
            "similarity",
            "Similarity by noise level",
            ("scale", "sigma", "similarity", f"distance, {UNIT}"),
            rows,
        ),
        wide=True,
    )


def _banded(axes: Any, sigmas: Tensor, values: Tensor, colour: Any, label: str) -> None:
    keep = sigmas > 0
    x, y = (sigmas[keep] / 2).numpy(), values[keep].double()
    low, high = torch.nanquantile(y, 0.1, 1), torch.nanquantile(y, 0.9, 1)
    axes.plot(x, y.nanmean(1).numpy(), color=colour, label=label)
    axes.fill_between(x, low.numpy(), high.numpy(), color=colour, alpha=0.15, linewidth=0)


def field(found: Guided) -> Figure:
    """Where guidance pushes, in the frame."""
    count = len(found.fields)
    figure, panels = frame(3.5 * count + 0.6, 3.9, 1, max(2, count), sharex=True, sharey=True)
    rows: list[tuple[Cell, ...]] = []
    ordered = sorted(found.fields, key=lambda one: -one.sigma)
    for axes, one in zip(panels[0], ordered, strict=False):
        at, push = _placed(found, one.at), _in_frame(found, one.push)
        longest = push.square().sum(1).sqrt().max().item() or 1.0
        size = rms(one.push.double()) / 2
        drawn = at + push * (_span(found) / 4 / longest)
        axes.quiver(
            *at.T.numpy(),
            *(drawn - at).T.numpy(),
            color=OKABE_ITO[0],
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.006,
        )
        axes.update_datalim(drawn.numpy())
        axes.autoscale_view()
        axes.scatter(*at.T.numpy(), s=5, color=INK, linewidths=0)
        axes.set_title(f"sigma {one.sigma / 2:.2g}: push {size.mean():.2g}")
        _axes_named(axes, found, ylabel=axes is panels[0][0])
        rows += [
            (one.sigma / 2, i, *at[i].tolist(), *push[i].tolist(), size[i].item()) for i in range(len(at))
        ]
    for axes in panels[0][count:]:
        axes.remove()
    names = ("sigma", "picture", "axis 1", "axis 2", "push along 1", "push along 2", f"whole push, {UNIT}")
    return finish(
        figure,
        "field",
        "Divergence field: where guidance pushes",
        "Dots are unguided estimates at one noise level; the arrow at each is what a scale of 2 in place of 1 "
        "adds to the estimate at that very state: the estimate with the class less that without. A scale of s "
        "pushes s - 1 times as far. Arrows of a panel are drawn to its longest, a quarter of the frame; the "
        f"titles have the mean size in all directions, {UNIT}. Arrows that part push pictures away "
        "from each other; arrows that meet make them alike.",
        Table("field", "Where guidance pushes", names, rows),
        wide=True,
    )


def _in_frame(found: Guided, vectors: Tensor) -> Tensor:
    """A difference of points along the axes."""
    return vectors.to(found.frame.axes) @ found.frame.axes.T / 2 / math.sqrt(vectors.shape[-1])


def _span(found: Guided) -> float:
    ends = _placed(found, found.unguided.trajectories.states[-1])
    return (ends.amax(0) - ends.amin(0)).max().item() or 1.0


def beside_student(found: Guided) -> Figure:
    """Distance of the student from its teacher by level, and of the ends by scale."""
    figure, panels = frame(9.6, 4.2, 1, 2)
    (left, right), looks, rows = panels[0], _looks(found), list[tuple[Cell, ...]]()
    base = found.unguided.trajectories
    ends: dict[str, list[tuple[float, float]]] = {"student": [], "guidance": []}
    for one in found.drawn:
        other = next((it for it in found.others if it.scale == one.scale), found.others[0])
        mine, theirs = common(one.trajectories, other.trajectories)
        sigmas = one.trajectories.sigmas[mine]
        apart = distance(one.trajectories.estimates[mine], other.trajectories.estimates[theirs]) / 2
        named = f"scale {one.scale:g}" + (
            "" if other.scale == one.scale else f" (student at {other.scale:g})"
        )
        _banded(left, sigmas, apart, looks[one.scale], named)
        ends["student"].append((one.scale, apart[-1].mean().item()))
        moved = distance(one.trajectories.states[-1:], base.states[-1:])[0].mean().item() / 2
        ends["guidance"].append((one.scale, moved))
        rows += [
            (one.scale, other.scale, level / 2, gap.mean().item())
            for level, gap in zip(sigmas.tolist(), apart, strict=True)
        ]
    sigma_axis(left)
    left.set_yscale("log")
    plain_log(left.yaxis)
    left.set_ylabel(f"distance of the estimates, {UNIT}")
    left.legend()
    right.plot(*zip(*ends["student"], strict=True), label="student to teacher, same scale", **line_style(1))
    right.plot(*zip(*ends["guidance"], strict=True), label="teacher, to its own scale 1", **line_style(0))
    right.set_xlabel("scale")
    right.set_ylabel(f"distance of the final pictures, {UNIT}")
    right.set_ylim(bottom=0)
    right.legend()
    return finish(
        figure,
        "student",
        f"{found.student} beside {found.name}",
        "Left: how far the student's estimate is from the teacher's at the same noise level, from the same noise "
        "and at the same scale; lines are means, bands the middle 80 % of the pictures. Right: the distance of "
        "their final pictures by scale, beside what guidance itself does to the teacher's. A student below the "
        "teacher's line is nearer to its teacher than the guided teacher is to the unguided one; a line that climbs "
        "faster than the teacher's means that guidance blows up what the student does wrong.",
        Table(
            "student",
            "Student beside teacher",
            ("scale", "scale of the student", "sigma", f"distance, {UNIT}"),
            rows,
        ),
        wide=True,
    )


def by_scale(found: Guided) -> Figure:
    """The numbers of the table."""
    measured = any(one.accuracy is not None for one in found.drawn)
    count = 3 if measured else 2
    figure, panels = frame(3.6 * count, 3.6, 1, count)
    titles = ("pixels beyond white and black, %", "diversity over that at scale 1", "class accuracy, %")
    for number, (name, drawn) in enumerate(_runs(found)):
        scales = [one.scale for one in drawn]
        first = next(one for one in drawn if one.scale == 1).diversity
        values = [
            [100 * one.saturation.beyond for one in drawn],
            [one.diversity / first if first > 0 else math.nan for one in drawn],
            [math.nan if one.accuracy is None else 100 * one.accuracy for one in drawn],
        ]
        for axes, shown in zip(panels[0], values, strict=False):
            axes.plot(scales, shown, label=name, **line_style(number))
    for axes, title in zip(panels[0], titles, strict=False):
        axes.set_xlabel("scale")
        axes.set_ylabel(title)
        axes.set_ylim(bottom=0)
    panels[0][0].legend()
    return finish(
        figure,
        "by_scale",
        "What guidance costs",
        "By scale: the share of pixels that would have to be clipped; the mean distance of two pictures of one "
        "class over that without guidance, 1 where nothing is lost"
        + ("; how often a classifier sees the class." if measured else "."),
        numbers(found),
        wide=True,
    )
