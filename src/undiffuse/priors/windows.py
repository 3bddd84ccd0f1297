"""Pictures of any size: a denoiser asked in windows that overlap, its answers blended."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (torch.utils.checkpoint is untyped)

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from undiffuse.core.state import Denoise, like_image

CHIRP = (1.6180339887, 2.4142135624)  # of the shift downwards and to the right: irrational, unlike each other
FINEST = 1e-6  # sigma below which the shift stays


def windowed(denoise: Denoise, /, *, size: tuple[int, int], overlap: int, batch: int = 1) -> Denoise:
    """The denoiser for pictures of any size, asked in windows of exactly `size`, (height, width).

    Windows stand on a lattice of step size - overlap, moved inwards at the border of the picture. From one to the
    next the weight goes over as sin^2 (pi u / 2) (Hann), u from 0 to 1 across the middle half of the overlap; it is
    0 in the quarter at the window's own border and 1 elsewhere. The weights sum to 1 at each pixel, so a denoiser
    that sees no further than overlap // 4 answers as on the whole picture. The lattice is shifted by a function of
    sigma alone: seams lie elsewhere at other levels, and the same picture gives the same pixels however it is
    batched or resumed. Conditioning on data belongs outside, where the whole picture is.

    A picture smaller than the window is continued by reflection on both sides, as often as needed, and the answer
    is cropped; one of the window's size gives denoise(x, sigma) itself. Beside x there are the answer and `batch`
    windows of each image; with gradients on, windows are made again when the gradient passes (checkpoints), one
    call at a time. Cost is linear in pixels, and memory for the network does not depend on them. A denoiser that
    holds something of each image (labels) needs batch 1. ValueError for an overlap below 1 or above half a window.
    """
    if not 1 <= overlap <= min(size) // 2:
        raise ValueError(
            f"windows of {size[0]}x{size[1]} with an overlap of {overlap}; expected 1 to {min(size) // 2}, half of "
            "the shorter side"
        )
    if batch < 1:
        raise ValueError(f"batch = {batch}; expected windows in one call, 1 or more")

    def in_windows(x: Tensor, sigma: Tensor, /) -> Tensor:
        sigma = like_image(sigma, x)
        seen, above = reflected(x, size[0], 2)
        seen, left = reflected(seen, size[1], 3)
        whole = seen.shape[2:] == size
        x0 = denoise(seen, sigma) if whole else _blended(denoise, seen, sigma, size, overlap, batch)
        return x0[:, :, above : above + x.shape[2], left : left + x.shape[3]]

    return in_windows


@dataclass(frozen=True, slots=True)
class Line:
    """Windows along one axis."""

    starts: tuple[int, ...]
    weights: Tensor  # (windows, size) float64


def line(length: int, size: int, overlap: int, shift: float) -> Line:
    """Windows of `size` pixels that cover `length` >= size pixels, overlapping by `overlap` or more.

    shift: 0 to 1, where the lattice lies within its freedom: more than an overlap, or half a step if that is less.
    The number of windows does not depend on it.
    """
    if length == size:
        return Line((0,), torch.ones(1, size, dtype=torch.float64))
    step, last = size - overlap, length - size
    count = -(-last // step)
    spare = count * step - last  # pixels that the lattice can begin before the picture and still cover it
    few = spare >= min(overlap, step // 2)  # enough freedom, else one window more
    first, free = (0, spare + 1) if few else (spare + 1, step - spare - 1)
    count += first > 0
    moved = first + min(int(shift * free), free - 1)
    lattice = [j * step - moved for j in range(count + 1)]
    starts = tuple(min(max(p, 0), last) for p in lattice)
    rows: list[Tensor] = []
    for j, start in enumerate(starts):
        at = torch.arange(start, start + size, dtype=torch.float64)
        weight = _rise(at - lattice[j], overlap) if j else torch.ones_like(at)
        rows.append(weight if j == count else weight * (1 - _rise(at - lattice[j + 1], overlap)))
    return Line(starts, torch.stack(rows))


def _rise(into: Tensor, overlap: int) -> Tensor:
    """The weight `into` pixels into a window: 0 in the first quarter of the overlap, 1 from its last."""
    margin = overlap // 4
    u = ((into - margin + 0.5) / (overlap - 2 * margin)).clamp(0, 1)
    return (u * (math.pi / 2)).sin().square()


def shifts(sigma: float) -> tuple[float, float]:
    """Fractions of a step, down and right: c ln(sigma / 1e-6)^2 modulo 1.

    The square keeps the levels of a geometric grid from falling into step with the lattice; a rounding of sigma
    moves a fraction by 1e-5 at most.
    """
    square = math.log(max(sigma / FINEST, 1.0)) ** 2
    return CHIRP[0] * square % 1, CHIRP[1] * square % 1


@dataclass(frozen=True, slots=True)
class _Lattice:
    """The windows of some images."""

    images: slice
    down: Line
    right: Line

    def place(self, i: int, j: int, size: tuple[int, int]) -> tuple[slice, slice, slice, slice]:
        """Of window (i, j) in the batch."""
        top, left = self.down.starts[i], self.right.starts[j]
        return self.images, slice(None), slice(top, top + size[0]), slice(left, left + size[1])

    def weighted(self, x0: Tensor, i: int, j: int) -> Tensor:
        """The answer of window (i, j), (b, C, h, w), times its weight."""
        return x0 * self.down.weights[i].to(x0)[:, None] * self.right.weights[j].to(x0)


def _lattices(x: Tensor, sigma: Tensor, size: tuple[int, int], overlap: int) -> list[_Lattice]:
    """One for all images, or one for each where each has a level."""
    levels = cast(list[float], sigma.detach().flatten().tolist())
    several = len(levels) > 1
    found: list[_Lattice] = []
    for number, level in enumerate(levels):
        down, right = shifts(level)
        images = slice(number, number + 1) if several else slice(None)
        lines = (line(n, s, overlap, u) for n, s, u in zip(x.shape[2:], size, (down, right), strict=True))
        found.append(_Lattice(images, *lines))
    return found


def _blended(
    denoise: Denoise, x: Tensor, sigma: Tensor, size: tuple[int, int], overlap: int, batch: int
) -> Tensor:
    lattices = _lattices(x, sigma, size, overlap)
    rows, columns = len(lattices[0].down.starts), len(lattices[0].right.starts)
    places = [(i, j) for i in range(rows) for j in range(columns)]
    answer = torch.zeros_like(x)
    for begin in range(0, len(places), batch):
        some = places[begin : begin + batch]
        crops = [(lattice, i, j) for i, j in some for lattice in lattices]
        seen = [x[lattice.place(i, j, size)] for lattice, i, j in crops]
        each = sigma.expand(len(x), 1, 1, 1).repeat(len(some), 1, 1, 1) if sigma.ndim else sigma
        x0 = _asked(denoise, torch.cat(seen), each)
        parts = cast(tuple[Tensor, ...], x0.split([len(s) for s in seen]))
        for (lattice, i, j), part in zip(crops, parts, strict=True):
            answer[lattice.place(i, j, size)] += lattice.weighted(part, i, j)
    return answer


def _asked(denoise: Denoise, x: Tensor, sigma: Tensor) -> Tensor:
    """denoise(x, sigma), of which only x is kept for the gradient."""
    if not torch.is_grad_enabled():
        return denoise(x, sigma)
    return cast(Tensor, checkpoint(denoise, x, sigma, use_reentrant=False, preserve_rng_state=False))


def reflected(x: Tensor, least: int, dim: int) -> tuple[Tensor, int]:
    """x continued along `dim` to `least` pixels, half of them before it, and how many those are.

    Reflection is about the last pixel, to and fro where the picture is shorter than what is missing.
    """
    size = x.shape[dim]
    missing = max(least - size, 0)
    if not missing:
        return x, 0
    period = max(2 * size - 2, 1)
    at = (torch.arange(size + missing, device=x.device) - missing // 2).remainder(period)
    return x.index_select(
        dim, torch.minimum(at, period - at) if size > 1 else torch.zeros_like(at)
    ), missing // 2
