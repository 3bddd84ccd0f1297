"""Any linear map, from a matrix."""
# ruff: noqa: D102 (the methods are described in base)

import math
from pathlib import Path
from typing import Annotated

import pydantic
import torch
from torch import Tensor

from undiffuse.operators.axes import DenseAxis
from undiffuse.operators.base import Shape, SVDOperator
from undiffuse.operators.files import read_array
from undiffuse.registry import OPERATORS

LARGEST = 4096  # numbers in an image, or in y: V alone then has 134 MB in float64, and takes about a minute


class Matrix(SVDOperator):
    """y = A vec(x) with A (M, C H W), the image flattened channel by channel, row by row; y is (B, M)."""

    def __init__(self, shape: Shape, matrix: Tensor):
        super().__init__(shape, (matrix.shape[0],))
        self.axis = DenseAxis(matrix)

    @property
    def s(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.axis.s

    def vt(self, x: Tensor) -> Tensor:
        return self.axis.vt(x.flatten(1), -1)

    def v(self, c: Tensor) -> Tensor:
        return self.axis.v(c, -1).reshape(-1, *self.in_shape)

    def ut(self, y: Tensor) -> Tensor:
        return self.axis.ut(y, -1)

    def u(self, c: Tensor) -> Tensor:
        return self.axis.u(c, -1)

    def forward(self, x: Tensor) -> Tensor:
        return self.axis.map(x.flatten(1), -1)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.axis.transpose(y, -1).reshape(-1, *self.in_shape)


@OPERATORS.register("matrix", summary="any linear map, from a file", example="matrix:A.npy")
def matrix(
    shape: Shape,
    /,
    *,
    file: Annotated[
        Path, pydantic.Field(description="a .npy file, M x N with N = channels * height * width")
    ],
) -> Matrix:
    """y = A vec(x). ValueError above 4096 unknowns or measurements, as the SVD costs their cube."""
    unknowns = math.prod(shape)
    if unknowns > LARGEST:
        raise ValueError(
            f"{unknowns} unknowns in images of shape {shape}: a decomposition costs their cube, so at most"
            f" {LARGEST} are accepted; use smaller images or a structured degradation"
        )
    values = read_array(file, what="matrix", entries=LARGEST**2)
    if values.ndim != 2 or values.shape[1] != unknowns or values.shape[0] > LARGEST:
        raise ValueError(
            f"matrix '{file}' has shape {tuple(values.shape)}; (M, {unknowns}) with M up to {LARGEST} is"
            f" needed for images of shape {shape}"
        )
    if not bool(torch.any(values != 0)):
        raise ValueError(f"matrix '{file}' is zero; nothing would be measured")
    return Matrix(shape, values)
