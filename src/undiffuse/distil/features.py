"""What the layers of a network look at: maps that do not depend on how wide the network is."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from undiffuse.networks import ddpm, photo
from undiffuse.networks.blocks import ResidualBlock

BLOCKS = (ddpm.Block, photo.Block, ResidualBlock)
Maps = dict[tuple[int, int], Tensor]
"""By size (h, w) in the network: (B, h, w), float32, sum of squares 1; of the last residual block of that size."""


@contextmanager
def watched(net: nn.Module) -> Iterator[Maps]:
    """The maps of what is asked of a network inside, which keeps its code, its answer and its state.

    ValueError for a network without residual blocks of this package.
    """
    blocks = [module for module in net.modules() if isinstance(module, BLOCKS)]
    if not blocks:
        raise ValueError(f"{type(net).__name__} has no residual blocks to compare; leave out the features")
    maps: Maps = {}

    def keep(block: nn.Module, given: tuple[Tensor, ...], h: Tensor) -> None:
        power = h.float().square().mean(1)
        maps[h.shape[-2], h.shape[-1]] = power / power.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None]

    hooks = [block.register_forward_hook(keep) for block in blocks]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()


def apart(found: Maps, taught: Maps) -> Tensor:
    """(B,): the squared distance of two networks' maps, a mean over the sizes that both have; 0 to 2.

    Attention transfer (Zagoruyko and Komodakis 2017, eq. 2) with squared distances, at each of a U-Net's resolutions.
    """
    common = [size for size in found if size in taught]
    return torch.stack([(found[size] - taught[size]).square().sum((1, 2)) for size in common]).mean(0)
