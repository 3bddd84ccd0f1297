"""Embeddings as a page of their own, to be turned and looked into; it needs no network."""

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from undiffuse.analysis.embedding import Cloud, Embedding
from undiffuse.app.analyse.draw import line_style
from undiffuse.app.outputs import save_bytes

GREY = "#888888"  # is read on white and on black
INKED = "#8a8a8a"  # the reference, whose colour elsewhere is that of the text
QUIET = {"displaylogo": False}  # which is a link
WAYS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
LINES = 24  # ways of each prior
DASHES = ("solid", "dash", "dashdot", "dot", "longdash", "longdashdot")
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Undiffuse: trajectories</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 1rem auto; padding: 0 1rem; }
</style></head><body>
<h1>Trajectories</h1>
<p>Drag to turn or to choose a part, wheel to come nearer, double click to go back. A click on a name in the legend
hides a prior; a point tells its prior, picture and noise level.</p>
"""


def writer(made: Sequence[Embedding], of: str) -> Callable[[Path], None]:
    """What writes the page."""

    def write(path: Path) -> None:
        save_bytes(path, page(made, of).encode())

    return write


def page(made: Sequence[Embedding], of: str) -> str:
    """All embeddings below each other, and plotly.js once. Needs plotly."""
    from plotly.io import to_html

    parts = [HEAD]
    for number, it in enumerate(made):
        title = f"{WAYS[it.way]} of {of}, {it.dims}-D"
        name = f"{it.way}-{it.dims}d"
        parts.append(f"<h2>{title}</h2><p>{it.told[:1].upper()}{it.told[1:]}.</p>")
        parts.append(
            to_html(_figure(it), include_plotlyjs=number == 0, full_html=False, div_id=name, config=QUIET)
        )
    return "".join(parts) + "</body></html>\n"


def _figure(it: Embedding) -> Any:
    from plotly.graph_objects import Figure

    figure = Figure()
    for number, cloud in enumerate(it.clouds):
        figure.add_trace(_trace(cloud, number, it.dims))
    named = [
        {"title": {"text": name}, "gridcolor": "rgba(136,136,136,.3)", "zeroline": False} for name in it.axes
    ]
    if it.dims == 3:
        named = [{**axis, "showbackground": False} for axis in named]
        figure.update_layout(scene=dict(zip(("xaxis", "yaxis", "zaxis"), named, strict=True)))
    else:
        figure.update_layout(xaxis=named[0], yaxis={**named[1], "scaleanchor": "x"})
    figure.update_layout(
        height=640, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": GREY}, template="none",
        margin={"l": 40, "r": 20, "t": 40, "b": 40}, legend={"itemsizing": "constant"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": GREY},
    )  # fmt: skip
    return figure


def _trace(cloud: Cloud, number: int, dims: int) -> Any:
    """All ways of one prior as one line with gaps, its last points larger."""
    from plotly.graph_objects import Scatter, Scatter3d

    levels, n = cloud.points.shape[0], min(LINES, cloud.points.shape[1])
    columns: list[list[float | None]] = [[] for _ in range(dims)]
    words, sizes = list[str](), list[float]()
    label = escape(cloud.label, quote=False)  # plotly takes tags for its own
    for i in range(n):
        for level in range(levels):
            for axis in range(dims):
                columns[axis].append(round(cloud.points[level, i, axis].item(), 4))
            words.append(f"{label}, picture {i}, sigma {cloud.sigmas[level].item() / 2:.3g}")
            sizes.append(7 if level == levels - 1 else 2)
        for column in columns:
            column.append(None)
        words.append("")
        sizes.append(0)
    colour = INKED if number == 0 else line_style(number)["color"]
    places = dict(zip("xyz", columns, strict=False))
    return (Scatter3d if dims == 3 else Scatter)(
        **places, mode="lines+markers", name=label, text=words, hoverinfo="text", opacity=0.85,
        line={"color": colour, "width": 2 if dims == 3 else 1, "dash": DASHES[number % len(DASHES)]},
        marker={"color": colour, "size": sizes, "line": {"width": 0}}, connectgaps=False,
    )  # fmt: skip
