"""What training draws beside Gaussian noise, all from one noise source an image."""

from collections.abc import Callable

import torch
from torch import Tensor

from undiffuse.core.state import Noise

DrawSigma = Callable[[Tensor], Tensor]  # u (B,), uniform in [0, 1) -> sigma (B,)


def uniform(noise: Noise, images: int, draws: int) -> Tensor:
    """(images, draws) in [0, 1], float64 on the CPU, each row from its own image's noise."""
    return torch.special.ndtr(noise(torch.empty(images, draws, dtype=torch.float64)))
