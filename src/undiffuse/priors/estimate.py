"""The stationary Gaussian of a collection of photographs."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (torch.linalg is untyped)

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from undiffuse.core.dct import dct2
from undiffuse.priors.stationary import StationaryGaussian, log_frequencies


def estimate_stationary(
    images: Iterable[Tensor], *, knots: int = 32, lowest: float = 1 / 1024
) -> StationaryGaussian:
    """A StationaryGaussian from (3, H, W) images in [-1, 1] of any sizes, each counted once in every ring.

    The rings' centres lie evenly in log f between `lowest` and the corner of the DCT, sqrt(1/2); empty ones
    are left out. Within a ring c^2 f^2 is averaged rather than c^2: photographs have S near 1/f^2, and a
    wide ring would otherwise report its lower edge. The colour basis is that of the covariance of the modes
    other than (0, 0), each ring weighing the same.
    """
    centres = torch.logspace(math.log10(lowest), math.log10(math.sqrt(0.5)), knots, dtype=torch.float64)
    edges = (centres[1:] * centres[:-1]).sqrt()
    moments = torch.zeros(knots, 3, 3, dtype=torch.float64)
    seen = torch.zeros(knots, dtype=torch.float64)
    means: list[Tensor] = []
    for image in images:
        if image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(f"an image of shape {tuple(image.shape)}; expected (3, H, W) in [-1, 1]")
        c = dct2(image.double())
        means.append(image.double().mean((-2, -1)))
        log_f = log_frequencies(*image.shape[1:], like=c)
        ring = torch.bucketize(log_f, edges.log())
        inside = (log_f > 1.5 * math.log(lowest) - 0.5 * centres[1].log()).flatten()
        inside[0] = False
        c = (c * log_f.exp()).flatten(1)[:, inside]
        ring = ring.flatten()[inside]
        count = torch.bincount(ring, minlength=knots).double()
        for i in range(3):
            for j in range(3):
                total = torch.bincount(ring, weights=c[i] * c[j], minlength=knots)
                moments[:, i, j] += total / count.clamp(min=1)
        seen += count > 0
    if len(means) < 2:
        raise ValueError(f"{len(means)} images; a variance needs two or more")
    full = seen > 0
    moments = moments[full] / seen[full][:, None, None] / centres[full].square()[:, None, None]
    scale = moments.diagonal(dim1=1, dim2=2).sum(-1)
    colours = torch.linalg.eigh((moments / scale[:, None, None]).mean(0)).eigenvectors.flip(-1).T
    colours = colours * torch.where(colours.sum(1, keepdim=True) < 0, -1.0, 1.0)
    power = torch.einsum("ki,nij,kj->kn", colours, moments, colours)
    mean = torch.stack(means)
    variance = (mean @ colours.T).var(0)
    meta = {"images": str(len(means))}
    return StationaryGaussian(centres[full], power, colours, mean.mean(0), variance, meta=meta)
