"""Blur and reduction with a kernel: `blur` and `downsample`."""

from typing import Annotated, Literal

import pydantic
from torch import Tensor

from undiffuse.operators import direct, kernels
from undiffuse.operators.axes import Axis, DenseAxis
from undiffuse.operators.base import LinearOperator, Shape
from undiffuse.operators.convolution import Convolution, Edge, matrix
from undiffuse.operators.cosine import CosineAxis, symmetric
from undiffuse.operators.fourier import CircularBlur
from undiffuse.operators.kronecker import Kronecker
from undiffuse.operators.mirrored import CosineBlur, is_mirrored
from undiffuse.registry import OPERATORS

DENSE_LIMIT = 2048  # pixels a side: beyond, the decomposition of a matrix takes minutes


@OPERATORS.register(
    "blur",
    summary="blur with a kernel of a given shape or from a file",
    example="blur:gaussian,std=2",
    direct=direct.blur,
)
def blur(
    shape: Shape,
    /,
    *,
    kernel: Annotated[
        str, pydantic.Field(description="uniform, gaussian, disk, motion, or a .npy or .png file")
    ] = "gaussian",
    taps: Annotated[
        float | None,
        pydantic.Field(ge=1, le=kernels.LARGEST, description="side, diameter or length in pixels"),
    ] = None,
    std: Annotated[
        float | None, pydantic.Field(gt=0, le=100, description="of the Gaussian, in pixels")
    ] = None,
    std_y: Annotated[
        float | None, pydantic.Field(gt=0, le=100, description="vertically, if it differs")
    ] = None,
    angle: Annotated[
        float | None,
        pydantic.Field(description="of the motion, in degrees counter-clockwise from horizontal"),
    ] = None,
    boundary: Annotated[
        Literal["reflect", "circular", "zero"], pydantic.Field(description="what lies beyond the edges")
    ] = "reflect",
    normalise: Annotated[
        bool | None, pydantic.Field(description="divide a kernel file by its sum; an image always is")
    ] = None,
) -> LinearOperator:
    """y = k * x, a true convolution, with an odd kernel centred and an even one (K - 1) / 2 rounded down.

    Defaults: gaussian std 2 to 3 std, uniform and disk 9 taps, motion 15 taps. `reflect` is half-sample
    symmetric. A disk's diameter may be a fraction, other taps are whole. Singular values are known for every
    kernel with `circular`; with `reflect` for those that equal both their mirror images, such as a disk; for
    separable ones with `reflect` and `zero` (fast if symmetric and reflected, else by dense matrices up to
    2048 pixels a side). The rest solves by conjugate gradient.
    """
    k = kernels.described(kernel=kernel, taps=taps, std=std, std_y=std_y, angle=angle, normalise=normalise)
    if boundary == "circular":
        return CircularBlur(shape, k)
    return filtering(shape, k, boundary)


OPERATORS.preset(
    "deblur_uni", "blur", summary="9 x 9 uniform blur", example="deblur_uni", kernel="uniform", taps=9
)
OPERATORS.preset(
    "deblur_gauss",
    "blur",
    summary="5 x 5 Gaussian blur of std 10",
    example="deblur_gauss",
    kernel="gaussian",
    taps=5,
    std=10.0,
)
OPERATORS.preset(
    "deblur_aniso",
    "blur",
    summary="9 x 9 Gaussian blur of std 20 horizontally and 1 vertically",
    example="deblur_aniso",
    kernel="gaussian",
    taps=9,
    std=20.0,
    std_y=1.0,
)


@OPERATORS.register(
    "downsample",
    summary="reduction with a kernel",
    example="downsample:bicubic,factor=4",
    direct=direct.downsample,
)
def downsample(
    shape: Shape,
    /,
    *,
    kernel: Annotated[
        str, pydantic.Field(description="bicubic, lanczos3, gaussian, box, or a .npy or .png file")
    ] = "bicubic",
    factor: Annotated[int, pydantic.Field(ge=1, le=64, description="of the reduction")] = 4,
    std: Annotated[
        float | None, pydantic.Field(gt=0, le=100, description="of the Gaussian, in input pixels; factor / 2")
    ] = None,
    normalise: Annotated[
        bool | None, pydantic.Field(description="divide a kernel file by its sum; an image always is")
    ] = None,
) -> LinearOperator:
    """k * x at the centres of factor x factor blocks, edges reflected (half-sample symmetric).

    Away from the edges `bicubic` is Pillow's BICUBIC and torch's antialiased one, which renormalise at the
    edges instead. A size that factor does not divide gives ceil(size / factor) pixels.
    """
    k = kernels.reduction(kernel=kernel, factor=factor, std=std, normalise=normalise)
    return filtering(shape, k, "reflect", factor)


for _factor in (4, 8, 16):
    OPERATORS.preset(
        f"sr_bicubic{_factor}",
        "downsample",
        summary=f"super-resolution from a bicubic reduction by {_factor}",
        example=f"sr_bicubic{_factor}",
        kernel="bicubic",
        factor=_factor,
    )


def filtering(shape: Shape, kernel: Tensor, edge: Edge, factor: int = 1) -> LinearOperator:
    """The best form for a kernel (K_rows, K_columns): by axes, fast or dense, by cosines, or Convolution."""
    pair = kernels.factors(kernel)
    if pair is None and edge == "reflect" and factor == 1 and is_mirrored(kernel):
        return CosineBlur(shape, kernel)
    if pair is None:
        return Convolution(shape, kernel, edge, factor)
    rows, columns = (_axis(k, n, edge, factor) for k, n in zip(pair, shape[1:], strict=True))
    if rows is None or columns is None:
        return Convolution(shape, kernel, edge, factor)
    return Kronecker(shape, rows=rows, columns=columns)


def _axis(k: Tensor, n: int, edge: Edge, factor: int) -> Axis | None:
    if edge == "reflect" and symmetric(k) and n % factor == 0 and len(k) % 2 == factor % 2:
        return CosineAxis(k, factor, n)
    return DenseAxis(matrix(k, n, edge, factor)) if n <= DENSE_LIMIT else None
