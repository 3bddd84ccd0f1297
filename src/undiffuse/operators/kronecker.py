"""Operators that act on channels, rows and columns separately, and the simplest of them: pool and gray."""
# ruff: noqa: D102 (the methods are described in base)

import math
from collections.abc import Sequence
from typing import Annotated

import pydantic
import torch
from torch import Tensor

from undiffuse.core.dct import dct2, idct2
from undiffuse.operators import direct
from undiffuse.operators.axes import Axis, BlockAxis, DenseAxis
from undiffuse.operators.base import SEEN, Shape, SVDOperator
from undiffuse.operators.cosine import CosineAxis
from undiffuse.registry import OPERATORS

DIMS = {"channels": -3, "rows": -2, "columns": -1}


class Kronecker(SVDOperator):
    """A = A_channels x A_rows x A_columns (van Loan 2000): the singular values are the products.

    `rows` maps the row index (it acts vertically), `columns` the column index; None leaves a dimension alone.
    Coefficients have the shape of the image (C, H, W).
    """

    def __init__(
        self,
        shape: Shape,
        *,
        channels: Axis | None = None,
        rows: Axis | None = None,
        columns: Axis | None = None,
    ):
        given = {"channels": channels, "rows": rows, "columns": columns}
        axes = {name: axis for name, axis in given.items() if axis is not None}
        out, s = list(shape), torch.ones(1, 1, 1, dtype=torch.float64)
        for name, axis in axes.items():
            dim = DIMS[name]
            if axis.n != shape[dim]:
                raise ValueError(
                    f"the axis for {name} has length {axis.n}, but images of shape {shape} were given"
                )
            out[dim] = axis.m
            s = s * axis.s.reshape(-1, *[1] * (-dim - 1))
        super().__init__(shape, tuple(out))
        self.axes = torch.nn.ModuleDict(axes)
        self.worst = math.prod(float(axis.s[axis.s > 0].min() / axis.s.max()) for axis in axes.values())
        self.register_buffer("s", s)

    def _axes(self) -> Sequence[tuple[Axis, int]]:
        return [(axis, DIMS[name]) for name, axis in self.axes.items() if isinstance(axis, Axis)]

    def _plane(self) -> tuple[CosineAxis, CosineAxis] | None:
        """Rows and columns, if both are cosines: then one transform in two dimensions does for both."""
        found = [
            axis for name, axis in self.axes.items() if name != "channels" and isinstance(axis, CosineAxis)
        ]
        return (found[0], found[1]) if len(found) == 2 == len(self.axes) else None

    def vt(self, x: Tensor) -> Tensor:
        if plane := self._plane():
            return plane[1].from_cosines(plane[0].from_cosines(dct2(x), -2), -1)
        for axis, dim in self._axes():
            x = axis.vt(x, dim)
        return x

    def v(self, c: Tensor) -> Tensor:
        if plane := self._plane():
            return idct2(plane[1].to_cosines(plane[0].to_cosines(c, -2), -1))
        for axis, dim in self._axes():
            c = axis.v(c, dim)
        return c

    def ut(self, y: Tensor) -> Tensor:
        for axis, dim in self._axes():
            y = axis.ut(y, dim)
        return y

    def u(self, c: Tensor) -> Tensor:
        for axis, dim in self._axes():
            c = axis.u(c, dim)
        return c

    def forward(self, x: Tensor) -> Tensor:
        for axis, dim in self._axes():
            x = axis.map(x, dim)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        for axis, dim in reversed(self._axes()):
            y = axis.transpose(y, dim)
        return y

    def pinv(self, y: Tensor) -> Tensor:
        if self.worst <= 2 * SEEN * torch.finfo(self.s.dtype).eps:
            return super().pinv(y)
        for axis, dim in reversed(self._axes()):  # every mode is seen: A^+ is a product like A
            y = axis.inverse(y, dim)
        return y


@OPERATORS.register(
    "pool", summary="the mean over blocks of pixels", example="pool:factor=4", direct=direct.pool
)
def pool(
    shape: Shape,
    /,
    *,
    factor: Annotated[int, pydantic.Field(ge=1, le=64, description="side of a block, in pixels")] = 4,
) -> Kronecker:
    """Means over factor x factor blocks; blocks at the right and lower edge average what is left of them."""
    _, height, width = shape
    return Kronecker(shape, rows=BlockAxis(height, factor), columns=BlockAxis(width, factor))


for _factor in (2, 4, 8, 16):
    OPERATORS.preset(
        f"sr{_factor}",
        "pool",
        summary=f"super-resolution from means of {_factor} x {_factor} pixels",
        example=f"sr{_factor}",
        factor=_factor,
    )


@OPERATORS.register("gray", summary="a weighted mean of the channels", example="gray", direct=direct.gray)
def gray(
    shape: Shape,
    /,
    *,
    weights: Annotated[
        list[float] | None,
        pydantic.Field(description="one weight a channel, as 0.3+0.6+0.1; equal by default"),
    ] = None,
) -> Kronecker:
    """One channel, sum_c w_c x_c. The weights are used as given: they need not add up to 1."""
    count = shape[0]
    given = [1 / count] * count if weights is None else weights
    if len(given) != count:
        raise ValueError(f"{len(given)} weights for images of {count} channels; give one weight a channel")
    if not any(given):
        raise ValueError(f"all weights are 0: {given}; then nothing is measured")
    return Kronecker(shape, channels=DenseAxis(torch.tensor([given], dtype=torch.float64)))


OPERATORS.preset("color", "gray", summary="colourisation, from the mean of the channels", example="color")
