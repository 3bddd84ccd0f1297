"""Blur and reduction with a kernel: `blur` and `downsample`."""

import math
from pathlib import Path
from typing import Annotated, Literal

import pydantic
import torch
from torch import Tensor

from undiffuse.operators import kernels
from undiffuse.operators.axes import Axis, DenseAxis
from undiffuse.operators.base import LinearOperator, Shape
from undiffuse.operators.convolution import Convolution, Edge, matrix
from undiffuse.operators.cosine import CosineAxis, symmetric
from undiffuse.operators.fourier import CircularBlur
from undiffuse.operators.kronecker import Kronecker
from undiffuse.registry import OPERATORS

DENSE_LIMIT = 2048  # pixels a side: beyond, the decomposition of a matrix takes minutes
USES = {
    "uniform": {"taps"},
    "gaussian": {"taps", "std", "std_y"},
    "disk": {"taps"},
    "motion": {"taps", "angle"},
}
REDUCTIONS = ("bicubic", "lanczos3", "gaussian", "box")


@OPERATORS.register(
    "blur", summary="blur with a kernel of a given shape or from a file", example="blur:gaussian,std=2"
)
def blur(
    shape: Shape,
    /,
    *,
    kernel: Annotated[
        str, pydantic.Field(description="uniform, gaussian, disk, motion, or a .npy or .png file")
    ] = ("gaussian"),
    taps: Annotated[
        int | None, pydantic.Field(ge=1, le=kernels.LARGEST, description="side, diameter or length in pixels")
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
    symmetric. Singular values are known for every kernel with `circular`, for separable ones with `reflect`
    and `zero` (fast if symmetric and reflected, else by dense matrices up to 2048 pixels a side); the rest
    solves by conjugate gradient.
    """
    given = {"taps": taps, "std": std, "std_y": std_y, "angle": angle}
    k = _shape(kernel, given, normalise)
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


@OPERATORS.register("downsample", summary="reduction with a kernel", example="downsample:bicubic,factor=4")
def downsample(
    shape: Shape,
    /,
    *,
    kernel: Annotated[
        str, pydantic.Field(description="bicubic, lanczos3, gaussian, box, or a .npy or .png file")
    ] = ("bicubic"),
    factor: Annotated[int, pydantic.Field(ge=1, le=64, description="of the reduction")] = 4,
    std: Annotated[
        float | None, pydantic.Field(gt=0, le=100, description="of the Gaussian, in input pixels; factor / 2")
    ] = None,
    normalise: Annotated[
        bool | None, pydantic.Field(description="divide a kernel file by its sum; an image always is")
    ] = None,
) -> LinearOperator:
    """k * x at the centres of factor x factor blocks, edges reflected (half-sample symmetric, as MATLAB's
    imresize).

    Away from the edges `bicubic` is Pillow's BICUBIC and torch's antialiased one, which renormalise at the
    edges instead. A size that factor does not divide gives ceil(size / factor) pixels.
    """
    if kernel != "gaussian" and std is not None:
        raise ValueError(f"std={std} has no meaning for kernel {kernel}; drop it")
    if kernel in REDUCTIONS and normalise is not None:
        raise ValueError(
            f"normalise={normalise} has no meaning for kernel {kernel}, which adds up to 1; drop it"
        )
    if kernel not in REDUCTIONS:
        return filtering(shape, kernels.from_file(Path(kernel), normalise), "reflect", factor)
    if kernel == "gaussian":
        line = kernels.bell(factor, factor / 2 if std is None else std)
    else:
        line = {"bicubic": kernels.bicubic, "lanczos3": kernels.lanczos3, "box": kernels.box}[kernel](factor)
    return filtering(shape, torch.outer(line, line), "reflect", factor)


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
    """The best form for a kernel (K_rows, K_columns): Kronecker with fast or dense axes, or Convolution."""
    pair = kernels.factors(kernel)
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


def _shape(kernel: str, given: dict[str, int | float | None], normalise: bool | None) -> Tensor:
    """The kernel that the options describe; ValueError for an option that does not apply to it."""
    unused = [f"{name}={value:g}" for name, value in given.items() if value is not None]
    unused = [text for text in unused if text.partition("=")[0] not in USES.get(kernel, set())]
    if normalise is not None and kernel in USES:
        unused.append(f"normalise={normalise}")
    if unused:
        choices = ", ".join(sorted(USES.get(kernel, {"normalise"})))
        raise ValueError(f"{', '.join(unused)} has no meaning for kernel {kernel}; it takes {choices}")
    taps = given["taps"]
    if kernel == "uniform":
        return kernels.uniform(int(taps or 9))
    if kernel == "disk":
        return kernels.disk(int(taps or 9))
    if kernel == "motion":
        return kernels.motion(int(taps or 15), given["angle"] or 0.0)
    if kernel == "gaussian":
        std = given["std"] or 2.0
        std_y = given["std_y"] or std
        return kernels.gaussian(int(taps or 2 * math.ceil(3 * max(std, std_y)) + 1), std, std_y)
    return kernels.from_file(Path(kernel), normalise)
