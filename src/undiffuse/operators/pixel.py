"""Operators that act on each pixel alone: noise only, and missing pixels."""
# ruff: noqa: D102 (the methods are described in base)

from typing import Annotated

import pydantic
import torch
from torch import Tensor

from undiffuse.operators import direct
from undiffuse.operators.base import Shape, SVDOperator
from undiffuse.operators.masks import described
from undiffuse.registry import OPERATORS


class Identity(SVDOperator):
    """A = I: the measurement is the image, plus noise."""

    def __init__(self, shape: Shape):
        super().__init__(shape, shape)
        self.register_buffer("s", torch.ones(1, 1, 1, dtype=torch.float64))

    def vt(self, x: Tensor) -> Tensor:
        return x

    def v(self, c: Tensor) -> Tensor:
        return c

    def ut(self, y: Tensor) -> Tensor:
        return y

    def u(self, c: Tensor) -> Tensor:
        return c

    def forward(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def pinv(self, y: Tensor) -> Tensor:
        return y


class Inpaint(SVDOperator):
    """A = diag(mask): y keeps the shape of the image, with zeros at missing pixels; `support` is the mask.

    mask: (H, W) or (C or 1, H, W), 1 or True = measured. ValueError if it has another size or measures
    nothing.
    """

    def __init__(self, shape: Shape, mask: Tensor):
        super().__init__(shape, shape)
        if mask.shape not in {shape[1:], (1, *shape[1:]), shape}:
            raise ValueError(
                f"a mask of size {tuple(mask.shape)} for images of size {tuple(shape)}; resize one of them"
            )
        mask = (mask != 0).double()
        if not mask.any():
            raise ValueError(
                f"the mask of size {tuple(mask.shape)} keeps no pixel, so that nothing is measured: white is kept, "
                "grey and black are missing"
            )
        self.register_buffer("s", mask if mask.ndim == 3 else mask.unsqueeze(0))

    @property
    def support(self) -> Tensor:
        return self.s

    def vt(self, x: Tensor) -> Tensor:
        return x

    def v(self, c: Tensor) -> Tensor:
        return c

    def ut(self, y: Tensor) -> Tensor:
        return self.s * y

    def u(self, c: Tensor) -> Tensor:
        return self.s * c

    def forward(self, x: Tensor) -> Tensor:
        return self.s * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.s * y

    def pinv(self, y: Tensor) -> Tensor:
        return self.s * y


@OPERATORS.register("deno", summary="nothing but noise", example="deno")
def identity(shape: Shape, /) -> Identity:
    """Denoising: y = x + noise."""
    return Identity(shape)


@OPERATORS.register("inp", summary="missing pixels", example="inp:random,missing=0.5", direct=direct.inpaint)
def inpaint(
    shape: Shape,
    /,
    *,
    mask: Annotated[
        str | None,
        pydantic.Field(
            description="random, box, half, brush or a file, .png or .npy: white is kept, grey and black are missing"
        ),
    ] = None,
    missing: Annotated[
        float, pydantic.Field(ge=0, lt=1, description="share of missing pixels, if drawn")
    ] = 0.5,
    seed: Annotated[int, pydantic.Field(ge=0, description="of the mask, if drawn")] = 0,
    channels: Annotated[
        list[int] | None, pydantic.Field(description="channels that are missing altogether, as 0+1")
    ] = None,
) -> Inpaint:
    """Inpainting. A drawn mask is the same for all channels; `random` without a mask or channels.

    DDRM's mask files (uint8, 0 = missing) can be used as they are.
    """
    return Inpaint(shape, described(shape, mask=mask, missing=missing, seed=seed, channels=channels))
