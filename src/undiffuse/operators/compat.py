"""DDRM's own degradations with their bugs and layouts (github.com/bahjat-kawar/ddrm, commit 32b6b3c).

For comparison with published numbers and stored measurements only; nothing here is a default. Kernels lose
their last tap if odd, singular values below 0.03 are dropped, the published deblurring attaches them to the
wrong modes, and y is a flat vector for `ddrm_inp` and `ddrm_cs`.
"""
# ruff: noqa: D102 (the methods are described in base)

from typing import Annotated, ClassVar, Literal

import pydantic
import torch
from torch import Tensor

from undiffuse.operators import kernels
from undiffuse.operators.axes import DenseAxis
from undiffuse.operators.base import Shape, SVDOperator
from undiffuse.operators.hadamard import fwht, power_of_two
from undiffuse.operators.kronecker import Kronecker
from undiffuse.registry import OPERATORS

THRESHOLD = 3e-2  # on the singular values of each dimension, before they are multiplied

Permutation = Annotated[
    list[int] | None,
    pydantic.Field(description="order of the products of singular values, row-major; stable"),
]
Seed = Annotated[int, pydantic.Field(ge=0, description="of torch.randperm, if no indices are given")]


class PublishedBlur(Kronecker):
    """Zero-boundary correlation with thresholded singular values; `fixed` or as published.

    Published: the k-th largest product belongs to mode k, but is applied to the mode at position C k + c of
    channel c, counted modulo H W: the vector is tiled where its coefficients are interleaved. The result is
    no blur. It also depends on the order of equal products, which torch.sort leaves open: `permutation` fixes
    it, default stable.
    """

    explicit_zeros: ClassVar[bool] = True

    def __init__(
        self, shape: Shape, rows: Tensor, columns: Tensor, fixed: bool, permutation: list[int] | None
    ):
        channels, height, width = shape
        axes = [
            DenseAxis(truncated(k, n), threshold=THRESHOLD, explicit_zeros=True)
            for k, n in ((rows, height), (columns, width))
        ]
        super().__init__(shape, rows=axes[0], columns=axes[1])
        if not fixed:
            products = self.s.flatten()
            order = _permutation(permutation, products)
            position = torch.arange(len(products))
            s = torch.empty(channels, len(products), dtype=torch.float64)
            for c in range(channels):
                s[c, order] = products[order][(channels * position + c) % len(products)]
            self.s = s.reshape(shape)
        elif permutation is not None:
            raise ValueError("a permutation has no meaning for the fixed operator; drop it")

    def forward(self, x: Tensor) -> Tensor:
        return SVDOperator.forward(self, x)

    def adjoint(self, y: Tensor) -> Tensor:
        return SVDOperator.adjoint(self, y)

    def pinv(self, y: Tensor) -> Tensor:
        return SVDOperator.pinv(self, y)


def truncated(kernel: Tensor, n: int) -> Tensor:
    """The (n, n) matrix A[i, j] = kernel[j - i + K // 2] for i - K // 2 <= j < i + K // 2, inside the line.

    A correlation with zero boundary. The upper end is exclusive, so the last tap of an odd kernel is lost.
    """
    half = len(kernel) // 2
    shift = torch.arange(n) - torch.arange(n).unsqueeze(1) + half
    return torch.where((shift >= 0) & (shift < 2 * half), kernel[shift.clamp(0, len(kernel) - 1)], 0)


@OPERATORS.register(
    "ddrm_deblur",
    summary="DDRM's deblurring, bug for bug; for comparison only",
    example="ddrm_deblur:gaussian,fixed=true",
)
def ddrm_deblur(
    shape: Shape,
    /,
    *,
    kernel: Annotated[
        Literal["uniform", "gaussian", "aniso"],
        pydantic.Field(description="9 taps, 5 taps of std 10, or 9 taps of std 20 x 1"),
    ] = "gaussian",
    fixed: Annotated[bool, pydantic.Field(description="singular values at their own modes")] = False,
    permutation: Permutation = None,
) -> PublishedBlur:
    """Deblurring of the DDRM runner: 8 of 9 taps, or 4 of 5, with the weights that the full kernel had.

    `fixed` repairs the order of the singular values only; the lost tap and the threshold stay.
    """
    full = {
        "uniform": kernels.uniform(9),
        "gaussian": kernels.gaussian(5, 10.0, 10.0),
        "aniso": kernels.gaussian(9, 20.0, 1.0),
    }[kernel]
    return PublishedBlur(shape, full.sum(1), full.sum(0), fixed, permutation)


for _name, _kernel in (("uni", "uniform"), ("gauss", "gaussian"), ("aniso", "aniso")):
    OPERATORS.preset(
        f"ddrm_deblur_{_name}",
        "ddrm_deblur",
        summary=f"DDRM's deblur_{_name}, bug for bug; for comparison only",
        example=f"ddrm_deblur_{_name}",
        kernel=_kernel,
    )


class FlatInpaint(SVDOperator):
    """Kept entries of the image in (row, column, channel) order: y is (B, kept)."""

    kept: Tensor

    def __init__(self, shape: Shape, missing: Tensor):
        channels, height, width = shape
        measured = torch.ones(channels * height * width, dtype=torch.float64)
        measured[missing] = 0
        kept = measured.nonzero().flatten()
        super().__init__(shape, (len(kept),))
        self.register_buffer("kept", kept)
        self.register_buffer("s", measured.reshape(height, width, channels).permute(2, 0, 1).contiguous())

    def vt(self, x: Tensor) -> Tensor:
        return x

    def v(self, c: Tensor) -> Tensor:
        return c

    def ut(self, y: Tensor) -> Tensor:
        channels, height, width = self.in_shape
        full = y.new_zeros(len(y), channels * height * width).index_copy(1, self.kept, y)
        return full.reshape(-1, height, width, channels).permute(0, 3, 1, 2)

    def u(self, c: Tensor) -> Tensor:
        return c.permute(0, 2, 3, 1).flatten(1).index_select(1, self.kept)


@OPERATORS.register(
    "ddrm_inp",
    summary="DDRM's inpainting with its layout of y; for comparison only",
    example="ddrm_inp:seed=0",
)
def ddrm_inp(
    shape: Shape,
    /,
    *,
    missing: Annotated[
        list[int] | None, pydantic.Field(description="missing entries, counted as pixel * channels + channel")
    ] = None,
    seed: Seed = 0,
) -> FlatInpaint:
    """Half of the pixels are missing in all channels, or the entries in `missing`."""
    channels, height, width = shape
    if missing is None:
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randperm(height * width, generator=generator)[: height * width // 2]
        return FlatInpaint(shape, (pixels.unsqueeze(1) * channels + torch.arange(channels)).flatten())
    total = channels * height * width
    if len(set(missing)) >= total or not all(0 <= index < total for index in missing):
        raise ValueError(
            f"missing entries must lie in 0 to {total - 1} and leave some; got {len(missing)} of them"
        )
    return FlatInpaint(shape, torch.tensor(missing, dtype=torch.long))


class FlatHadamard(SVDOperator):
    """Coefficients `kept` of each channel, interleaved: y[C k + c] is coefficient kept[k] of channel c."""

    kept: Tensor

    def __init__(self, shape: Shape, kept: Tensor):
        channels, height, width = shape
        super().__init__(shape, (channels * len(kept),))
        s = torch.zeros(1, height * width, dtype=torch.float64)
        s[0, kept] = 1
        self.register_buffer("kept", kept)
        self.register_buffer("s", s)

    def vt(self, x: Tensor) -> Tensor:
        return fwht(x.flatten(-2))

    def v(self, c: Tensor) -> Tensor:
        return fwht(c).reshape(-1, *self.in_shape)

    def ut(self, y: Tensor) -> Tensor:
        y = y.reshape(len(y), len(self.kept), self.in_shape[0]).mT
        return y.new_zeros(*y.shape[:-1], self.s.shape[-1]).index_copy(-1, self.kept, y)

    def u(self, c: Tensor) -> Tensor:
        return c.index_select(-1, self.kept).mT.flatten(1)


@OPERATORS.register(
    "ddrm_cs",
    summary="DDRM's compressed sensing with its layout of y; for comparison only",
    example="ddrm_cs:ratio=4",
)
def ddrm_cs(
    shape: Shape,
    /,
    *,
    ratio: Annotated[int, pydantic.Field(ge=1, description="pixels for each coefficient kept")] = 4,
    permutation: Permutation = None,
    seed: Seed = 0,
) -> FlatHadamard:
    """The first H W / ratio Walsh-Hadamard coefficients of a permutation, the mean only by chance."""
    pixels = shape[1] * shape[2]
    if pixels != power_of_two(pixels) or ratio > pixels:
        raise ValueError(
            f"{shape[1]} x {shape[2]} pixels and ratio {ratio}: give a power of two, and a smaller ratio"
        )
    if permutation is None:
        order = torch.randperm(pixels, generator=torch.Generator().manual_seed(seed))
    else:
        order = _permutation(permutation, torch.zeros(pixels))
    return FlatHadamard(shape, order[: pixels // ratio])


OPERATORS.preset(
    "ddrm_color",
    "gray",
    summary="DDRM's colourisation, with weights that are not quite 1/3; for comparison only",
    example="ddrm_color",
    weights=[0.3333, 0.3334, 0.3333],
)


def _permutation(given: list[int] | None, values: Tensor) -> Tensor:
    """`given`, checked to be a permutation, or the stable descending order of values."""
    if given is None:
        return values.sort(descending=True, stable=True).indices
    if sorted(given) != list(range(len(values))):
        raise ValueError(f"{len(given)} entries are no permutation of 0 to {len(values) - 1}")
    return torch.tensor(given, dtype=torch.long)
