"""Degradations that are not linear, of single values: clipping, gamma. They have no pseudo-inverse."""

from typing import Annotated

import pydantic
import torch
from torch import Tensor

from undiffuse.operators.base import Separable, Shape
from undiffuse.operators.truncated import truncated
from undiffuse.registry import OPERATORS

TOE = 1e-3  # of v, below which the power is a line
SURE = 3.0  # deviations of the noise


class Clip(Separable):
    """clamp(gain x, -1, 1): over-exposure. No gradient where it saturates."""

    def __init__(self, shape: Shape, gain: float):
        super().__init__(shape, shape)
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        """clamp(gain x, -1, 1)."""
        return (self.gain * x).clamp(-1, 1)

    def guess(self, y: Tensor) -> Tensor:
        """Saturated pixels as dark as they can have been."""
        return y.clamp(-1, 1) / self.gain

    def estimate(self, x: Tensor, told: Tensor, variance: Tensor, sigma_y: float) -> Tensor:
        """Of a saturated pixel the mean of the Gaussian's part from the limit to white or black; of others that with y.

        With noise a pixel counts as saturated beyond the limit, and within three deviations of it if x is beyond.
        """
        edge, slack = 1 / self.gain, SURE * sigma_y / self.gain
        data, sigma = told / self.gain, sigma_y / self.gain
        mean = x + variance / (variance + sigma**2) * (data - x)
        deviation, white = variance.sqrt(), x.new_tensor(max(1.0, 1.001 * edge))
        above = truncated(x, deviation, x.new_tensor(edge), white)
        below = truncated(x, deviation, -white, x.new_tensor(-edge))
        mean = torch.where((data >= edge) | (data >= edge - slack) & (x >= edge), above, mean)
        return torch.where((data <= -edge) | (data <= slack - edge) & (x <= -edge), below, mean)

    def nearest(self, x: Tensor, told: Tensor, sigma_y: float = 0.0) -> Tensor:
        """Without noise the data where it is not saturated, and no less than the limit elsewhere; with noise x."""
        if sigma_y > 0:
            return x
        edge, data = 1 / self.gain, told / self.gain
        found = torch.where(told >= 1, x.clamp(min=edge), data)
        return torch.where(told <= -1, x.clamp(max=-edge), found)


class Gamma(Separable):
    """v^gamma of v = (x + 1) / 2, back in [-1, 1].

    Below v = 1e-3 it is the line from 0 to that point, as sRGB has one: a power has no finite slope at 0, and
    no value for the negative v that an unfinished estimate may have.
    """

    def __init__(self, shape: Shape, gamma: float):
        super().__init__(shape, shape)
        self.gamma = gamma

    def forward(self, x: Tensor) -> Tensor:
        """2 v^gamma - 1."""
        v = (x + 1) / 2
        return 2 * torch.where(v > TOE, v.clamp(min=TOE) ** self.gamma, v * TOE ** (self.gamma - 1)) - 1

    def guess(self, y: Tensor) -> Tensor:
        """The inverse, of values that a picture can have given."""
        w, end = (y.clamp(-1, 1) + 1) / 2, TOE**self.gamma
        return 2 * torch.where(w > end, w.clamp(min=end) ** (1 / self.gamma), w * TOE ** (1 - self.gamma)) - 1

    def estimate(self, x: Tensor, told: Tensor, variance: Tensor, sigma_y: float) -> Tensor:
        """With the inverse of the data, whose noise is that of y by the slope there (the delta method).

        The slope of what is darker than the noise is that where it ends: near black the curve says more than its line.
        """
        data = self.guess(told)
        least = (self.guess(x.new_tensor(2 * sigma_y - 1)) + 1) / 2
        v = torch.maximum((data + 1) / 2, least).clamp(min=TOE)
        noise = (sigma_y / (self.gamma * v ** (self.gamma - 1))) ** 2
        return x + variance / (variance + noise) * (data - x)

    def nearest(self, x: Tensor, told: Tensor, sigma_y: float = 0.0) -> Tensor:
        """Without noise the inverse; with noise x."""
        return x if sigma_y > 0 else self.guess(told)


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
