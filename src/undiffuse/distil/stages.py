"""How far below a level the other point of a consistency pair lies, and how that gap closes in training."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

IMAGES = 3_200_000  # of a stage, in the authors' run on CIFAR-10: 250 ticks of 12800 images
LAST = 7  # their last: 25.6 million images make eight


@dataclass(frozen=True, slots=True)
class Stages:
    """r = t (1 - n(t) / q^(stage + 1)), at least 0, with n(t) = 1 + k sigmoid(-b t) (Geng et al. 2024, ECT).

    Stage 0 is near denoising: r = 0 at low levels, and t / 2 at high ones. Each stage lasts `images` and has gaps
    1 / q of those of the stage before; from stage `last` on they stay. Defaults: the authors' run on CIFAR-10 of 25.6
    million images; their run of an hour starts where that ends, with q = 256 and last = 0. In all of them the last
    gap is t / 256 for large t. Small gaps from the start train slowly and noisily, large ones at the end are biased.
    ValueError for what makes no gap, or none that closes.
    """

    images: int = IMAGES
    q: float = 2.0
    k: float = 8.0
    b: float = 1.0
    last: int = LAST

    def __post_init__(self):
        if self.images < 1 or self.last < 0:
            raise ValueError(
                f"stages of {self.images} images up to {self.last}; expected 1 or more, and 0 or more"
            )
        if not (1 < self.q < math.inf and 0 <= self.k < math.inf and 0 <= self.b < math.inf):
            raise ValueError(
                f"q = {self.q}, k = {self.k}, b = {self.b}; expected q above 1 and the others 0 or more, all finite"
            )

    def at(self, images_seen: int) -> int:
        """The stage after so many images."""
        return min(images_seen // self.images, self.last)

    def below(self, t: Tensor, stage: int) -> Tensor:
        """r, 0 <= r < t, of the shape of t > 0."""
        closed = (1 + self.k * torch.sigmoid(-self.b * t)) * self.q ** -(stage + 1)
        return t * (1 - closed).clamp(min=0)
