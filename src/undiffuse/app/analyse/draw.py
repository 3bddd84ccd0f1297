"""Figures by matplotlib: one style, colours that all readers can tell apart, black on white and in the page's colours.

Nothing of pyplot and no global state: a figure is an object, drawn while `style` holds.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from undiffuse.app.analyse.section import Figure, Table
from undiffuse.app.axes import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

INK, PAPER = "#010203", "#fefdfc"  # stand for the colours of the page's text and background
BLACK, WHITE = "#000000", "#ffffff"
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # read on white and on black
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
MARKERS = "osD^vP"
DOTS = 200  # an inch, of a PNG
EMPTY = (
    "Data has no positive",
    "Attempt to set non-positive",
    "Attempting to set identical",
)  # of axes without points
MISSING = "figures need matplotlib; run `pip install matplotlib`"


def check_drawing() -> None:
    """ValueError if there is nothing to draw with: to be asked before anything is computed."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(MISSING)


@contextmanager
def style() -> Iterator[None]:
    """While figures are made and saved. Names of priors are drawn as they are: a dollar begins no formula."""
    check_drawing()
    import matplotlib
    from matplotlib import rc_context

    ours: dict[str, Any] = {
        "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 11.0, "svg.fonttype": "none",
        "axes.titlesize": 11.0, "axes.labelsize": 11.0, "legend.fontsize": 10.0, "legend.frameon": False,
        "xtick.labelsize": 10.0, "ytick.labelsize": 10.0, "lines.linewidth": 1.8, "lines.markersize": 4.5,
        "axes.grid": True, "axes.axisbelow": True, "grid.color": "#88888855", "grid.linewidth": 0.6,
        "axes.spines.top": False, "axes.spines.right": False, "image.cmap": "viridis", "image.interpolation": "none",
        "image.composite_image": False, "figure.constrained_layout.use": True, "svg.hashsalt": "undiffuse",
        "axes.formatter.use_mathtext": False, "text.usetex": False, "text.parse_math": False,
        "svg.image_inline": True,
    }  # fmt: skip
    inked = (
        "text.color",
        "axes.edgecolor",
        "axes.labelcolor",
        "axes.titlecolor",
        "xtick.color",
        "ytick.color",
    )
    ours |= dict.fromkeys((*inked, "legend.labelcolor"), INK)
    ours |= dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), PAPER)
    settings: Any = {**matplotlib.rcParamsDefault, "backend": "agg", **ours}
    with rc_context(settings), warnings.catch_warnings():
        for said in EMPTY:
            warnings.filterwarnings("ignore", said, UserWarning)
        yield


def frame(
    width: float = 6.4, height: float = 4.0, rows: int = 1, columns: int = 1, **options: Any
) -> "tuple[Canvas, Any]":
    """(figure, axes) in inches: one Axes, or an array (rows, columns) of them. To be used inside `style`.

    6.4 inches fill a column of a paper, and half of the report's width; what is drawn is to be read at half size.
    options: as those of `Figure.subplots`, such as sharex=True.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(width, height))
    FigureCanvasAgg(figure)
    single = rows == columns == 1
    return figure, figure.subplots(rows, columns, squeeze=single, **options)


def finish(
    figure: "Canvas", name: str, title: str, caption: str, table: Table | None = None, *, wide: bool = False
) -> Figure:
    """The figure as SVG and PNG. To be used inside `style`."""
    drawn, dots = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    figure.set_layout_engine("none")  # it is laid out: the same places again
    figure.savefig(dots, format="png", dpi=DOTS, facecolor=WHITE, metadata={"Software": None})
    svg = drawn.getvalue().decode()
    return Figure(name, title, caption, svg[svg.index("<svg") :], dots.getvalue(), table, wide)


def on_paper(svg: str) -> str:
    """Black on white, for a paper: a whole SVG file."""
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    return head + svg.replace(INK, BLACK).replace(PAPER, WHITE)


def in_page(svg: str, number: int, title: str) -> str:
    """In the colours of the text around it, as wide as its place; names inside are made its own by `number`."""
    from markupsafe import escape

    svg = svg.replace(PAPER, "none").replace(INK, "currentColor")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>f{number}-", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert size is not None
    open_tag = f'<svg viewBox="{size[0][9:-1]}" role="img" aria-label="{escape(title)}" '
    open_tag += 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return re.sub(r"^<svg\b[^>]*>", lambda _: open_tag, svg)


def line_style(number: int) -> dict[str, Any]:
    """Colour, dashes and marker of the number-th of several things; 0, the reference, is in the text's colour."""
    if number == 0:
        return {"color": INK, "linestyle": "-", "marker": "o"}
    i = (number - 1) % len(OKABE_ITO)
    return {
        "color": OKABE_ITO[i],
        "linestyle": DASHES[number % len(DASHES)],
        "marker": MARKERS[number % len(MARKERS)],
    }


def ramp(count: int, name: str = "viridis") -> list[str]:
    """Colours for things in order, of a map that is even to the eye, without the ends that vanish on black or white."""
    import matplotlib
    from matplotlib.colors import to_hex

    low, high = 0.3, 0.75  # a contrast of 2 or more on white and on #121212
    places = [low + (high - low) * i / max(1, count - 1) for i in range(count)]
    return [to_hex(matplotlib.colormaps[name](place)) for place in places]


def sigma_axis(axes: "Axes", *, label: str = "noise level sigma, white - black = 1") -> None:
    """A logarithmic x axis of noise levels, from noise at the left to the picture at the right."""
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.set_xlabel(label)
    plain_log(axes.xaxis)


def plain_log(axis: Any) -> None:
    """Numbers such as 0.1 and 20 on a logarithmic axis, in place of powers of ten; to be called when all is drawn."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    wide = high / low if low > 0 else 1.0
    subs = (1.0,) if wide > 200 else (1.0, 2.0, 5.0) if wide > 6 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: shown(float(f"{value:.6g}"))))
    axis.set_minor_formatter(NullFormatter())
