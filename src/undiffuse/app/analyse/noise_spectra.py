"""Figures of `undiffuse analyse noise` by frequency: is the error white?"""

from collections.abc import Callable

import numpy as np

from undiffuse.analysis.noise import Level
from undiffuse.analysis.whiteness import NORMAL95, Whiteness
from undiffuse.app.analyse.draw import INK, finish, frame, line_style, plain_log, ramp, sigma_axis
from undiffuse.app.analyse.section import Cell, Figure, Table

Levels = dict[str, list[Level]]  # of each prior
PANELS = 4  # priors whose spectra are drawn beside each other
CURVES = 6  # levels of which they are drawn


def figures(levels: Levels) -> list[Figure]:
    """To be called inside `draw.style`, where spectra are `known`."""
    return [_whiteness(levels), _spectra(levels, "error"), _spectra(levels, "said")]


def known(levels: Levels) -> bool:
    """Whether every prior has a spectrum at every level."""
    every = [one for some in levels.values() for one in some]
    return all(one.error_white is not None and one.said_white is not None for one in every)


def _whiteness(levels: Levels) -> Figure:
    canvas, panels = frame(9.6, 3.8, 1, 2)
    left, right = panels[0]
    for number, (label, some) in enumerate(levels.items()):
        sigmas, look = [one.sigma / 2 for one in some], line_style(number)
        white = [_whites(one) for one in some]
        left.plot(sigmas, [error.flatness for error, _ in white], label=label, **look)
        thin = {"color": look["color"], "linewidth": 0.9}
        left.plot(sigmas, [said.flatness for _, said in white], label="its prediction of the noise", **thin)
        right.plot(sigmas, [sum(error.neighbours) / 2 for error, _ in white], **look)
        right.plot(sigmas, [sum(said.neighbours) / 2 for _, said in white], **thin)
    limit = max(_whites(next(iter(levels.values()))[0])[0].neighbours_limit)
    right.axhspan(-limit, limit, color=INK, alpha=0.12, linewidth=0)
    left.set_ylabel("spectral flatness, 1 = white")
    right.set_ylabel("correlation of neighbouring pixels")
    left.set_ylim(0, 1.03)
    left.legend()
    sigma_axis(left)
    sigma_axis(right)
    caption = (
        "Noise is white: it has the same power at all frequencies (flatness 1), neighbours do not correlate (0; the "
        "grey band holds 95 % of white noise). Its prediction (thin lines) is not quite: where pictures have "
        "power, at low frequencies, noise is told from them least well, and there the error (with marks) has its "
        "power. Neighbours of a prediction correlate negatively where it holds high frequencies only, and positively "
        "where it takes shapes of the picture for noise."
    )

    def columns(one: Level) -> dict[str, Cell]:
        error, said = _whites(one)
        return {
            "flatness of the error": error.flatness, "flatness of the prediction": said.flatness,
            "correlation of the error, right": error.neighbours[0], "below": error.neighbours[1],
            "correlation of the prediction, right": said.neighbours[0], "prediction, below": said.neighbours[1],
            "95 % of white noise, right": error.neighbours_limit[0], "white, below": error.neighbours_limit[1],
        }  # fmt: skip

    return finish(canvas, "whiteness", "Whiteness", caption, csv_of("whiteness", levels, columns), wide=True)


def _spectra(levels: Levels, kind: str) -> Figure:
    from matplotlib.ticker import LogLocator

    shown = list(levels.items())[:PANELS]
    canvas, panels = frame(1.2 + 3.4 * max(2, len(shown)), 3.8, 1, len(shown), sharey=True)
    panels = np.atleast_2d(panels)  # of one prior it is a single frame
    for axes, (label, some) in zip(panels[0], shown, strict=True):
        step = max(1, round((len(some) - 1) / (CURVES - 1)))
        chosen = some[::step]
        for one, colour in zip(chosen, ramp(len(chosen)), strict=True):
            white = _whites(one)[kind == "said"]
            axes.plot(
                white.frequencies, white.relative, color=colour, marker="o", label=f"{one.sigma / 2:.2g}"
            )
        white = _whites(some[0])[kind == "said"]
        reach = NORMAL95 * white.relative_deviation
        axes.fill_between(white.frequencies, 1 - reach, 1 + reach, color=INK, alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        plain_log(axes.yaxis)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.set_xticks([1 / 16, 1 / 8, 1 / 4], ["1/16", "1/8", "1/4"], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_title(label)
        axes.set_xlabel("frequency, cycles a pixel")
    panels[0, 0].set_ylabel("power, its mean = 1")
    panels[0, -1].legend(title="sigma", loc="center left", bbox_to_anchor=(1, 0.5))
    of = "the error of the predicted noise" if kind == "error" else "the predicted noise"
    left_out = f" {len(levels) - PANELS} more priors are in the CSV." if len(levels) > PANELS else ""
    caption = (
        f"Where {of} has its power, at some of the noise levels: radial means over the cosine transform of each "
        "picture, relative to its own power. White noise is 1 everywhere; the grey band holds 95 % of white noise for "
        "so many pictures. What lies above it is found at that frequency more than at others. To the left are "
        f"shapes, to the right pixels.{left_out}"
    )
    name = "error_spectrum" if kind == "error" else "noise_spectrum"
    table = _spectra_csv(name, levels, kind)
    return finish(canvas, name, f"Spectrum of {of}", caption, table, wide=True)


def _spectra_csv(name: str, levels: Levels, kind: str) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for label, some in levels.items():
        for one in some:
            w = _whites(one)[kind == "said"]
            columns = (w.frequencies.tolist(), w.relative.tolist(), w.relative_deviation.tolist())
            rows += [(label, one.sigma / 2, *row) for row in zip(*columns, strict=True)]
    names = (
        "prior",
        "sigma, white - black = 1",
        "cycles a pixel",
        "relative power",
        "deviation of white noise",
    )
    return Table(name, "Spectrum", names, rows)


def _whites(one: Level) -> tuple[Whiteness, Whiteness]:
    assert one.error_white is not None and one.said_white is not None
    return one.error_white, one.said_white


def csv_of(name: str, levels: Levels, columns: Callable[[Level], dict[str, Cell]]) -> Table:
    """A row for each prior and level."""
    first = columns(next(iter(levels.values()))[0])
    rows = [(label, one.sigma / 2, *columns(one).values()) for label, some in levels.items() for one in some]
    return Table(name, name, ("prior", "sigma, white - black = 1", *first), rows)
