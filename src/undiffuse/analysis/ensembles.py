"""How far apart two sets of samples are as sets, whatever the pairing: sliced Wasserstein and energy distance.

Samples are (n, k): pictures flattened, or their sketches. Distances are in the units of the numbers: a set moved by d
in every number is d away from itself, in whatever dimension.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

DIRECTIONS = 256  # of the sliced distance: its value is then known to some 5 %
EXACTLY = "donot_use_mm_for_euclid_dist"  # of cdist: the matrix form loses small distances to cancellation


def sliced_wasserstein(a: Tensor, b: Tensor, *, directions: int = DIRECTIONS, seed: int = 0) -> float:
    """sqrt(E_u W_2^2(u.a, u.b)) over directions u of the sphere (Rabin et al. 2011; Bonneel et al. 2015).

    A shift by d in every number has length sqrt(k) d, of which a direction sees 1 / k in the square: it comes out as d.
    For N(m, s^2) and N(m', s'^2) in all numbers: sqrt((m - m')^2 + (s - s')^2). a, b: (n, k) and
    (n', k); the sets may differ in size. 0 for sets of the same samples, in any order. Directions come in orthonormal
    frames of k, which are exact after whole frames for sets that differ by a shift.
    """
    a, b = _checked(a, b)
    u = _directions(a.shape[1], directions, seed).to(a)
    pa, pb = (a @ u).sort(0).values, (b @ u).sort(0).values
    if len(a) == len(b):
        return (pa - pb).square().mean().sqrt().item()
    edges = torch.cat([torch.arange(1, n, dtype=a.dtype) / n for n in (len(a), len(b))]).sort().values
    edges = torch.cat([edges.new_zeros(1), edges, edges.new_ones(1)])
    middle, width = 0.5 * (edges[1:] + edges[:-1]), edges.diff()
    ranks = [(middle * n).long().clamp(max=n - 1) for n in (len(a), len(b))]
    gap = (pa[ranks[0]] - pb[ranks[1]]).square().mean(1)
    return (gap * width.to(gap)).sum().sqrt().item()


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely and Rizzo 2013, eq. 5), with |v| the root mean square of v.

    All pairs count, those of a sample with itself too: then it is never negative, and 0 only for the same samples, in
    any order. In the units of the numbers. (n, k) and (n', k).
    """
    a, b = _checked(a, b)
    scale = a.shape[1] ** 0.5
    between, mine, theirs = (
        torch.cdist(x, y, compute_mode=EXACTLY).mean().item() for x, y in ((a, b), (a, a), (b, b))
    )
    return max(0.0, (between - mine + between - theirs) / scale)


def floor(
    a: Tensor,
    distance: Callable[[Tensor, Tensor], float],
    *,
    b: Tensor | None = None,
    splits: int = 8,
    seed: int = 0,
) -> tuple[float, float]:
    """(mean, standard deviation) of the distance between halves of one set over random splits.

    What is no farther apart than that cannot be told from it by so many samples. With `b` the second half is that of
    b instead: so two sets are compared at the size of the floor, and the same sets come out at the floor exactly.
    ValueError for fewer than four samples.
    """
    if len(a) < 4 or (b is not None and len(b) != len(a)):
        sizes = f"{len(a)}" if b is None else f"{len(a)} and {len(b)}"
        raise ValueError(f"{sizes} samples to split; expected four or more, as many of both")
    generator = torch.Generator().manual_seed(seed)
    other, half = a if b is None else b, len(a) // 2
    found: list[float] = []
    for _ in range(splits):
        order = torch.randperm(len(a), generator=generator)
        found.append(distance(a[order[:half]], other[order[half : 2 * half]]))
    values = torch.tensor(found, dtype=torch.float64)
    return values.mean().item(), values.std(correction=0).item()


def _checked(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise ValueError(f"sets of shape {tuple(a.shape)} and {tuple(b.shape)}; expected (n, k) and (n', k)")
    return a.cpu().double(), b.cpu().double()


@functools.lru_cache(maxsize=4)  # the same for every level and split
def _directions(k: int, count: int, seed: int) -> Tensor:
    """(k, count) of length 1, in orthonormal frames one after the other."""
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    for start in range(0, count, k):
        wide = min(k, count - start)
        q, r = torch.linalg.qr(torch.randn(k, wide, generator=generator, dtype=torch.float64))
        found.append(q * torch.where(r.diagonal() < 0, -1.0, 1.0))
    return torch.cat(found, 1)
