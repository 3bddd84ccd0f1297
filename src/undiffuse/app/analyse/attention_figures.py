"""Figures of `undiffuse analyse attention`: maps over the picture."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from undiffuse.analysis.attention import Layer, Shot
from undiffuse.app.analyse import attention_curves
from undiffuse.app.analyse.draw import OKABE_ITO, finish, frame, style
from undiffuse.app.analyse.section import Cell, Figure, Table
from undiffuse.core.images import to_bytes

HEADS = 8  # that are shown one by one
SIDE = 1.25  # inches of a picture
HEAT = OKABE_ITO[1]  # of the overlay; its strength is what exceeds even attention
STRONGEST = 0.9  # opacity of the largest value
LUMA = (0.299, 0.587, 0.114)

Row = tuple[str, list[Tensor]]  # what it is, and a map (h, w) for each level, 1 = even attention


def figures(
    shots: Sequence[Shot], queries: Sequence[tuple[int, int]], most: int, layer: str | None
) -> tuple[Figure, ...]:
    """Maps of `most` layers, the heads of `layer`, and two curves. ValueError for a layer that there is none of."""
    first = shots[0].layers
    count = min(most, len(first))
    chosen = sorted({round(i * (len(first) - 1) / max(1, count - 1)) for i in range(count)})
    alone = number_of(first, layer)
    with style():
        found = [_received(shots, chosen)]
        found += [_query(shots, chosen, number, pixel) for number, pixel in enumerate(queries)]
        found += [_heads(shots, alone, queries[0]), *attention_curves.figures(shots)]
    return tuple(found)


def number_of(layers: Sequence[Layer], name: str | None) -> int:
    """That of a layer; of the last of the finest ones if none is named. ValueError for a name that there is none of."""
    if name is None:
        finest = max(one.size[0] * one.size[1] for one in layers)
        return max(i for i, one in enumerate(layers) if one.size[0] * one.size[1] == finest)
    names = [one.name for one in layers]
    if name not in names:
        raise ValueError(f"--layer {name}; choose from {', '.join(names)}")
    return names.index(name)


def _received(shots: Sequence[Shot], chosen: list[int]) -> Figure:
    rows = [
        (_title(shots[0].layers[i]), [shot.layers[i].received[0].mean(0) for shot in shots]) for i in chosen
    ]
    caption = (
        "How much attention each pixel gets from all pixels together, mean over heads. Columns go from noise to the "
        "picture; the first two rows show the picture as it is there and what the network takes it for, and the maps "
        f"lie over the latter. {_scale()} Pixels that many others look at stand out."
    )
    return _maps("received", "Attention that each pixel receives", caption, shots, rows)


def _query(shots: Sequence[Shot], chosen: list[int], number: int, pixel: tuple[int, int]) -> Figure:
    rows: list[Row] = []
    for i in chosen:
        maps = [_relative(shot.layers[i].queries[0, :, number].mean(0)) for shot in shots]
        rows.append((_title(shots[0].layers[i]), maps))
    row, column = pixel
    caption = (
        f"Where the pixel in row {row}, column {column} (cross, counted from 0 at the upper left) looks, mean over "
        f"heads. {_scale()} Far from the cross: the layer compares distant parts; around it: it smooths nearby."
    )
    title = f"Attention from the pixel in row {row}, column {column}"
    return _maps(f"from_{row}_{column}", title, caption, shots, rows, pixel)


def _heads(shots: Sequence[Shot], at: int, pixel: tuple[int, int]) -> Figure:
    layer = shots[0].layers[at]
    count = min(HEADS, layer.heads)
    rows = [
        (f"head {head}", [_relative(shot.layers[at].queries[0, head, 0]) for shot in shots])
        for head in range(count)
    ]
    left_out = f" The first {count} of {layer.heads} heads." if count < layer.heads else ""
    caption = (
        f"The heads of {layer.name} one by one, for the pixel in row {pixel[0]}, column {pixel[1]} (cross). {_scale()} "
        f"Heads that show the same do the same.{left_out} --layer shows another layer."
    )
    return _maps("heads", f"Heads of {layer.name}", caption, shots, rows, pixel)


def _scale() -> str:
    return (
        "Coloured is what gets more than even attention, the stronger the more; full colour is the largest value of "
        "the row, which stands beside it in multiples of even attention."
    )


def _title(layer: Layer) -> str:
    return f"{layer.name}\n{layer.size[0]}x{layer.size[1]}"


def _relative(weights: Tensor) -> Tensor:
    """Weights that sum to 1, over those of even attention."""
    return weights * weights.numel()


def _maps(
    name: str,
    title: str,
    caption: str,
    shots: Sequence[Shot],
    rows: list[Row],
    cross: tuple[int, int] | None = None,
) -> Figure:
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    heat = LinearSegmentedColormap.from_list("heat", [(*to_rgb(HEAT), 0.0), (*to_rgb(HEAT), STRONGEST)])
    columns, height, width = len(shots), *shots[0].x.shape[1:]
    canvas, panels = frame(
        1.6 + SIDE * columns, 0.4 + SIDE * height / width * (2 + len(rows)), 2 + len(rows), columns
    )
    for column, shot in enumerate(shots):
        panels[0, column].set_title(f"sigma {shot.sigma / 2:.2g}")
        noisy = shot.x / max(1.0, shot.x.abs().max().item())
        _picture(panels[0, column], noisy)
        _picture(panels[1, column], shot.x0)
    _label(panels[0, 0], "picture\nin noise")
    _label(panels[1, 0], "x0hat")
    for line, (label, maps) in enumerate(rows, 2):
        largest = max(one.max().item() for one in maps)
        for column, (shot, values) in enumerate(zip(shots, maps, strict=True)):
            axes = panels[line, column]
            _picture(axes, shot.x0, grey=True)
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            axes.imshow(values.numpy(), cmap=heat, vmin=1, vmax=max(largest, 1 + 1e-6), extent=extent)
            if cross is not None:
                axes.plot(cross[1], cross[0], marker="+", color="#56b4e9", markersize=9, markeredgewidth=1.8)
        _label(panels[line, 0], f"{label}\nup to {largest:.2g}")
    return finish(canvas, name, title, caption, _maps_csv(name, shots, rows), wide=True)


def _maps_csv(name: str, shots: Sequence[Shot], rows: list[Row]) -> Table:
    """A row for each pixel of each map."""
    cells: list[tuple[Cell, ...]] = []
    for label, maps in rows:
        for shot, values in zip(shots, maps, strict=True):
            place = (label.replace("\n", " "), shot.sigma / 2)
            cells += [
                (*place, i, j, value)
                for i, line in enumerate(values.tolist())
                for j, value in enumerate(line)
            ]
    return Table(
        name, name, ("map", "sigma, white - black = 1", "row", "column", "attention, even = 1"), cells
    )


def _picture(axes: Any, x: Tensor, *, grey: bool = False) -> None:
    """(C, H, W) in [-1, 1]; for overlays in grey, a little darker than it is, so that the colour reads."""
    if grey and x.shape[0] == 3:
        x = torch.einsum("c,chw->hw", torch.tensor(LUMA).to(x), x)[None]
    pixels = to_bytes(x.float().clamp(-1, 1))
    shown = pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels
    axes.imshow(shown, cmap="gray", vmin=0, vmax=320 if grey else 255)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for edge in axes.spines.values():
        edge.set_visible(False)


def _label(axes: Any, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)
