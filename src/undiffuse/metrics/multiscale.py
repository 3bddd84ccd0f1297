"""MS-SSIM: structural similarity over five scales. Images (B, C, H, W) in [-1, 1], clamped to it as for `ssim`."""

import torch
from torch import Tensor
from torch.nn import functional

from undiffuse.metrics.pixel import similarity, to_unit

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2
LEAST = 161  # pixels: halved four times, rounded up, it leaves the 11 of the window


def ms_ssim(x: Tensor, reference: Tensor) -> Tensor:
    """Multi-scale structural similarity of each image, (B,) (Wang et al. 2003, eq. 7): mean over channels.

    The window, constants and moments of `ssim`. Between scales, means of 2 x 2 pixels; where a side is odd its
    last line counts twice, as in the authors' code. A contrast-structure term below 0, of opposite
    structures, counts as 0: its fractional power is no real number. ValueError if a side is under 161 pixels.
    """
    if min(x.shape[-2:]) < LEAST:
        raise ValueError(
            f"MS-SSIM needs at least {LEAST}x{LEAST} pixels; this image has {x.shape[-2]}x{x.shape[-1]}; use SSIM"
        )
    channels = zip(x.split(1, 1), reference.split(1, 1), strict=True)  # one at a time: memory
    return torch.stack([_product(to_unit(a), to_unit(b)) for a, b in channels]).mean(0)


def _product(a: Tensor, b: Tensor) -> Tensor:
    total = a.new_ones(a.shape[0])
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            a, b = _halved(a), _halved(b)
        luminance, structure = similarity(a, b)
        term = luminance * structure if scale == len(WEIGHTS) - 1 else structure
        total = total * term.flatten(1).mean(1).clamp(min=0) ** weight
    return total


def _halved(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    return functional.avg_pool2d(functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)
