"""Figures of `undiffuse analyse attention` by noise level: how spread it is, and how far it reaches."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from undiffuse.analysis.attention import Layer, Shot
from undiffuse.app.analyse.draw import INK, finish, frame, ramp, sigma_axis
from undiffuse.app.analyse.section import Cell, Figure, Table

MARKERS = "osD^vP"


def figures(shots: Sequence[Shot]) -> list[Figure]:
    """To be called inside `draw.style`."""
    return [_entropy(shots), _distance(shots)]


def _entropy(shots: Sequence[Shot]) -> Figure:
    canvas, axes = frame(7.6, 4.2)
    _curves(axes, shots, lambda one: one.entropy)
    axes.axhline(1, color=INK, linewidth=1, linestyle=":")
    axes.set_ylabel("entropy of attention, even = 1")
    caption = (
        "How spread attention is: 1 (dotted) is even over all pixels, 0 is one pixel for each. Mean over pixels, heads "
        "and pictures; bands go from the lowest head to the highest. Colours go from the network's first layer to "
        "its last."
    )
    table = _numbers("entropy", shots, lambda one: one.entropy, "entropy, even = 1")
    return finish(canvas, "entropy", "Entropy of attention", caption, table)


def _distance(shots: Sequence[Shot]) -> Figure:
    canvas, axes = frame(7.6, 4.2)
    _curves(axes, shots, lambda one: one.distance)
    for even in sorted({round(one.even_distance, 6) for one in shots[0].layers}):
        axes.axhline(even, color=INK, linewidth=1, linestyle=":")
    axes.set_ylabel("distance of attention, pixels")
    caption = (
        "How far pixels look: mean distance between a pixel and what it attends to, in pixels of the picture. Dotted: "
        "even attention, for each number of pixels that layers have. Bands go from the nearest head to the farthest. "
        "Colours go from the first layer of the network to the last."
    )
    table = _numbers("distance", shots, lambda one: one.distance, "distance, pixels")
    return finish(canvas, "distance", "Distance of attention", caption, table)


def _curves(axes: Any, shots: Sequence[Shot], of: Callable[[Layer], Tensor]) -> None:
    layers = shots[0].layers
    sigmas = [shot.sigma / 2 for shot in shots]
    for number, colour in enumerate(ramp(len(layers))):
        heads = torch.stack([of(shot.layers[number]).mean(0) for shot in shots])  # (levels, heads)
        look = {
            "color": colour,
            "marker": MARKERS[number % len(MARKERS)],
            "label": _name(layers[number]),
        }
        axes.plot(sigmas, heads.mean(1).tolist(), **look)
        if heads.shape[1] > 1:
            low, high = heads.amin(1).tolist(), heads.amax(1).tolist()
            axes.fill_between(sigmas, low, high, color=colour, alpha=0.12, linewidth=0)
    sigma_axis(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def _name(layer: Layer) -> str:
    return f"{layer.name}, {layer.size[0]}x{layer.size[1]}"


def _numbers(name: str, shots: Sequence[Shot], of: Callable[[Layer], Tensor], unit: str) -> Table:
    """A row for each layer, head and level: mean over pictures."""
    rows: list[tuple[Cell, ...]] = []
    for shot in shots:
        for one in shot.layers:
            values = of(one).mean(0).tolist()
            rows += [
                (one.name, head, shot.sigma / 2, value, one.even_distance)
                for head, value in enumerate(values)
            ]
    columns = ("layer", "head", "sigma, white - black = 1", unit, "distance of even attention, pixels")
    return Table(name, name, columns, rows)
