"""Curves as inline SVG, for reports that are one file; the page includes curves.css.

Text keeps its size at any width: only the inner SVG, with the curves themselves, is stretched.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from undiffuse.app.axes import Axis, Values, axis, shown

SIDE = 1000  # units of the plot in both directions; the browser stretches them
RAMP = (
    "#3f7de0",
    "#7b62d9",
    "#b54fc4",
    "#dc4d93",
    "#e8604f",
    "#d98a1f",
    "#9aa11f",
)  # read on white and on black


@dataclass(frozen=True)
class Line:
    """One curve; NaN is a gap. `low` and `high`: what it is the mean of reached from and to."""

    name: str
    x: Values
    y: Values
    low: Values | None = None
    high: Values | None = None
    colour: str = RAMP[0]
    thin: bool = False
    dashed: bool = False

    @property
    def classes(self) -> str:
        return " ".join(name for name in ("thin", "dashed") if getattr(self, name))


def ramp(count: int) -> list[str]:
    """Colours for `count` things in order."""
    stops = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in RAMP], float)
    places = np.linspace(0, len(RAMP) - 1, count)
    mixed = [np.interp(places, range(len(RAMP)), channel) for channel in stops.T]
    return ["#" + "".join(f"{round(float(c)):02x}" for c in colour) for colour in zip(*mixed, strict=True)]


def legend(lines: Sequence[Line]) -> Markup:
    """What is which, in words."""
    entry = Markup('<li><i class="{}" style="--line:{}"></i>{}</li>')
    items = Markup("").join(entry.format(line.classes, line.colour, line.name) for line in lines)
    return Markup('<ul class="legend">{}</ul>').format(items)


def chart(
    lines: Sequence[Line],
    *,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    log: bool | None = None,
    zero: bool = False,
    height: int = 220,
) -> Markup | None:
    """The curves in one frame; None if there is no finite value to show.

    `log` None: a log axis where it helps. `zero`: the axis begins at 0 or below.
    A band that reaches beyond what 98 % of the bands reach is cut at the frame; a curve never is.
    """
    reached = [
        band[np.isfinite(band)] for line in lines for band in (line.low, line.high) if band is not None
    ]
    reached = [np.quantile(band, (0.01, 0.99)) for band in reached if band.size]
    across = axis([line.x for line in lines])
    reached += [np.zeros(1)] if zero else []
    up = axis([line.y for line in lines] + reached, log=log, pad=0.05)
    if across is None or up is None:
        return None
    grid: list[Markup] = []
    for tick in across.ticks(5):
        place = f"{100 * float(across(np.array(tick))):.2f}%"
        grid.append(Markup('<line x1="{0}" x2="{0}" y1="0" y2="100%"/>').format(place))
        label = Markup('<text x="{}" y="100%" dy="17" text-anchor="middle">{}</text>')
        grid.append(label.format(place, shown(tick)))
    for tick in up.ticks():
        place = f"{100 * (1 - float(up(np.array(tick)))):.2f}%"
        grid.append(Markup('<line x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(place))
        label = Markup('<text x="0" dx="-6" y="{}" dy="4" text-anchor="end">{}</text>')
        grid.append(label.format(place, shown(tick)))
    drawn = Markup("").join(part for line in lines for part in _drawn(line, across, up))
    return Markup(
        '<svg class="chart" role="img" aria-label="{title}" height="{height}">'
        '<title>{title}</title><desc>{desc}</desc>{grid}'
        '<rect class="frame" width="100%" height="100%"/>'
        '<text x="-48" y="-10">{y}{log}</text><text x="100%" y="100%" dy="34" text-anchor="end">{x}</text>'
        '<svg width="100%" height="100%" viewBox="0 0 {side} {side}" preserveAspectRatio="none">{drawn}</svg></svg>'
    ).format(
        title=title, height=height, desc=description, grid=Markup("").join(grid), drawn=drawn, side=SIDE,
        x=x_label, y=y_label, log=", log axis" if up.log else "",
    )  # fmt: skip


def _drawn(line: Line, across: Axis, up: Axis) -> Iterator[Markup]:
    x, y = SIDE * across(line.x), SIDE * (1 - up(line.y))
    if line.low is not None and line.high is not None:
        low, high = SIDE * (1 - up(np.stack([line.low, line.high])))
        low = np.where(np.isnan(low) & np.isfinite(high), SIDE, low)  # zero has no place on a log axis
        low, high = np.clip(low, -SIDE, 2 * SIDE), np.clip(high, -SIDE, 2 * SIDE)
        for part in _runs(x + low + high):
            points = _points(x[part], high[part]) + _points(x[part], low[part])[::-1]
            yield Markup('<polygon style="--line:{}" points="{}"/>').format(line.colour, " ".join(points))
    for part in _runs(x + y):
        points = _points(x[part], y[part])
        shape = Markup('<polyline class="{}" style="--line:{}" points="{}"/>')
        if len(points) == 1:  # a line of one point is not drawn
            shape = Markup('<path class="dot {}" style="--line:{}" d="M{}h0"/>')
        yield shape.format(line.classes, line.colour, " ".join(points))


def _runs(values: Values) -> Iterator[slice]:
    """The stretches without NaN."""
    edges = np.flatnonzero(np.diff(np.isfinite(values).astype(int), prepend=0, append=0))
    for start, stop in edges.reshape(-1, 2).tolist():
        yield slice(start, stop)


def _points(x: Values, y: Values) -> list[str]:
    return [f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
