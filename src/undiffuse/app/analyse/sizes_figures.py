"""The figures and tables of `undiffuse analyse sizes`."""

import math
from typing import Any

from undiffuse.analysis.sizes import Measured, Sized, law_of
from undiffuse.app.analyse.draw import INK, finish, frame, line_style, plain_log, ramp, sigma_axis, style
from undiffuse.app.analyse.section import Cell, Figure, Table

UNIT = "white - black = 1"
COSTS = (
    ("parameters", lambda it: it.cost.parameters / 1e6, "parameters, millions"),
    ("flop", lambda it: it.cost.flop / 1e9, "GFLOP a call"),
    ("seconds", lambda it: it.cost.seconds * 1e3, "milliseconds a call"),
)
GIVEN = (
    ("end", lambda it: it.end, f"distance to the teacher's\npictures, {UNIT}"),
    ("energy", lambda it: it.energy, f"energy distance,\n{UNIT}"),
    ("features", lambda it: it.features.value, "kernel distance\nof features"),
)


def draw(found: Measured) -> tuple[Figure, ...]:
    """All of them."""
    with style():
        return against_cost(found), focus(found), by_level(found), pictures(found)


def table(found: Measured) -> Table:
    """A row a prior."""
    rows: list[tuple[Cell, ...]] = []
    for it in found.members:
        features = it.features
        rows.append(
            (
                it.label, it.share, it.cost.parameters, it.cost.flop / 1e9, it.cost.seconds * 1e3,
                it.cost.memory / 2**20, it.calls, it.seconds, it.end, it.energy, features.value,
                features.low, features.high,
            )
        )  # fmt: skip
    columns = (
        "prior", "size over the teacher's", "parameters", "GFLOP a call", "ms a call", "MiB a call", "calls a picture",
        "seconds a picture", f"distance to the teacher, {UNIT}", f"energy distance, {UNIT}", "features", "low", "high",
    )  # fmt: skip
    caption = (
        "A call is for one picture, as it is asked in sampling (with guidance twice). FLOP: two for each "
        "multiply-add of convolutions, products and attention. MiB: all that the network holds at once beside its "
        "weights. Seconds are the median of single calls on this machine. Distance to the teacher: of the final "
        "pictures from the same noise, 0 for the same pictures; two of the teacher's pictures of one class are "
        f"{found.another:.3g} apart. Energy distance: of halves of the two sets; the teacher's own halves are "
        f"{found.energy_floor:.3g}. Features: unbiased kernel distance with its 95 % interval, 0 on average for "
        "sets of one distribution, so that it may be below 0."
    )
    return Table("sizes", "What each costs and gives", columns, rows, caption)


def compared(found: Measured) -> Table:
    """The chosen sizes beside the largest of them."""
    chosen = [found.members[i] for i in found.chosen]
    largest = chosen[-1]
    rows: list[tuple[Cell, ...]] = []
    for it in chosen:
        ratios = [_ratio(value(it), value(largest)) for _, value, _ in (*COSTS, *GIVEN[:2])]
        rows.append((it.label, it.share, *ratios, _ratio(it.end, found.another)))
    columns = (
        "prior", "size over the teacher's", "parameters", "FLOP", "seconds", "distance to the teacher",
        "energy distance", "distance over that of two pictures",
    )  # fmt: skip
    caption = (
        f"the chosen sizes over {largest.label}, the largest of them: 0.5 in a column of costs is half the price, 2 "
        "in one of distances twice as far from the teacher. Last: 1 where nothing of the teacher's picture is "
        "left."
    )
    return Table("chosen", "Chosen sizes", columns, rows, caption)


def _ratio(a: float, b: float) -> float | None:
    return a / b if b > 0 else None


def _points(
    axes: Any, x: list[float], y: list[float], colours: list[str], bars: list[tuple[float, float]]
) -> None:
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        if bars:
            axes.plot((a, a), bars[i], color=colours[i], linewidth=1.2)
        axes.plot(
            [a],
            [b],
            marker="*" if i == 0 else "o",
            markersize=10 if i == 0 else 6,
            color=colours[i],
            linewidth=0,
        )


def against_cost(found: Measured) -> Figure:
    """Three measures against three costs."""
    figure, panels = frame(10.4, 8.2, len(GIVEN), len(COSTS), sharey="row", sharex="col")
    members = found.members
    colours = [INK, *ramp(len(members) - 1)]
    for row, (name, given, label) in zip(panels, GIVEN, strict=True):
        bars = [(it.features.low, it.features.high) for it in members] if name == "features" else []
        for axes, (_, paid, _unit) in zip(row, COSTS, strict=True):
            _points(axes, [paid(it) for it in members], [given(it) for it in members], colours, bars)
            if name == "energy":
                axes.axhline(found.energy_floor, color=INK, linestyle=":", linewidth=1)
        row[0].set_ylabel(label)
    for axes, (_, _, label) in zip(panels[-1], COSTS, strict=True):
        axes.set_xlabel(label)
        _sized(axes)
    handles = [
        panels[0][0].plot([], [], linewidth=0, marker="*" if i == 0 else "o", color=c, label=it.label)[0]
        for i, (it, c) in enumerate(zip(members, colours, strict=True))
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(members)))
    return finish(
        figure,
        "against_cost",
        "What a prior gives for what it costs",
        "A point a prior, the star the teacher; to the left is cheaper, down is better. Top: the mean distance of "
        "final pictures to the teacher's from the same noise. Middle: energy distance of the two sets; what lies "
        "at the dotted line cannot be told from the teacher by so many pictures. Bottom: kernel distance of "
        f"features to {found.reference}, with its 95 % interval. Seconds are those of this machine, single calls "
        "for one picture.",
        table(found),
        wide=True,
    )


def _sized(axes: Any) -> None:
    """A logarithmic x axis with round numbers, where it spans a factor of 4 or more."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    low, high = axes.get_xlim()
    if 0 < 4 * low < high or low <= 0 < high:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        wide = high > 100 * low
        axes.xaxis.set_major_locator(
            LogLocator(base=10, subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=6)
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))


def focus(found: Measured) -> Figure:
    """Measures against the size factor, with the law of the focus."""
    figure, panels = frame(10.4, 3.7, 1, len(GIVEN))
    students, rows = found.students, list[tuple[Cell, ...]]()
    low, high = found.focus or (min(it.share for it in students), max(it.share for it in students))
    seen = [it for it in students if low <= it.share <= high]
    colours = {id(it): colour for it, colour in zip(students, ramp(len(students)), strict=True)}
    for axes, (name, given, label) in zip(panels[0], GIVEN, strict=True):
        for it in seen:
            axes.plot([it.share], [given(it)], marker="o", markersize=7, color=colours[id(it)], linewidth=0)
            if name == "features":
                axes.plot((it.share, it.share), (it.features.low, it.features.high), color=colours[id(it)])
        law = law_of(seen, given) if name != "features" else None
        if law is not None:
            x = [low * (high / low) ** (i / 40) for i in range(41)]
            told = f"size^-{law.exponent:.2f}" if law.exponent >= 0 else f"size^{-law.exponent:.2f}"
            axes.plot(x, [law(v) for v in x], color=INK, linestyle="--", linewidth=1.2, label=told)
            axes.legend()
        _sized(axes)
        axes.set_xlabel("size over the teacher's")
        axes.set_ylabel(label)
        rows += [(name, it.label, it.share, given(it)) for it in seen]
    where = "" if found.focus is None else f" from {low:g} to {high:g}"
    return finish(
        figure,
        "focus",
        f"Sizes{where}",
        "The same measures against the number of parameters over the teacher's, for the sizes in the focus alone. "
        "The dashed line is the power law that fits them best: with an exponent of 1 twice the size halves the "
        "value, with 0 size is of no account. Where points bend away from it at the right, a larger student gains "
        "less than the law says.",
        Table("focus", "Sizes in the focus", ("measure", "prior", "size over the teacher's", "value"), rows),
        wide=True,
    )


def by_level(found: Measured) -> Figure:
    """Distance to the teacher by noise level, for the chosen sizes."""
    figure, axes = frame(7.0, 4.4)
    rows: list[tuple[Cell, ...]] = []
    for number, index in enumerate(found.chosen):
        it = found.members[index]
        keep = it.sigmas > 0
        values = it.apart[keep].mean(1)
        shown = [v if v > 0 else math.nan for v in values.tolist()]
        every = max(1, len(shown) // 8)
        look = line_style(number + 1) | {"color": ramp(len(found.chosen))[number]}
        axes.plot(
            (it.sigmas[keep] / 2).numpy(),
            shown,
            label=f"{it.label} ({it.share:.2g})",
            markevery=every,
            **look,
        )
        rows += [
            (it.label, it.share, s / 2, v)
            for s, v in zip(it.sigmas[keep].tolist(), values.tolist(), strict=True)
        ]
    axes.axhline(found.another, color=INK, linestyle=":", linewidth=1.2, label="two pictures of a class")
    sigma_axis(axes)
    axes.set_yscale("log")
    plain_log(axes.yaxis)
    axes.set_ylabel(f"distance of the estimates, {UNIT}")
    figure.legend(loc="outside lower center", ncols=2)
    return finish(
        figure,
        "by_level",
        "Where sizes differ",
        "The mean distance of the estimate to the teacher's at the same noise level, from the same noise, for the "
        "chosen sizes (in brackets: size over the teacher's). Noise is at the left. Lines that are apart at the "
        "left differ in what they draw; lines that part at the right differ in detail. At the dotted line nothing "
        "of the teacher's picture is left.",
        Table("by_level", "Distance by noise level", ("prior", "size", "sigma", f"distance, {UNIT}"), rows),
    )


def pictures(found: Measured) -> Figure:
    """The teacher and the chosen sizes from the same noise."""
    members: list[Sized] = [found.members[0], *(found.members[i] for i in reversed(found.chosen))]
    columns = members[0].pictures.shape[0]
    rows: list[tuple[Cell, ...]] = [
        (it.label, it.share, i, value) for it in members for i, value in enumerate(it.apart[-1].tolist())
    ]
    figure, panels = frame(0.95 * columns + 1.9, 0.98 * len(members) + 0.3, len(members), columns)
    for row, it in zip(panels.reshape(len(members), columns), members, strict=True):
        for axes, picture in zip(row, it.pictures, strict=True):
            shown = (picture.clamp(-1, 1) + 1) / 2
            image = shown.permute(1, 2, 0).numpy() if shown.shape[0] == 3 else shown[0].numpy()
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            for spine in axes.spines.values():
                spine.set_visible(False)
        row[0].set_ylabel(f"{it.label}\n({it.share:.2g})", rotation=0, ha="right", va="center")
    return finish(
        figure,
        "pictures",
        "The same noise, smaller and smaller",
        "First row: the teacher. Below: the chosen sizes, largest first (in brackets: size over the teacher's). A "
        "column begins in one noise, so that it is to show one picture.",
        Table(
            "pictures",
            "Final pictures",
            ("prior", "size", "picture", f"distance to the teacher, {UNIT}"),
            rows,
        ),
        wide=True,
    )
