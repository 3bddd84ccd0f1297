"""The picture: quality against each cost, a row for each measure, with the fronts."""

import math
from collections.abc import Sequence
from typing import Any

from undiffuse.app.analyse.draw import INK, MARKERS, OKABE_ITO, finish, frame, style
from undiffuse.app.analyse.section import Figure, Table
from undiffuse.app.axes import SPANS, shown
from undiffuse.app.pareto.points import COSTS, Measure, Point

PALE = 0.35  # of what is dominated
PANEL = (3.5, 3.1)  # inches
UNITS = {"calls": "network calls a picture", "parameters": "parameters", "flop": "FLOP a picture"}
UNITS["seconds"] = "seconds a picture"
PLACES = ((5, 4), (5, -13), (-5, 4), (-5, -13))  # of a label, in points from its marker
APART = 13.0  # points between labels that can be read
CAPTION = (
    "Each row is a task and a measure, each column a cost. A colour with its shape is a prior, its points joined in "
    "the order of calls. Full points are on the front of that panel: no other is better and costs as little, and none "
    "is cheaper and as good. Pale ones are dominated. The dotted stairs are the best that a budget buys. Numbers "
    "beside points are network calls. Bars are 95 %, as other pictures would have it. All priors restore the same "
    "pictures, which are harder or easier for all: differences in PSNR and LPIPS are known better than the bars say. "
    "Seconds are of this machine and what else it did; FLOP and calls are not."
)


def figure(points: Sequence[Point], table: Table) -> Figure:
    """All measures and costs in one picture; points have their fronts. table: the numbers behind it."""
    measures = list(dict.fromkeys(point.measure for point in points))
    looks = {name: look(number, role) for number, (name, role) in enumerate(_priors(points))}
    with style():
        width, height = PANEL[0] * len(COSTS), PANEL[1] * len(measures) + 0.7
        canvas, panels = frame(width, height, len(measures), len(COSTS), sharey="row", sharex="col")
        groups = [[point for point in points if point.measure == measure] for measure in measures]
        for row, measure, some in zip(panels, measures, groups, strict=True):
            for axes, name in zip(row, COSTS, strict=True):
                _panel(axes, name, some, looks)
            _quality_axis(row[0], measure, some)
        for axes, name in zip(panels[-1], COSTS, strict=True):
            _cost_axis(axes, name, points)
        _legend(canvas, looks)
        canvas.align_ylabels(panels[:, 0])
        canvas.draw_without_rendering()  # where all is, for labels that keep apart
        for row, some in zip(panels, groups, strict=True):
            for axes, name in zip(row[1:], list(COSTS)[1:], strict=True):
                _labels(axes, name, [p for p in some if name in p.on])
        return finish(canvas, "cost", "Quality against cost", CAPTION, table, wide=True)


def _priors(points: Sequence[Point]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((point.prior, point.role) for point in points))


def look(number: int, role: str) -> dict[str, Any]:
    """Colour and shape of a prior: the teacher in the text's colour; others apart up to 36 of them."""
    if role == "teacher" and number == 0:
        return {"color": INK, "marker": "*"}
    i = number % len(OKABE_ITO)
    return {"color": OKABE_ITO[i], "marker": MARKERS[(i + number // len(OKABE_ITO)) % len(MARKERS)]}


def _panel(axes: Any, name: str, points: Sequence[Point], looks: dict[str, dict[str, Any]]) -> None:
    known = [point for point in points if math.isfinite(point.value)]
    for prior, one in looks.items():
        some = sorted((point for point in known if point.prior == prior), key=lambda point: point.calls)
        places = [point.cost(name) for point in some]
        axes.plot(places, [point.value for point in some], color=one["color"], alpha=PALE, linewidth=1)
        for full in (False, True):
            _points(axes, name, [point for point in some if (name in point.on) is full], one, full=full)
    _stairs(axes, [(point.cost(name), point.value) for point in known if name in point.on])


def _points(axes: Any, name: str, points: Sequence[Point], one: dict[str, Any], *, full: bool) -> None:
    alpha = 1.0 if full else PALE
    barred = [point for point in points if math.isfinite(point.low)]
    if barred:
        lows, highs = [point.low for point in barred], [point.high for point in barred]
        axes.vlines(
            [p.cost(name) for p in barred], lows, highs, color=one["color"], alpha=alpha, linewidth=1.2
        )
    size = 11 if one["marker"] == "*" else 7
    axes.plot(
        [point.cost(name) for point in points], [point.value for point in points], linestyle="", alpha=alpha,
        markersize=size if full else 0.8 * size, markeredgewidth=0.8 if full else 0, markeredgecolor=INK,
        zorder=4 if full else 3, **one,
    )  # fmt: skip


def _stairs(axes: Any, corners: Sequence[tuple[float, float]]) -> None:
    ordered = sorted(corners)
    if len(ordered) > 1:
        costs, values = zip(*ordered, strict=True)
        axes.step(costs, values, where="post", color=INK, linestyle=":", linewidth=1.2, zorder=2)


def _labels(axes: Any, name: str, points: Sequence[Point]) -> None:
    """Calls beside the points of the front, each at the first place that is free; none where there is no room."""
    scale = 72 / axes.figure.dpi  # from pixels to points
    at = [axes.transData.transform((point.cost(name), point.value)) * scale for point in points]
    taken: list[tuple[float, float]] = []
    for i, point in enumerate(points):
        others = at[:i] + at[i + 1 :]
        for right, up in PLACES:
            place = (at[i][0] + 2 * right, at[i][1] + up + 4)  # the label's middle
            free = all(math.dist(place, other) > APART for other in taken)
            if free and all(math.dist(place, other) > APART / 2 for other in others):
                taken.append(place)
                axes.annotate(
                    f"{point.calls:g}", (point.cost(name), point.value), (right, up), textcoords="offset points",
                    ha="left" if right > 0 else "right", fontsize=9,
                )  # fmt: skip
                break


def _quality_axis(axes: Any, measure: Measure, points: Sequence[Point]) -> None:
    """Logarithmic for distances that span much; where an unbiased one is below 0, linear about it."""
    known = [point for point in points if math.isfinite(point.value)]
    values = [point.value for point in known]
    if values and not measure.higher and max(values) > SPANS * abs(min(values)):
        if min(values) > 0:
            axes.set_yscale("log", nonpositive="clip")
        else:
            halves = [(p.high - p.low) / 2 for p in known if p.high > p.low]
            axes.set_yscale("symlog", linthresh=min(halves, default=max(values) / SPANS))
        _plain(axes.yaxis)
    axes.set_ylabel(f"{measure.task}: {measure.title}\n({measure.better})")


def _cost_axis(axes: Any, name: str, points: Sequence[Point]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlabel(UNITS[name])
    if name == "calls":
        counts = sorted({round(point.calls) for point in points if point.calls >= 1})
        powers = [2**i for i in range(20) if counts and counts[0] <= 2**i <= counts[-1]]
        axes.xaxis.set_major_locator(FixedLocator(powers if len(powers) > 1 else counts))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(round(value))))
    else:
        _plain(axes.xaxis)


def _plain(axis: Any) -> None:
    """Round numbers in words of few letters, more of them where the axis spans little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_data_interval()
    if axis.get_scale() == "log" and low > 0:
        subs = (1.0, 2.0, 5.0) if high / low < 50 else (1.0,)
        axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: shown(float(f"{value:.6g}"))))
    axis.set_minor_formatter(NullFormatter())


def _legend(canvas: Any, looks: dict[str, dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", markersize=10 if one["marker"] == "*" else 7, label=name, **one)
        for name, one in looks.items()
    ]
    canvas.legend(handles=handles, loc="outside upper left", ncols=min(6, len(handles)), handletextpad=0.2)
