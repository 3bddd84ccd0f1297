"""Pictures that tests share."""

from importlib.resources import files

import torch
from torch import Tensor

from undiffuse.core.images import read


def photograph(height: int = 576, width: int = 576) -> Tensor:
    """The bundled photograph's centre, (3, height, width) in [-1, 1]."""
    x = read(str(files("undiffuse.assets") / "dog.jpg")).pixels
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width].contiguous()


def smooth(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """A random picture of low frequencies, in [-1, 1], of any shape (..., H, W)."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for dim in (-2, -1):
        x = (x + x.roll(1, dim) + x.roll(2, dim)) / 3
    return x.clamp(-1, 1).to(dtype)
