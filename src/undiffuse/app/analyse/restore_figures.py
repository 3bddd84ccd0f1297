"""The figures of `undiffuse analyse restore`."""

import math
from typing import Any

from torch import Tensor

from undiffuse.analysis.trace import Trace
from undiffuse.app.analyse.calibrated import Curves
from undiffuse.app.analyse.draw import INK, finish, frame, line_style, ramp, sigma_axis, style
from undiffuse.app.analyse.section import Cell, Figure, Table
from undiffuse.app.restore.task import Task

LEAST = 1e-5  # of a residual axis: what lies below is 0 up to rounding
UNSEEN = {"color": INK, "linestyle": "--", "marker": "s"}


def draw(
    trace: Trace, steps: list[int], table: Table, ratio: Table, task: Task, curves: Curves
) -> tuple[Figure, ...]:
    """All of them; that of error bars only where there are curves."""
    with style():
        found = [moves(trace, steps, table), shares(trace, steps, table), cosines(trace, steps, table)]
        found.append(residuals(ratio, task.problem.sigma_y))
        if "error_after" in trace.sums:
            found.append(errors(trace, steps, table))
        if curves:
            found.append(calibration(curves))
        found.append(strip(trace))
    return tuple(found)


def _lines(trace: Trace) -> list[dict[str, Any]]:
    """A style a band: in order of s from dark to light, the null space dashed in the text's colour."""
    seen = [band for band in trace.by.bands if not band.unseen]
    markers = "o^vDP*<>ph1234+x"
    styles: list[dict[str, Any]] = [
        {"color": colour, "marker": mark} for colour, mark in zip(ramp(len(seen)), markers, strict=False)
    ]
    return styles + [UNSEEN] * (len(trace.by.bands) - len(seen))


def _plotted(axes: Any, trace: Trace, steps: list[int], values: Tensor, *, log: bool = False) -> None:
    levels = [trace.sigmas[step] / 2 for step in steps]
    for k, (band, look) in enumerate(zip(trace.by.bands, _lines(trace), strict=True)):
        found = [values[step, k].item() for step in steps]
        shown = [v if math.isfinite(v) and (v > 0 or not log) else math.nan for v in found]
        if any(math.isfinite(v) for v in shown):
            axes.plot(levels, shown, label=band.name, markersize=3.5, **look)
    sigma_axis(axes)
    if log and axes.lines:
        logarithmic(axes)


def logarithmic(axes: Any) -> None:
    """A y axis of powers of ten, with 2 and 5 between where it spans little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    between = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=between, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _below(figure: Any, axes: Any, columns: int = 3) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def moves(trace: Trace, steps: list[int], table: Table) -> Figure:
    """How far each moved the estimate."""
    figure, ((left, right),) = frame(9.6, 4.4, 1, 2, sharey=True)
    for axes, name, title in ((left, "prior", "moved by the prior"), (right, "data", "moved by the data")):
        _plotted(axes, trace, steps, trace.size(name), log=True)
        axes.set_title(title)
    left.set_ylabel("root mean square move of a coefficient\n(white - black = 1)")
    _below(figure, left)
    return finish(
        figure,
        "moves",
        "How far prior and data moved the estimate",
        "One step a marker, from noise at the left to the picture at the right; one line a band of singular values, "
        "dashed what is not measured at all. Left: the network's answer less the estimate before. Right: the estimate "
        "after the data less the network's answer. Both add up to the restored picture. A band without a line was not "
        "moved: most algorithms let the data move nothing in the null space.",
        table,
        wide=True,
    )


def shares(trace: Trace, steps: list[int], table: Table) -> Figure:
    """Who moved it, as a map of bands and steps."""
    figure, axes = frame(6.4, 1.9 + 0.4 * len(trace.by.bands))
    values = trace.mean("share")[steps].T.numpy()
    image = axes.imshow(values, aspect="auto", cmap="cividis", vmin=0, vmax=1)
    axes.set_yticks(range(len(trace.by.bands)), [band.name for band in trace.by.bands])
    at = sorted(
        {round(i * (len(steps) - 1) / min(5, max(1, len(steps) - 1))) for i in range(min(6, len(steps)))}
    )
    axes.set_xticks(at, [f"{trace.sigmas[steps[i]] / 2:.2g}" for i in at])
    axes.set_xlabel("noise level sigma, white - black = 1")
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="share of the data")
    return finish(
        figure,
        "shares",
        "Whose move it was",
        "Of the squared moves of a step in a band, the share of the data: 1 (bright) where the data alone moved the "
        "picture, 0 (dark) where the prior did, 0.5 where both did as much. Empty: nothing moved yet. A row that turns "
        "dark on the way down is a band whose noise is larger than the level that is reached.",
        table,
    )


def cosines(trace: Trace, steps: list[int], table: Table) -> Figure:
    """Whether they agree."""
    figure, axes = frame(6.4, 4.4)
    _plotted(axes, trace, steps, trace.mean("cosine"))
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_ylim(-1.05, 1.05)
    axes.set_ylabel("cosine between the two moves")
    _below(figure, axes)
    return finish(
        figure,
        "cosines",
        "Do prior and data agree?",
        "1: the data moves on in the direction of the prior's move; 0: they are about different things; -1: the data "
        "takes back what the prior did, so that the two pull against each other and neither wins. A step or band "
        "without a point was not moved by both.",
        table,
    )


def residuals(table: Table, sigma_y: float) -> Figure:
    """Against what the noise leaves."""
    figure, axes = frame(6.4, 4.0)
    levels = [row[1] for row in table.rows]
    for column, number in ((2, 1), (3, 2)):
        found = [_number(row[column]) for row in table.rows]
        shown = [v if v > 0 else math.nan for v in found]
        axes.plot(levels, shown, label=table.columns[column], **line_style(number))
    if sigma_y > 0:
        low, high = _number(table.rows[0][4]), _number(table.rows[0][5])
        axes.axhspan(low, high, color=INK, alpha=0.15, linewidth=0, label="99 % of true pictures")
        axes.axhline(1, color=INK, linewidth=0.8)
    sigma_axis(axes)
    logarithmic(axes)
    axes.set_ylabel(
        "|A x - y|^2 / (m sigma_y^2)" if sigma_y > 0 else "root mean square of A x - y (white - black = 1)"
    )
    axes.legend()
    said = (
        "The squared residual over what noise of the stated level leaves on average; the grey band holds 99 % of true "
        "pictures. Above it the picture does not explain the data yet; below it it explains their noise, too."
        if sigma_y > 0
        else "The data have no noise, so that the estimate after the data is to reach 0; what is exactly 0 has no "
        "place on the logarithmic axis."
    )
    return finish(figure, "residual", "Does the estimate explain the data?", said, table)


def errors(trace: Trace, steps: list[int], table: Table) -> Figure:
    """Against the reference."""
    figure, ((left, right),) = frame(9.6, 4.4, 1, 2, sharey=True)
    for axes, name, title in (
        (left, "error_before", "the prior's answer"),
        (right, "error_after", "after the data"),
    ):
        _plotted(axes, trace, steps, trace.size(name), log=True)
        axes.set_title(title)
    left.set_ylabel("root mean square error of a coefficient\n(white - black = 1)")
    _below(figure, left)
    return finish(
        figure,
        "errors",
        "Distance to the reference",
        "The error against the clean picture by band, for the network's answer (left) and after the data had their say "
        "(right). Lower on the right: the data helped. A band where the right is higher follows the noise of the data.",
        table,
        wide=True,
    )


def calibration(curves: Curves) -> Figure:
    """Nominal against measured coverage."""
    figure, axes = frame(5.4, 5.0)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    rows: list[tuple[Cell, ...]] = []
    for number, (name, found, _) in enumerate(curves):
        nominal, measured = (0.0, *found.nominal), (0.0, *found.measured)
        axes.plot(nominal, measured, label=name, **line_style(number + 1))
        rows += [(name, n, m) for n, m in zip(nominal, measured, strict=True)]
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="nominal coverage", ylabel="measured coverage")
    axes.set_aspect("equal")
    axes.legend(loc="lower right")
    table = Table("calibration", "Calibration", ("draws of", "nominal coverage", "measured coverage"), rows)
    return finish(
        figure,
        "calibration",
        "Are the error bars right?",
        "The share of true values that lie in the central intervals of the draws, against the share that should. On "
        "the diagonal the error bars are honest; below it they are too narrow, above it too wide. On an exact prior "
        "the truth is drawn from the prior itself, so that a gap there is the algorithm's own; the exact posterior "
        "lies on the diagonal up to the chance of so few pictures. What a picture is off by beyond that is the "
        "prior's.",
        table,
    )


def strip(trace: Trace) -> Figure:
    """The first draw on its way."""
    chosen = sorted(trace.pictures)
    rows = ("the prior's answer", "moved by the prior", "moved by the data", "after the data")
    first = trace.pictures[chosen[0]][0]
    width = 1.55
    height = width * first.shape[1] / first.shape[2] + 0.12
    figure, axes = frame(0.4 + width * len(chosen), 0.75 + height * len(rows), len(rows), len(chosen))
    moved = [m for step in chosen for m in trace.pictures[step][2:] if m is not None]
    most = max([_size(m).max().item() for m in moved if m is not None] or [1.0]) or 1.0
    for column, step in enumerate(chosen):
        answer, estimate, prior, data = trace.pictures[step]
        for row, picture in enumerate((answer, prior, data, estimate)):
            place = axes[row, column]
            place.set(xticks=[], yticks=[])
            place.grid(False)
            for spine in place.spines.values():
                spine.set_visible(False)
            if column == 0:
                place.set_ylabel(rows[row])
            if picture is None:
                place.text(0.5, 0.5, "none\nbefore", ha="center", va="center", transform=place.transAxes)
            elif row in (1, 2):
                place.imshow(_size(picture).sqrt().numpy(), cmap="viridis", vmin=0, vmax=math.sqrt(most))
            else:
                place.imshow(_visible(picture), vmin=0, vmax=1, cmap="gray")
        axes[0, column].set_title(f"{trace.sigmas[step] / 2:.2g}")
    figure.suptitle("noise level sigma, white - black = 1", fontsize=10)
    return finish(
        figure,
        "pictures",
        "The first draw on its way",
        "Some of the steps, from noise at the left. First and last row: the network's answer and what the data made of "
        "it. Between them where each of the two moved the picture: dark not at all, bright the most; all maps have one "
        f"scale, whose brightest is a move of {most / 2:.2g} (white - black = 1), with square roots in between.",
        None,
        wide=True,
    )


def _size(move: Tensor) -> Tensor:
    """(H, W): root mean square over channels."""
    return move.square().mean(0).sqrt()


def _visible(picture: Tensor) -> Any:
    """(H, W, 3) or (H, W) in [0, 1]."""
    shown = (picture.clamp(-1, 1) + 1) / 2
    return shown.permute(1, 2, 0).numpy() if shown.shape[0] == 3 else shown[0].numpy()


def _number(cell: Cell) -> float:
    return cell if isinstance(cell, float) else math.nan
