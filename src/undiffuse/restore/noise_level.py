"""How noisy is this measurement? An estimate from the picture alone."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

eigenvalues = cast(Callable[[Tensor], Tensor], torch.linalg.eigvalsh)  # pyright: ignore[reportUnknownMemberType]

PATCHES = 200_000  # of one image at most; memory stays under 150 MB
SMOOTH = 0.25  # share of patches used: see benchmarks/results/noise_level.json, with all patches beside it


def estimate_sigma(y: Tensor, support: Tensor | None = None) -> float:
    """Standard deviation of white Gaussian noise in an image y (C, H, W), in y's own units.

    Chen, Zhu and Heng (ICCV 2015): clean patches lie near a subspace, so the small eigenvalues of the patch
    covariance are the noise's alone. Sorted, the largest are dropped until the mean of the rest is no more
    than their median. Departure: only the quarter of the patches whose 2x2 averages vary least is used, since
    photographs of grass have no small eigenvalues; the averaging keeps the choice nearly blind to the noise
    itself. `support` (broadcasts to y; 1 = measured) leaves out patches with a gap; the largest of 8x8 .. 3x3
    with enough whole patches is used (3x3 without that choice). Texture counts as noise: on photographs good
    to 6 % at 0.05 and to 25 % at 0.02 (white - black = 1), up to three times too high at 0.005.
    Under-estimates where noise is not white (JPEG, demosaicing, resampling).

    ValueError if y is no image or has too few whole patches.
    """
    if y.ndim != 3:
        raise ValueError(
            f"noise can be estimated from an image only, and this measurement has shape {tuple(y.shape)}"
        )
    known = torch.ones_like(y) if support is None else support.to(y).expand_as(y)
    for side in range(8, 2, -1):
        if min(y.shape[1:]) < 2 * side:
            continue
        patches = _whole_patches(y, known, side)
        enough = 20 * side**2  # for the spread of the sample eigenvalues to stay near 20 %
        if len(patches) >= enough:
            return _small_eigenvalues(_smoothest(patches, side, max(enough, int(SMOOTH * len(patches)))))
    raise ValueError("too few gapless patches to estimate the noise from; give its level instead of 'auto'")


def _whole_patches(y: Tensor, known: Tensor, side: int) -> Tensor:
    """(n, side^2) patches of single channels without a missing pixel; an even selection if there are many."""
    weight = known.new_ones(1, 1, side, side)
    whole = (functional.conv2d(known[:, None], weight) > side**2 - 0.5).flatten().nonzero().squeeze(1)
    if len(whole) > PATCHES:
        whole = whole[torch.linspace(0, len(whole) - 1, PATCHES).long()]
    views = y.unfold(1, side, 1).unfold(2, side, 1)  # (C, H', W', side, side), no copy
    _, rows, columns = views.shape[:3]
    c, row, column = whole // (rows * columns), whole // columns % rows, whole % columns
    return views[c, row, column].flatten(1).double()


def _smoothest(patches: Tensor, side: int, count: int) -> Tensor:
    if side < 4:
        return patches
    averages = functional.avg_pool2d(patches.view(-1, 1, side, side), 2).flatten(1)
    return patches[averages.var(1).argsort()[:count]]


def _small_eigenvalues(patches: Tensor) -> float:
    values = eigenvalues(patches.T.cov()).clamp(min=0)  # ascending
    for kept in range(len(values), 0, -1):
        rest = values[:kept]
        if rest.mean() <= rest.median() * (1 + 1e-9):
            return rest.mean().sqrt().item()
    return values[0].sqrt().item()
