"""Pictures of the first seed on their way through all priors, and the pictures that all seeds end at."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from undiffuse.app.analyse import draw
from undiffuse.app.analyse.section import Figure
from undiffuse.app.analyse.subjects import Subject, Subjects
from undiffuse.app.outputs import as_image
from undiffuse.core.state import State

WANTED = (20.0, 6.0, 3.0, 1.5, 0.8, 0.4, 0.1)  # levels that are shown, in [-1, 1] units, and the end
NEAR = 0.25  # how far in ln sigma a level may be from a wanted one
SHOWN = 8  # pictures of the ends
SIDE = 96  # pixels of a picture in a figure, at most


@dataclass(frozen=True, slots=True)
class Strip:
    """Of one prior."""

    label: str
    moments: dict[float, Tensor]  # by wanted level: the estimate of the first picture, (C, H, W)
    ends: Tensor  # (SHOWN or fewer, C, H, W)


class Watcher:
    """Keeps a few small pictures of what passes by."""

    def __init__(self, subject: Subject, subjects: Subjects):
        self._label, levels = subject.label, subject.sigmas[:-1]
        self._wanted: dict[int, float] = {}  # by number of the state whose x0 is the estimate at that level
        for wanted in WANTED:
            away = (levels.log() - math.log(wanted)).abs()
            if away.min() <= NEAR:
                self._wanted.setdefault(int(away.argmin()) + 1, wanted)
        self._last = len(subject.sigmas) - 1
        self._moments: dict[float, Tensor] = {}
        self._ends: list[Tensor] = []

    def __call__(self, states: Iterator[State], members: Sequence[int]) -> Iterator[State]:
        """The same states, untouched."""
        for number, state in enumerate(states):
            if 0 in members and number in self._wanted and state.x0 is not None:
                self._moments[self._wanted[number]] = small(state.x0[members.index(0)])
            if number == self._last:
                self._ends += [small(state.x[i]) for i, member in enumerate(members) if member < SHOWN]
            yield state

    def strip(self) -> Strip:
        """What was kept."""
        return Strip(self._label, self._moments, torch.stack(self._ends))


def small(pixels: Tensor) -> Tensor:
    """(C, H, W) reduced to SIDE pixels at most, on the CPU."""
    pixels = pixels.detach().float().cpu()
    scale = SIDE / max(pixels.shape[1:])
    if scale >= 1:
        return pixels.clone()
    return functional.interpolate(pixels[None], scale_factor=scale, mode="area")[0]


def figures(strips: Sequence[Strip]) -> tuple[Figure, ...]:
    """The way of one seed, and the ends of some; none for priors whose trajectories were read from a file."""
    if not strips:
        return ()
    with draw.style():
        return _way(strips), _ends(strips)


def _way(strips: Sequence[Strip]) -> Figure:
    columns = [level for level in WANTED if any(level in strip.moments for strip in strips)]
    titles = [f"{level / 2:.3g}" for level in columns] + ["end"]
    rows = [[strip.moments.get(level) for level in columns] + [strip.ends[0]] for strip in strips]
    caption = (
        "one row for each prior, all from the same noise. Each picture is what the prior takes the clean picture "
        "to be at the noise level above it, with white - black = 1; the last one is what it ends at. Rows that "
        "look alike down a column agree at that level; where they part, what follows differs too. A gap is a "
        "level that the prior does not visit."
    )
    return _grid("strip", "One seed through all priors", caption, strips, titles, rows)


def _ends(strips: Sequence[Strip]) -> Figure:
    count = min(len(strip.ends) for strip in strips)
    rows: list[list[Tensor | None]] = [list(strip.ends[:count]) for strip in strips]
    titles = [f"seed {i}" for i in range(count)]
    caption = (
        "the pictures that the first seeds end at. A column is one noise, and one class where there are classes: "
        "priors that have learned the same map from noise to pictures show the same picture down a column."
    )
    return _grid("ends", "Where the seeds end", caption, strips, titles, rows)


def _grid(
    name: str,
    title: str,
    caption: str,
    strips: Sequence[Strip],
    titles: Sequence[str],
    rows: Sequence[Sequence[Tensor | None]],
) -> Figure:
    import numpy as np

    figure, axes = draw.frame(1.6 + 1.15 * len(titles), 0.45 + 1.2 * len(rows), len(rows), len(titles))
    panels = np.array(axes, dtype=object).reshape(len(rows), len(titles))  # also of one picture alone
    for i, (strip, row) in enumerate(zip(strips, rows, strict=True)):
        for j, pixels in enumerate(row):
            panel = panels[i, j]
            panel.set(xticks=[], yticks=[])
            panel.grid(visible=False)
            for side in panel.spines.values():
                side.set_visible(False)
            if pixels is not None:
                panel.imshow(as_image(pixels))
            if i == 0:
                panel.set_title(titles[j])
        panels[i, 0].set_ylabel(shortened(strip.label), rotation=0, ha="right", va="center")
    return draw.finish(figure, name, title, caption, wide=True)


def shortened(label: str, most: int = 18) -> str:
    """A label that fits beside a row."""
    return label if len(label) <= most else f"...{label[3 - most :]}"
