"""Degradations that are not linear, of single values: clipping, gamma. They have no pseudo-inverse."""

from typing import Annotated

import pydantic
import torch
from torch import Tensor

from undiffuse.operators.base import Operator, Shape
from undiffuse.registry import OPERATORS


class Clip(Operator):
    """clamp(gain x, -1, 1): over-exposure. No gradient where it saturates."""

    def __init__(self, shape: Shape, gain: float):
        super().__init__(shape, shape)
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """clamp(gain x, -1, 1)."""
        return (self.gain * x).clamp(-1, 1)


class Gamma(Operator):
    """v^gamma of v = (x + 1) / 2, back in [-1, 1].

    Below v = 1e-3 it is the line from 0 to that point, as sRGB has one: a power has no finite slope at 0, and
    no value for the negative v that an unfinished estimate may have.
    """

    def __init__(self, shape: Shape, gamma: float):
        super().__init__(shape, shape)
        self.gamma = gamma

    def forward(self, x: Tensor) -> Tensor:
        """2 v^gamma - 1."""
        v, toe = (x + 1) / 2, 1e-3
        return 2 * torch.where(v > toe, v.clamp(min=toe) ** self.gamma, v * toe ** (self.gamma - 1)) - 1


@OPERATORS.register("clip", summary="over-exposure: a gain, then saturation", example="clip:gain=2")
def clip(
    shape: Shape,
    /,
    *,
    gain: Annotated[
        float, pydantic.Field(gt=0, le=100, description="about mid grey, before the clamp")
    ] = 2.0,
) -> Clip:
    """clamp(gain x, -1, 1). Gain 2 is the HDR task of RED-diff (Mardani et al. 2023)."""
    return Clip(shape, gain)


@OPERATORS.register("gamma", summary="a power of the intensity", example="gamma:gamma=2.2")
def gamma(
    shape: Shape,
    /,
    *,
    gamma: Annotated[
        float, pydantic.Field(ge=0.1, le=10, description="exponent on intensities in [0, 1]")
    ] = 2.2,
) -> Gamma:
    """v^gamma on intensities in [0, 1]: above 1 darkens."""
    return Gamma(shape, gamma)
