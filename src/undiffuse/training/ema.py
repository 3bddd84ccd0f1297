"""Averages of weights. Counted in images, so that they mean the same at every batch size."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of a module's parameters; buffers are copied.

    halflife_images: after so many images an old weight counts half. warmup: the half-life is at most this share of the
    images seen, so that the average forgets the initialisation (Karras et al. 2022, their code's ramp-up); 0 = none.
    ValueError for a half-life that is not positive.
    """

    def __init__(self, module: nn.Module, *, halflife_images: float, warmup: float = 0.05):
        if not halflife_images > 0:
            raise ValueError(
                f"half-life {halflife_images} images; expected a positive number, such as 500000"
            )
        self.halflife_images, self.warmup = halflife_images, warmup
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, *, images_seen: int, batch: int) -> None:
        """After the optimiser's step: images_seen counts the batch just used."""
        halflife = self.halflife_images
        if self.warmup > 0:
            halflife = min(halflife, self.warmup * images_seen)
        self._blend(module, 0.5 ** (batch / max(halflife, 1e-8)))

    def _blend(self, module: nn.Module, keep: float) -> None:
        for mine, theirs in zip(self.module.parameters(), module.parameters(), strict=True):
            mine.lerp_(theirs.detach().to(mine), 1 - keep)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` gave."""
        self.module.load_state_dict(state)


class PowerEMA(EMA):
    """Power-function average (Karras et al. 2024, eq. 4): a fixed share of all training, whatever its length.

    std: relative width of the profile, 0.05 to 0.15 in the paper; its exponent gamma solves
    std^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
    """

    def __init__(self, module: nn.Module, *, std: float):
        if not 0 < std < 0.28:
            raise ValueError(f"relative width {std}; expected more than 0 and less than 0.28, such as 0.10")
        super().__init__(module, halflife_images=1.0)
        self.std, self.gamma = std, exponent(std)

    @torch.no_grad()
    def update(self, module: nn.Module, *, images_seen: int, batch: int) -> None:
        """beta = (1 - batch / images_seen)^(gamma + 1)."""
        self._blend(module, (1 - batch / images_seen) ** (self.gamma + 1))


def exponent(std: float) -> float:
    """gamma of a power profile of relative width std, by bisection: the width falls with gamma."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        width = ((middle + 1) / ((middle + 2) ** 2 * (middle + 3))) ** 0.5
        low, high = (middle, high) if width > std else (low, middle)
    return (low + high) / 2
