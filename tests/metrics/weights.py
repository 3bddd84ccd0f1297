"""Weights and pictures by formula: the same in any version, so that golden numbers can be made elsewhere."""

import zlib

import torch
from torch import Tensor

from undiffuse.metrics import LPIPS


def formula(name: str, shape) -> Tensor:
    """sin(1.7 i + a), a from the name, scaled to keep activations near 1; positive for the heads `lin*`."""
    fan_in = max(1, torch.Size(shape[1:]).numel())
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    values = torch.sin(1.7 * i + 0.3 * i.sqrt() + zlib.crc32(name.encode()) % 1000).reshape(shape)
    return values.abs() if name.startswith("lin") else values * (2 / fan_in**0.5 if len(shape) > 1 else 0.1)


def pictures(height: int = 67, width: int = 91) -> tuple[Tensor, Tensor]:
    """Two batches (2, 3, height, width) in [-1, 1], the second a disturbed copy of the first."""
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in (height, width))
    rows = rows[:, None]
    planes = [
        torch.sin(rows * (0.1 + 0.07 * k) + k) * torch.cos(columns * (0.31 - 0.04 * k)) for k in range(6)
    ]
    x = torch.stack(planes).reshape(2, 3, height, width)
    return x, (x + 0.3 * torch.sin(rows * columns * 0.9)).clamp(-1, 1)


def filled(net: str, dtype: torch.dtype = torch.float32) -> LPIPS:
    """LPIPS with all weights by formula."""
    model = LPIPS(net).to(dtype)
    model.load_state_dict({key: formula(key, value.shape) for key, value in model.state_dict().items()})
    return model
