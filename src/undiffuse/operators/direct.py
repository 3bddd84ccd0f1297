"""Degradations as plain sums over pixels, slow and obvious: what `check operator` holds the fast forms
against.

Each takes x (B, C, H, W) and the options of the factory of its name. Kernels and masks come from where the
factories have theirs; how they are applied shares no code with them.
"""

from typing import Any

import torch
from torch import Tensor

from undiffuse.operators import kernels, masks


def pool(x: Tensor, *, factor: int) -> Tensor:
    """Means over blocks, one block at a time."""
    starts = [range(0, size, factor) for size in x.shape[2:]]
    return torch.stack(
        [
            torch.stack([x[:, :, i : i + factor, j : j + factor].mean((2, 3)) for j in starts[1]], -1)
            for i in starts[0]
        ],
        -2,
    )


def gray(x: Tensor, *, weights: list[float] | None) -> Tensor:
    """sum_c w_c x_c."""
    count = x.shape[1]
    given = [1 / count] * count if weights is None else weights
    return torch.stack([weight * x[:, c] for c, weight in enumerate(given)]).sum(0).unsqueeze(1)


def inpaint(x: Tensor, **options: Any) -> Tensor:
    """x where it is measured, else 0."""
    return torch.where(masks.described(tuple(x.shape[1:]), **options), x, 0)


def blur(x: Tensor, *, boundary: str, **options: Any) -> Tensor:
    """k * x by its definition."""
    return convolved(x, kernels.described(**options), boundary, 1)


def downsample(x: Tensor, *, factor: int, **options: Any) -> Tensor:
    """k * x at the block centres by its definition."""
    return convolved(x, kernels.reduction(factor=factor, **options), "reflect", factor)


def convolved(x: Tensor, kernel: Tensor, boundary: str, factor: int) -> Tensor:
    """sum_t k_t x(i f + (f - 1 + K - 1) // 2 - t) in both dimensions, one tap at a time."""
    taps = [
        [_looked_up(n, boundary, factor, k, t) for t in range(k)]
        for n, k in zip(x.shape[2:], kernel.shape, strict=True)
    ]
    out = torch.zeros((), dtype=x.dtype)
    for r, (rows, inside_rows) in enumerate(taps[0]):
        for c, (columns, inside_columns) in enumerate(taps[1]):
            seen = x[:, :, rows][:, :, :, columns] * (inside_rows.unsqueeze(1) * inside_columns)
            out = out + kernel[r, c].to(x.dtype) * seen
    return out


def cs(x: Tensor, *, ratio: float, seed: int) -> Tensor:
    """Entry (i, j) of the transform is the parity of i & j, as a sign; eight coefficients at a time."""
    pixels = x.shape[2] * x.shape[3]
    length = 1 << (pixels - 1).bit_length()
    kept = masks.coefficients(pixels, length, ratio, seed)
    parts = [kept[i : i + 8] for i in range(0, len(kept), 8)]
    found = [x.flatten(2) @ _signs(part, pixels).to(x.dtype).mT for part in parts]
    return torch.cat(found, -1) / length**0.5


def _signs(rows: Tensor, pixels: int) -> Tensor:
    common, parity = rows.unsqueeze(1) & torch.arange(pixels), torch.zeros(1, dtype=torch.long)
    for bit in range(pixels.bit_length()):
        parity = parity ^ (common >> bit & 1)
    return 1 - 2 * parity


def _looked_up(n: int, boundary: str, factor: int, taps: int, t: int) -> tuple[Tensor, Tensor]:
    """Which samples tap t sees, and whether they exist."""
    p = torch.arange(-(-n // factor)) * factor + (factor + taps - 2) // 2 - t
    if boundary == "circular":
        return p % n, torch.ones_like(p)
    if boundary == "zero":
        return p.clamp(0, n - 1), ((p >= 0) & (p < n)).long()
    while bool(((p < 0) | (p >= n)).any()):
        p = torch.where(p < 0, -1 - p, p)
        p = torch.where(p >= n, 2 * n - 1 - p, p)
    return p, torch.ones_like(p)
