"""Figures of trajectories in few dimensions."""

from collections.abc import Sequence
from typing import Any

from undiffuse.analysis.embedding import Cloud, Embedding, Frame
from undiffuse.app.analyse import draw
from undiffuse.app.analyse.interactive import WAYS
from undiffuse.app.analyse.section import Cell, Figure, Table

LINES = 12  # pictures whose way is drawn as a line; of all the ends are dots
WORDS = {
    "estimates": "the estimate of the clean picture",
    "states": "the state x / sqrt(1 + sigma^2)",
}


def figures(made: Sequence[Embedding], of: str) -> tuple[Figure, ...]:
    """One for each way and number of dimensions."""
    with draw.style():
        return tuple(_one(it, of) for it in made)


def _one(it: Embedding, of: str) -> Figure:
    flat = it.dims == 2
    figure, panel = draw.frame(6.4, 5.4, subplot_kw={} if flat else {"projection": "3d"})
    for number, cloud in enumerate(it.clouds):
        _draw(panel, cloud, draw.line_style(number), flat, number)
    kinds = ("xlabel", "ylabel", "zlabel")[: it.dims]
    if any(it.axes):
        panel.set(**dict(zip(kinds, it.axes, strict=True)))
    if flat:
        panel.set_aspect("equal", adjustable="datalim")
        if not any(it.axes):
            panel.set(xticks=[], yticks=[])
    else:
        _plain_box(panel, bool(any(it.axes)))
    if len(it.clouds) > 1:
        panel.legend(loc="best" if flat else "upper left")
    caption = (
        f"{WORDS[of]} at every level, for each prior from the same noise: lines are the ways of the first {LINES} "
        f"pictures, a dot is where a way ends. {it.told[:1].upper()}{it.told[1:]}. Ways of one picture that run "
        "together are priors that agree; dots apart are pictures that differ."
    )
    title = f"{WAYS[it.way]} of {of}, {it.dims}-D"
    return draw.finish(figure, f"{it.way}_{it.dims}d", title, caption, _table(it, title))


def _draw(panel: Any, cloud: Cloud, look: dict[str, Any], flat: bool, number: int) -> None:
    points = cloud.points
    for i in range(min(LINES, points.shape[1])):
        way = points[:, i].T.tolist()
        panel.plot(*way, color=look["color"], linewidth=0.9, alpha=0.6, linestyle=look["linestyle"])
    ends = points[-1].T.tolist()
    size = 26 if number == 0 else 20
    depth = {} if flat else {"depthshade": False}
    panel.scatter(
        *ends, s=size, marker=look["marker"], alpha=0.85, label=cloud.label, linewidths=1.0, zorder=3,
        facecolors="none" if number == 0 else look["color"], edgecolors=look["color"], **depth,
    )  # fmt: skip


def _plain_box(panel: Any, numbered: bool) -> None:
    """Walls that nothing hides behind, in the text's colour."""
    for axis in (panel.xaxis, panel.yaxis, panel.zaxis):
        axis.set_pane_color((1.0, 1.0, 1.0, 0.0))
        axis.line.set_color(draw.INK)
        if not numbered:
            axis.set_ticklabels([])


def _table(it: Embedding, title: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for cloud in it.clouds:
        for level, sigma in enumerate(cloud.sigmas.tolist()):
            rows += [
                (cloud.label, picture, sigma / 2, *place)
                for picture, place in enumerate(cloud.points[level].tolist())
            ]
    columns = ("prior", "picture", "sigma, white - black = 1", *(f"axis {i + 1}" for i in range(it.dims)))
    return Table(f"{it.way}_{it.dims}d", title, columns, rows)


def variance(frame: Frame, fitted_on: str, of: str) -> Figure:
    """How much each axis shows of the points that the frame was fitted on."""
    shares = frame.explained.tolist()
    so_far = frame.explained.cumsum(0).tolist()
    numbers = list(range(1, len(shares) + 1))
    with draw.style():
        figure, panel = draw.frame(6.4, 4.0)
        panel.bar(numbers, [100 * s for s in shares], color=draw.OKABE_ITO[0], label="this axis")
        panel.plot(numbers, [100 * s for s in so_far], color=draw.INK, marker="o", label="all up to it")
        panel.set(xlabel="axis", ylabel=f"share of the variance of {fitted_on}, %", ylim=(0, 105))
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.legend()
        caption = (
            f"how much of what varies in {of} of {fitted_on} each axis of the PCA shows. The first two or three "
            "are drawn above; what they do not show is hidden there, so that points may look closer than they "
            "are, never farther."
        )
        rows: list[tuple[Cell, ...]] = list(zip(numbers, shares, so_far, strict=True))
        columns = ("axis", "share of the variance", "up to this axis")
        table = Table("variance", "Variance that the axes show", columns, rows)
        return draw.finish(figure, "variance", "Variance that the axes show", caption, table)
