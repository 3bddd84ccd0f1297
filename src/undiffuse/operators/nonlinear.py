"""Degradations that are not linear: JPEG compression, clipping, gamma. They have no pseudo-inverse."""

from typing import Annotated

import pydantic
import torch
from torch import Tensor

from undiffuse.core.dct import dct
from undiffuse.operators.base import Operator, Shape
from undiffuse.registry import OPERATORS

# ITU-T T.81 (1992), tables K.1 and K.2
LUMINANCE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
CHROMINANCE = [
    [17, 18, 24, 47, 99, 99, 99, 99],
    [18, 21, 26, 66, 99, 99, 99, 99],
    [24, 26, 56, 99, 99, 99, 99, 99],
    [47, 66, 99, 99, 99, 99, 99, 99],
    *[[99] * 8] * 4,
]
# JFIF 1.02: Y, Cb - 128, Cr - 128 from R, G, B
YCBCR = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]


class Jpeg(Operator):
    """Baseline JPEG without chroma subsampling (4:4:4): DCT of 8 x 8 blocks, divided, rounded, multiplied.

    Rounding passes gradients through unchanged (straight-through, Bengio et al. 2013). The 8-bit roundings of
    a codec before and after it are left out. Sizes that 8 does not divide are extended by their last row and
    column.
    """

    tables: Tensor
    basis: Tensor
    colour: Tensor
    back: Tensor

    def __init__(self, shape: Shape, quality: int):
        super().__init__(shape, shape)
        if shape[0] not in (1, 3):
            raise ValueError(f"JPEG of {shape[0]} channels; it stores 1 or 3")
        base = torch.tensor([LUMINANCE, CHROMINANCE, CHROMINANCE][: shape[0]], dtype=torch.float64)
        scale = (
            5000 // quality if quality < 50 else 200 - 2 * quality
        )  # as the Independent JPEG Group's library
        colour = (
            torch.tensor(YCBCR, dtype=torch.float64) if shape[0] == 3 else torch.eye(1, dtype=torch.float64)
        )
        self.register_buffer("tables", ((base * scale + 50) / 100).floor().clamp(1, 255))  # (C, 8, 8)
        self.register_buffer("basis", dct(torch.eye(8, dtype=torch.float64), 0))
        self.register_buffer("colour", colour)
        self.register_buffer("back", torch.inverse(colour))

    def forward(self, x: Tensor) -> Tensor:
        """Compressed and decompressed, clamped to [-1, 1]."""
        scaled = self._coefficients(x)
        return self._picture(scaled + (scaled.round() - scaled).detach(), x).clamp(-1, 1)

    def nearest(self, x: Tensor, y: Tensor) -> Tensor:
        """The picture next to x, in the coefficients, of those that are stored as y is: each in its step around y's."""
        return self._picture(_within(self._coefficients(x), self._coefficients(y).round()), x)

    def estimate(self, x: Tensor, y: Tensor, variance: Tensor, sigma_y: float) -> Tensor:
        """The mean of a Gaussian around x of this variance, given y = A(.) + sigma_y n.

        Rounding counts as noise of variance step^2 / 12 in each coefficient, that of a uniform error; the colours as
        if their transform were orthonormal. Without noise y tells the steps, and the mean is kept within them.
        """
        found, data = self._coefficients(x), self._coefficients(y)
        known = (self.tables / 127.5)[:, None, None] ** 2 / 12 + sigma_y**2
        mean = found + variance / (variance + known) * (data - found)
        return self._picture(mean if sigma_y > 0 else _within(mean, data.round()), x)

    def _coefficients(self, x: Tensor) -> Tensor:
        """(B, C, rows, columns, 8, 8) in steps of the tables."""
        *_, channels, height, width = x.shape
        x = torch.nn.functional.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        levels = torch.einsum("dc,bchw->bdhw", self.colour, (x + 1) * 127.5)
        levels = torch.cat([levels[:, :1] - 128, levels[:, 1:]], 1)
        blocks = levels.reshape(-1, channels, x.shape[-2] // 8, 8, x.shape[-1] // 8, 8).transpose(3, 4)
        return self.basis @ blocks @ self.basis.mT / self.tables[:, None, None]

    def _picture(self, scaled: Tensor, like: Tensor) -> Tensor:
        """The inverse of `_coefficients`, of the size of `like`."""
        *_, height, width = like.shape
        levels = self.basis.mT @ (scaled * self.tables[:, None, None]) @ self.basis
        levels = levels.transpose(3, 4).reshape(*like.shape[:-2], height + -height % 8, width + -width % 8)
        levels = torch.cat([levels[:, :1] + 128, levels[:, 1:]], 1)
        return (torch.einsum("dc,bchw->bdhw", self.back, levels) / 127.5 - 1)[..., :height, :width]


def _within(scaled: Tensor, stored: Tensor) -> Tensor:
    """Not at the very edge, where rounding to even would store another number."""
    return scaled.clamp(stored - 0.499, stored + 0.499)


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


@OPERATORS.register("jpeg", summary="JPEG compression", example="jpeg:quality=10")
def jpeg(
    shape: Shape,
    /,
    *,
    quality: Annotated[int, pydantic.Field(ge=1, le=100, description="as libjpeg counts it")] = 10,
) -> Jpeg:
    """Baseline JPEG, 4:4:4, of grey or colour images."""
    return Jpeg(shape, quality)


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
