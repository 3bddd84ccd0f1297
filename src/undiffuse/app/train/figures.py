"""The figures of a run's report, from its tables."""

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from undiffuse.app.curves import Line, chart, legend, ramp
from undiffuse.app.series import Series, Values, read_table, smooth, thinned

BANDS = 12  # of noise, at most
LEFT_OUT = {"step", "images", "seconds", "total", "available", "device_total"}  # of memory.csv
UNITS = {"mb": 2**20, "mib": 2**20, "gb": 2**30, "gib": 2**30}
TITLES = {"loss": "Training loss", "gradient_norm": "Norm of the gradient", "rate": "Learning rate"}
TITLES |= {"images_per_second": "Images per second"}
LOSSES = {"eps": "Loss of eps", "x0": "Loss of x0", "v": "Loss of v"}
LOSSES |= {"accuracy": "Accuracy", "cross_entropy": "Cross-entropy"}


def curves(log: Series) -> dict[str, Markup | None]:
    """Of log.csv, by the name of the column."""
    steps = "step" in log.mean
    x = log.mean.get("step" if steps else "images", np.empty(0))
    drawn: dict[str, Markup | None] = dict.fromkeys(TITLES)
    for name, title in TITLES.items():
        if name not in log.mean or not len(x):
            continue
        y, low, high = log.mean[name], log.low[name], log.high[name]
        lines = [Line(title, x, y, low, high)]
        if name != "rate" and len(x) >= 10:
            lines = [Line(title, x, y, low, high, thin=True), Line("smoothed", x, smooth(y, len(x) // 20))]
        free = name in ("loss", "gradient_norm")
        drawn[name] = chart(
            lines, title=title, description=_words(title, y), x_label="step" if steps else "images",
            y_label=name.replace("_", " "), log=None if free else False, zero=not free,
            height=300 if name == "loss" else 200,
        )  # fmt: skip
    return drawn


def _words(title: str, y: Values) -> str:
    """What a curve shows, for those who do not see it."""
    y = y[np.isfinite(y)]
    if not len(y):
        return f"{title}: nothing yet"
    return (
        f"{title}: from {y[0]:.4g} at first to {y[-1]:.4g} at last, between {y.min():.4g} and {y.max():.4g}"
    )


def memory(table: Series | None, batch: Any) -> dict[str, Any]:
    """Of memory.csv: bytes, or what the end of a column's name says, in GiB."""
    if table is None:
        return {}
    across = next((name for name in ("step", "images", "seconds") if name in table.mean), None)
    names = [name for name in table.mean if name not in LEFT_OUT and np.isfinite(table.mean[name]).any()]
    if across is None or not names:
        return {}
    steps = across == "step" or (across == "images" and _whole(batch))
    x = table.mean[across] / (batch if steps and across == "images" else 1)
    lines: list[Line] = []
    for i, (name, colour) in enumerate(zip(names, ramp(len(names)), strict=True)):
        unit = UNITS.get(name.rsplit("_", 1)[-1].lower(), 1) / 2**30
        values = [unit * of[name] for of in (table.mean, table.low, table.high)]
        lines.append(Line(name.replace("_", " "), x, *values, colour=colour, dashed=i % 2 == 1))
    words = "; ".join(_words(line.name, line.y) for line in lines)
    drawn = chart(
        lines,
        title="Memory",
        description=words,
        x_label="step" if steps else across,
        y_label="GiB",
        log=False,
        height=200,
    )
    return {"chart": drawn, "legend": legend(lines)} if drawn else {}


def checks(path: Path, batch: Any) -> dict[str, Any]:
    """Small multiples: a chart for each loss, a curve for each band of noise."""
    names, rows = read_table(path)
    if not {"images", "low", "high"} <= set(names):
        return {}
    at = {name: i for i, name in enumerate(names)}
    by_band: dict[tuple[float, float], list[list[float]]] = {}
    for row in rows:
        band = (row[at["low"]], row[at["high"]])
        if not np.isnan(band).any() and (band in by_band or len(by_band) < BANDS):
            by_band.setdefault(band, []).append(row)
    if not by_band:
        return {}
    bands = sorted(by_band)
    means = {band: thinned(np.array(by_band[band])) for band in bands}
    steps = _whole(batch)
    charts: list[tuple[str, Markup]] = []
    lines: list[Line] = []
    shown = [name for name in names if name not in ("images", "step", "low", "high", "count")]
    for name in shown:
        lines = []
        for i, (band, colour) in enumerate(zip(bands, ramp(len(bands)), strict=True)):
            mean, low, high = (part.T for part in means[band])
            x = mean[at["images"]] / (batch if steps else 1)
            lines.append(
                Line(_band(band), x, mean[at[name]], low[at[name]], high[at[name]], colour, dashed=i % 2 == 1)
            )
        title = LOSSES.get(name, name)
        words = "; ".join(_words(f"sigma {line.name}", line.y) for line in lines)
        drawn = chart(
            lines, title=title, description=words, x_label="step" if steps else "images",
            y_label=name.replace("_", " "), log=False if name == "accuracy" else None,
            height=230,
        )  # fmt: skip
        charts += [(title, drawn)] if drawn else []
    last = [(_band(band), [by_band[band][-1][at[name]] for name in shown]) for band in bands]
    return {
        "charts": charts,
        "legend": legend(lines),
        "names": shown,
        "last": last,
        "classifier": "accuracy" in at,
    }


def _whole(batch: Any) -> bool:
    return isinstance(batch, int) and batch > 0


def _band(band: tuple[float, float]) -> str:
    low, high = band
    if low <= 0:
        return f"below {high:.3g}"
    return f"above {low:.3g}" if high > 1e6 else f"{low:.3g} to {high:.3g}"
