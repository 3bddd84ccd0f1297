"""Figures of `undiffuse analyse noise`."""

from collections.abc import Callable
from typing import Any

from undiffuse.analysis.noise import Level, Value
from undiffuse.analysis.whiteness import NORMAL95
from undiffuse.app.analyse import noise_spectra
from undiffuse.app.analyse.draw import INK, finish, frame, line_style, plain_log, sigma_axis, style
from undiffuse.app.analyse.noise_spectra import Levels, csv_of
from undiffuse.app.analyse.section import Cell, Figure, Table


def figures(levels: Levels, every: Table) -> tuple[Figure, ...]:
    """All that the levels give; spectra where there are some. every: the table of all numbers."""
    with style():
        found = [_error(levels, every), _prediction(levels), _calibration(levels), _bias(levels)]
        if noise_spectra.known(levels):
            found += noise_spectra.figures(levels)
    return tuple(found)


def _error(levels: Levels, every: Table) -> Figure:
    names = list(levels)
    canvas, panels = frame(9.6 if len(names) > 1 else 6.4, 4.0, 1, min(2, len(names)))
    left = panels[0, 0] if len(names) > 1 else panels
    first = _errors(levels[names[0]])
    left.plot(list(first), list(first), color=INK, linewidth=1, linestyle=":", label="nothing taken away")
    for number, (label, some) in enumerate(levels.items()):
        left.plot(list(errors := _errors(some)), list(errors.values()), label=label, **line_style(number))
    left.set_yscale("log")
    plain_log(left.yaxis)
    left.set_ylabel("RMS error of x0hat, white - black = 1")
    left.legend()
    sigma_axis(left)
    caption = (
        "How far the denoised picture is from the clean one, root mean square over all pixels and pictures. Lower is "
        "better, but no prior can be better than the mean of all pictures that fit the noisy one. The dotted line "
        "is a prior that returns what it is given. At the left there is nothing but noise to see, and the error is the "
        "spread of the pictures."
    )
    if len(names) > 1:
        right = panels[0, 1]
        for number, some in enumerate(levels.values()):
            ratios = {sigma: e / first[sigma] for sigma, e in _errors(some).items() if first.get(sigma)}
            right.plot(list(ratios), list(ratios.values()), **line_style(number))
        right.set_ylabel(f"error over that of {names[0]}")
        sigma_axis(right)
        caption += f" Right: the same over the error of {names[0]}, for the same pictures and noise."
    return finish(canvas, "error", "Error of the denoised picture", caption, every, wide=len(names) > 1)


def _errors(some: list[Level]) -> dict[float, float]:
    """RMS errors of x0hat by level, white - black = 1."""
    return {one.sigma / 2: one.x0.value / 2 for one in some}


def _prediction(levels: Levels) -> Figure:
    canvas, panels = frame(9.6, 3.8, 1, 2)
    for axes, name, unit in (
        (panels[0, 0], "eps", "the noise's deviation = 1"),
        (panels[0, 1], "v", "[-1, 1] units"),
    ):
        for number, (label, some) in enumerate(levels.items()):
            _with_band(axes, some, lambda one, name=name: getattr(one, name), label, number)
        sigma_axis(axes)
        axes.set_ylabel(f"RMS error of {name}, {unit}")
        axes.set_ylim(bottom=0)
    panels[0, 0].axhline(1, color=INK, linewidth=1, linestyle=":")
    panels[0, 0].legend()
    caption = (
        "The same error in the units that networks are trained in. eps is the noise: 0 is to know it, 1 (dotted) is to "
        "say nothing of it; the clean picture hides it at low levels, so that the curve rises to the right. v is "
        "sqrt(abar) eps - sqrt(1 - abar) x0, whose error is large where a level is hard either way. Bands are 95 % of "
        "the mean over pictures."
    )

    def columns(one: Level) -> dict[str, Cell]:
        return {
            "rms error of eps": one.eps.value, "deviation of that of eps": one.eps.deviation,
            "rms error of v": one.v.value, "deviation of that of v": one.v.deviation,
        }  # fmt: skip

    title = "Error of the predicted noise, and of v"
    return finish(canvas, "prediction", title, caption, csv_of("prediction", levels, columns), wide=True)


def _calibration(levels: Levels) -> Figure:
    canvas, panels = frame(9.6, 3.8, 1, 2)
    left, right = panels[0]
    for number, (label, some) in enumerate(levels.items()):
        sigmas, look = [one.sigma / 2 for one in some], line_style(number)
        left.plot(sigmas, [one.size.value for one in some], label=label, **look)
        left.plot(
            sigmas,
            [one.right_size for one in some],
            color=look["color"],
            linewidth=0,
            marker="_",
            markersize=14,
        )
        _with_band(right, some, lambda one: one.slope, label, number)
    right.axhline(1, color=INK, linewidth=1, linestyle=":")
    left.set_ylabel("RMS of x - x0hat, over sigma")
    right.set_ylabel("slope of the noise on its prediction")
    left.set_ylim(bottom=0)
    left.legend()
    sigma_axis(left)
    sigma_axis(right)
    caption = (
        "Does the prior take away as much noise as there is? Left: the size of what it takes away, in units of the "
        "noise level. A bar marks the right size for a prior with this error, which is below 1: the best guess of the "
        "noise is shorter than the noise. Right: how much noise there is for each unit that is predicted. 1 (dotted) "
        "is calibrated; above it too little noise is taken away, below it too much. Bands are 95 % of the "
        "mean over pictures."
    )

    def columns(one: Level) -> dict[str, Cell]:
        return {
            "rms of x - x0hat over sigma": one.size.value, "right size": one.right_size, "slope": one.slope.value,
            "deviation of the slope": one.slope.deviation,
        }  # fmt: skip

    title = "Calibration: size of the noise that is taken away"
    return finish(canvas, "calibration", title, caption, csv_of("calibration", levels, columns), wide=True)


def _bias(levels: Levels) -> Figure:
    canvas, panels = frame(9.6, 3.8, 1, 2)
    left, right = panels[0]
    for number, (label, some) in enumerate(levels.items()):
        _with_band(left, some, lambda one: Value(one.bias.value / 2, one.bias.deviation / 2), label, number)
        right.plot(
            [o.sigma / 2 for o in some], [100 * o.pattern for o in some], label=label, **line_style(number)
        )
    left.axhline(0, color=INK, linewidth=1, linestyle=":")
    right.axhline(0, color=INK, linewidth=1, linestyle=":")
    left.set_ylabel("mean of x0hat - x0, white - black = 1")
    right.set_ylabel("squared error that is in all pictures, %")
    left.legend()
    sigma_axis(left)
    sigma_axis(right)
    caption = (
        "Left: brightness that the prior adds on average; bands are 95 % of the mean over pictures, and a band that "
        "holds 0 is no bias that these pictures could show. Right: the share of the squared error that is one pattern, "
        "the same in all pictures, such as a border or a tint. It is free of the bias of few pictures, and can fall "
        "below 0 by chance."
    )

    def columns(one: Level) -> dict[str, Cell]:
        return {
            "bias, white - black = 1": one.bias.value / 2, "deviation": one.bias.deviation / 2,
            "share of a fixed pattern": one.pattern,
        }  # fmt: skip

    return finish(canvas, "bias", "Bias", caption, csv_of("bias", levels, columns), wide=True)


def _with_band(axes: Any, some: list[Level], of: Callable[[Level], Value], label: str, number: int) -> None:
    look, sigmas, values = line_style(number), [one.sigma / 2 for one in some], [of(one) for one in some]
    axes.plot(sigmas, [v.value for v in values], label=label, **look)
    low, high = ([v.value + sign * NORMAL95 * v.deviation for v in values] for sign in (-1, 1))
    axes.fill_between(sigmas, low, high, color=look["color"], alpha=0.2, linewidth=0)
