"""JPEG compression: by a quality, or as a file was stored."""

import math
from typing import Annotated, Literal

import numpy as np
import pydantic
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from undiffuse.core.dct import dct, idct
from undiffuse.core.images import read, rounded
from undiffuse.core.jpeg import BLOCK, INTO_RGB, TO_YCC, Tables, flips
from undiffuse.operators.base import Separable, Shape
from undiffuse.operators.truncated import truncated
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
QUALITY = 10  # unless told
INSIDE = 0.499  # of a step to either side: not at its edge, where rounding to even would store another number
ROUNDS = 2  # of taking what was clamped from what is stored; more change next to nothing
SURE = 3.0  # deviations of the noise in half a step that tells what was stored
Subsampling = Literal["444", "422", "440", "420"]
SAMPLES: dict[Subsampling, tuple[int, int]] = {"444": (1, 1), "422": (1, 2), "440": (2, 1), "420": (2, 2)}


def tables_of(quality: int, subsampling: Subsampling, channels: int) -> Tables:
    """Those of the Independent JPEG Group's library for a quality of 1 to 100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = [((np.array(base) * scale + 50) // 100).clip(1, 255) for base in (LUMINANCE, CHROMINANCE)]
    colour = (steps[1], *SAMPLES[subsampling])
    return Tables(((steps[0], 1, 1), colour, colour) if channels == 3 else ((steps[0], 1, 1),))


def as_text(tables: Tables) -> str | None:
    """`jpeg:quality=Q,subsampling=S` where that is how a file was stored, and it is not turned; else None."""
    channels = len(tables.components)
    for kind in SAMPLES if channels == 3 else SAMPLES.keys() & {"444"}:
        for quality in range(1, 101):
            if _equal(tables, tables_of(quality, kind, channels)):
                return f"jpeg:quality={quality},subsampling={kind}"
    return None


def _equal(a: Tables, b: Tables) -> bool:
    parts = zip(a.components, b.components, strict=True)
    same = all(np.array_equal(x[0], y[0]) and x[1:] == y[1:] for x, y in parts)
    return same and a.orientation == b.orientation


class Jpeg(Separable):
    """Baseline JPEG (ITU-T T.81, JFIF 1.02), stored and read again. Not linear; no noise of its own.

    Y, Cb, Cr; means over the pixels of a sample where colours have fewer; 8 x 8 cosine transforms divided by steps,
    rounded, multiplied. A decoder draws halved colours out by the weights 3/4 and 1/4, as the Independent JPEG Group's
    library does unless told; components, and then the picture, are clamped to 0 to 255. Rounding passes gradients
    through unchanged (straight-through, Bengio et al. 2013). The 8-bit roundings of a codec before and after it are
    left out. Sizes that blocks do not divide are extended by their last row and column. x and y are as
    `tables.orientation` turns them; blocks lie in the file as it is stored.
    """

    steps: Tensor
    basis: Tensor
    colour: Tensor
    back: Tensor
    whole: Tensor | None

    def __init__(self, shape: Shape, tables: Tables):
        super().__init__(shape, shape)
        if shape[0] not in (1, 3):
            raise ValueError(f"JPEG of {shape[0]} channels; it stores 1 or 3")
        if shape[0] != len(tables.components):
            raise ValueError(
                f"a JPEG of {len(tables.components)} channels for a picture of {shape[0]}; they must be the same"
            )
        self.samples = tuple((rows, columns) for _, rows, columns in tables.components)
        self.orientation = tables.orientation
        steps = np.stack([steps for steps, _, _ in tables.components])
        colour = torch.as_tensor(TO_YCC if shape[0] == 3 else np.eye(1))
        whole = None if tables.whole is None else tables.whole()
        if whole is not None:
            whole = torch.as_tensor(np.atleast_3d(whole).transpose(2, 0, 1).copy())
        self.register_buffer("whole", whole)  # (C, H, W) of bytes
        self.register_buffer("steps", torch.as_tensor(steps, dtype=torch.float64))  # (C, 8, 8)
        self.register_buffer("basis", dct(torch.eye(BLOCK, dtype=torch.float64), 0))
        self.register_buffer("colour", colour)
        self.register_buffer("back", torch.inverse(colour))

    @property
    def judged(self) -> Tensor | None:
        """Whole blocks: how those were stored that the picture's edge cuts off, what is seen of them does not tell.

        None for a picture that has none, of either kind.
        """
        seen = self.steps.new_ones(1, *self.in_shape)
        stored = self._as_stored(seen).clone()
        for dim in (-2, -1):
            n, factor = stored.shape[dim], max(samples[dim] for samples in self.samples)
            whole = n - n % (BLOCK * factor)
            if whole < n:  # halved colours are drawn out over the edge of a block
                first = max(whole - (factor > 1), 0)
                stored.narrow(dim, first, n - first).zero_()
        judged = self._as_seen(stored)[0]
        return judged if judged.any() and not judged.all() else None

    def forward(self, x: Tensor) -> Tensor:
        """Compressed and decompressed, clamped to [-1, 1]."""
        x = self._as_stored(x)
        stored = [found + (found.round() - found).detach() for found in self._encoded(x)]
        samples = [self._samples(k, found, x).clamp(-128, 127) for k, found in enumerate(stored)]
        return self._as_seen(self._drawn_out(samples, x)).clamp(-1, 1)

    def guess(self, y: Tensor) -> Tensor:
        """The picture as it was stored."""
        return y

    def read(self, y: Tensor) -> Tensor:
        """y as it was before the decoder clamped it, as far as the steps of its coefficients tell.

        In whole blocks, if y is what the file shows that told the steps.
        """
        given = found = self._in_whole_blocks(self._as_stored(y))
        for _ in range(ROUNDS):
            samples = [self._samples(k, data.round(), given) for k, data in enumerate(self._decoded(found))]
            beyond = self._drawn_out(samples, given)
            found = torch.where(given >= 1, beyond.clamp(min=1), given)
            found = torch.where(given <= -1, beyond.clamp(max=-1), found)
        return self._as_seen(found)

    def nearest(self, x: Tensor, told: Tensor, sigma_y: float = 0.0) -> Tensor:
        """The picture next to x, in the coefficients, of those that are stored as y is: each in its step around y's.

        Coefficients whose step the noise of y may hide stay as they are.
        """
        x, y = self._as_stored(x), self._as_stored(told)
        moves: list[Tensor] = []
        for k, (found, data) in enumerate(zip(self._encoded(x), self._decoded(y), strict=True)):
            stored = data.round()
            within = found.clamp(stored - INSIDE, stored + INSIDE)
            moves.append(torch.where(self._told(k, sigma_y), within - found, 0))
        return self._moved(x, moves)

    def estimate(self, x: Tensor, told: Tensor, variance: Tensor, sigma_y: float) -> Tensor:
        """The mean of a Gaussian around x of this variance, given y = A(.) + sigma_y n; the colours as if orthonormal.

        Where a coefficient of y tells its step, the mean of the Gaussian's part within it. Where the noise hides the
        step, rounding counts as noise of variance step^2 / 12, that of a uniform error.
        """
        x, y = self._as_stored(x), self._as_stored(told)
        moves: list[Tensor] = []
        for k, (found, data) in enumerate(zip(self._encoded(x), self._decoded(y), strict=True)):
            prior = (
                variance.reshape(-1, 1, 1, 1, 1) / math.prod(self.samples[k]) / (self.steps[k] / 127.5) ** 2
            )
            known = 1 / 12 + self._noise(k, sigma_y) ** 2  # all in steps
            guess = found + prior / (prior + known) * (data - found)
            mean = truncated(found, prior.sqrt(), data.round() - INSIDE, data.round() + INSIDE)
            moves.append(torch.where(self._told(k, sigma_y), mean, guess) - found)
        return self._moved(x, moves)

    def loss(self, y: Tensor) -> float:
        """The root mean square error that was made in storing y, as its coefficients let expect, for pictures alike.

        Those of a photograph follow a Laplacian (Lam and Goodman 2000). The share p of a frequency that is not stored
        as 0 tells its width b, in steps: p = exp(-1 / 2b). The others have an error of variance step^2 / 12, and these
        have lost what a Laplacian has within half a step. Detail that halved colours never had is not counted.
        """
        total = 0.0
        for data, steps, weight in zip(self._decoded(self._as_stored(y)), self.steps, INTO_RGB, strict=False):
            p = (data.abs() > 0.5).double().mean((0, 1, 2)).clamp(1e-9, 0.99)
            b = -0.5 / p.log()
            lost = 2 * b**2 - p * (0.25 + b + 2 * b**2) + p / 12
            total += weight * float((lost * (steps / 127.5) ** 2).mean())
        return total**0.5

    def rounding(self, y: Tensor) -> float:
        """The root mean square of what a decoder changed in y by rounding samples, drawn-out colours, R, G and B.

        It does what this decoder would do: each is half a level at most, but where a picture is flat all of a block
        are rounded alike, and the variance is between 0 and three times that of noise.
        """
        stored = self._as_stored(self.read(y))
        samples = [self._samples(k, data.round(), stored) for k, data in enumerate(self._decoded(stored))]
        samples = [plane.clamp(-128, 127) for plane in samples]
        exact = self._drawn_out(samples, stored).clamp(-1, 1)
        whole = rounded(self._drawn_out(samples, stored, whole=True))
        return float((whole - exact).square().mean().sqrt())

    def _noise(self, k: int, sigma_y: float) -> Tensor:
        """Deviation of a component's coefficients, in steps, (8, 8): a sample is a mean over pixels."""
        return sigma_y * 127.5 / self.steps[k] / math.prod(self.samples[k]) ** 0.5

    def _told(self, k: int, sigma_y: float) -> Tensor:
        """Whether noise leaves no doubt of what was stored."""
        return SURE * self._noise(k, sigma_y) < 0.5

    def _encoded(self, x: Tensor) -> list[Tensor]:
        """Of each component (B, rows, columns, 8, 8), in steps."""
        return [self._coefficients(k, means) for k, means in enumerate(self._means(x))]

    def _decoded(self, y: Tensor) -> list[Tensor]:
        """The same of a picture that a decoder made: what it did to draw the colours out is undone."""
        found: list[Tensor] = []
        for k, means in enumerate(self._means(y)):
            samples = self.samples[k]
            height, width = _sampled(y, samples)
            sharp = _gathered(means[..., :height, :width], samples)
            more = (0, means.shape[-1] - width, 0, means.shape[-2] - height)
            found.append(self._coefficients(k, pad(sharp[:, None], more, mode="replicate")[:, 0]))
        return found

    def _means(self, x: Tensor) -> list[Tensor]:
        """Of each component (B, H, W), whole blocks, over the pixels of a sample, in levels around 0."""
        planes: list[Tensor] = []
        for (rows, columns), weights in zip(self.samples, self.colour, strict=True):
            *_, height, width = x.shape
            more = (0, -width % (BLOCK * columns), 0, -height % (BLOCK * rows))
            levels = torch.einsum("c,bchw->bhw", weights, pad(x, more, mode="replicate") * 127.5)
            down, across = levels.shape[1] // rows, levels.shape[2] // columns
            planes.append(levels.reshape(-1, down, rows, across, columns).mean((2, 4)))
        return [planes[0] - 0.5, *planes[1:]]  # 0 is 127.5, and the middle of a file 128

    def _coefficients(self, k: int, plane: Tensor) -> Tensor:
        down, across = plane.shape[1] // BLOCK, plane.shape[2] // BLOCK
        blocks = plane.reshape(-1, down, BLOCK, across, BLOCK).transpose(2, 3)
        return self.basis @ blocks @ self.basis.mT / self.steps[k]

    def _samples(self, k: int, coefficients: Tensor, like: Tensor) -> Tensor:
        """The inverse of `_coefficients`, without what lies beyond the picture: (B, H, W)."""
        blocks = self.basis.mT @ (coefficients * self.steps[k]) @ self.basis
        height, width = _sampled(like, self.samples[k])
        return blocks.transpose(2, 3).flatten(3).flatten(1, 2)[:, :height, :width]

    def _drawn_out(self, planes: list[Tensor], like: Tensor, *, whole: bool = False) -> Tensor:
        """Samples to pixels, in [-1, 1]: halved colours smoothly, others repeated. `whole`: both in whole levels."""
        levels: list[Tensor] = []
        for plane, samples in zip(planes, self.samples, strict=True):
            mode = "bilinear" if max(samples) <= 2 else "nearest"
            plane = _whole(plane) if whole else plane
            pixels = interpolate(plane[:, None], scale_factor=samples, mode=mode)
            pixels = pixels[..., : like.shape[-2], : like.shape[-1]]
            levels.append(_whole(pixels) if whole else pixels)
        levels[0] = levels[0] + 128
        return torch.einsum("dc,bchw->bdhw", self.back, torch.cat(levels, 1)) / 127.5 - 1

    def _moved(self, x: Tensor, moves: list[Tensor]) -> Tensor:
        """x and, with each sample, all its pixels moved, as seen."""
        *_, height, width = x.shape
        planes: list[Tensor] = []
        for k, (move, (rows, columns)) in enumerate(zip(moves, self.samples, strict=True)):
            samples = self._samples(k, move, x)
            pixels = samples.repeat_interleave(rows, 1).repeat_interleave(columns, 2)
            planes.append(pixels[:, :height, :width])
        return self._as_seen(x + torch.einsum("dc,bchw->bdhw", self.back, torch.stack(planes, 1)) / 127.5)

    def _in_whole_blocks(self, y: Tensor) -> Tensor:
        """The last row and column may differ: no next colour is drawn out into them where a file ends."""
        height, width = y.shape[-2:]
        if self.whole is None or self.whole.shape[-2] < height or self.whole.shape[-1] < width:
            return y
        whole = self.whole.to(y) / 127.5 - 1
        apart = (whole[:, :height, :width] - y)[..., :-1, :-1]
        same = apart.numel() > 0 and bool(apart.abs().max() < 0.5 / 127.5)
        return whole.expand(len(y), -1, -1, -1) if same else y

    def _as_stored(self, x: Tensor) -> Tensor:
        x = x.flip(_axes(self.orientation))
        return x.mT if self.orientation >= 5 else x

    def _as_seen(self, x: Tensor) -> Tensor:
        return (x.mT if self.orientation >= 5 else x).flip(_axes(self.orientation))


def _axes(orientation: int) -> list[int]:
    """The axes that are turned round to see a picture."""
    return [axis for axis, turned in zip((-2, -1), flips(orientation), strict=True) if turned]


def _whole(levels: Tensor) -> Tensor:
    """Rounded half up, as the Independent JPEG Group's library does; a thousandth less is a half in float32."""
    return (levels + 0.501).floor()


def _sampled(x: Tensor, samples: tuple[int, int]) -> tuple[int, int]:
    """How many samples a picture has, down and across."""
    return -(-x.shape[-2] // samples[0]), -(-x.shape[-1] // samples[1])


def _gathered(means: Tensor, samples: tuple[int, int]) -> Tensor:
    """From the means of drawn-out pixels to the samples that they were drawn from.

    Each is 3/4 of its sample and 1/8 of both neighbours, itself at an edge: 3/4 + cos(pi k / N) / 4 in cosines.
    """
    if max(samples) > 2:
        return means
    for dim, factor in ((-2, samples[0]), (-1, samples[1])):
        if factor == 2:
            n = means.shape[dim]
            k = torch.arange(n, dtype=means.dtype, device=means.device)
            share = 0.75 + 0.25 * torch.cos(torch.pi * k / n)
            means = idct(dct(means, dim) / (share[:, None] if dim == -2 else share), dim)
    return means


@OPERATORS.register("jpeg", summary="JPEG compression", example="jpeg:quality=10")
def jpeg(
    shape: Shape,
    /,
    *,
    quality: Annotated[
        int | None,
        pydantic.Field(
            ge=1, le=100, description=f"as libjpeg counts it; untold {QUALITY}, or the measured file's"
        ),
    ] = None,
    subsampling: Annotated[
        Subsampling | None, pydantic.Field(description="of the colours: 444, all of them, unless told")
    ] = None,
    like: Annotated[
        str | None, pydantic.Field(description="a JPEG whose steps, colours and turn are taken instead")
    ] = None,
) -> Jpeg:
    """Baseline JPEG of grey or colour images. A measured JPEG needs no option: its file tells."""
    if like is None:
        return Jpeg(shape, tables_of(quality or QUALITY, subsampling or "444", shape[0]))
    if quality is not None or subsampling is not None:
        raise ValueError(f"like='{like}' tells quality and subsampling; leave them out, or like")
    found = read(like, measured=True).jpeg
    if found is None:
        raise ValueError(
            f"like='{like}' does not tell; expected a JPEG of 8 x 8 pixels or more, grey or Y Cb Cr"
        )
    return Jpeg(shape, found.tables)
