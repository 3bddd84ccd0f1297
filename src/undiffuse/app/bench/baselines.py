"""Restoration without a diffusion prior: what every algorithm has to be better than."""

from typing import Annotated
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from undiffuse.app.bench.contenders import BASELINES, Given
from undiffuse.app.bench.variation import constrained_variation
from undiffuse.app.kinds import kind_of
from undiffuse.core.devices import moved
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.operators.base import LinearOperator, Operator
from undiffuse.priors import photo_gaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem

QUIET = 1e-3  # least noise that BM3D is told, on the range [0, 1]: a quarter of an 8-bit level


@BASELINES.register("pinv", summary="the pseudo-inverse, A^+ y", example="--baselines pinv")
def pinv(problem: Problem, given: Given, /) -> Tensor:
    """A^+ y: exact without noise where A can be inverted, and amplifies noise by 1/s."""
    return _linear(problem, "pinv").pinv(problem.y)


@BASELINES.register("bicubic", summary="bicubic enlargement, for reductions", example="--baselines bicubic")
def bicubic(problem: Problem, given: Given, /) -> Tensor:
    """Keys' cubic convolution with a = -0.75 (torch.nn.functional.interpolate), pixel centres aligned."""
    _reduction(problem, "bicubic")
    return functional.interpolate(problem.y, problem.A.in_shape[1:], mode="bicubic", align_corners=False)


@BASELINES.register("lanczos", summary="Lanczos enlargement, for reductions", example="--baselines lanczos")
def lanczos(problem: Problem, given: Given, /) -> Tensor:
    """Windowed sinc of three lobes (Pillow's LANCZOS), pixel centres aligned."""
    _reduction(problem, "lanczos")
    height, width = problem.A.in_shape[1:]
    planes = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.LANCZOS))
        for plane in problem.y[0].cpu().float().numpy()
    ]
    return torch.from_numpy(np.stack(planes))[None].to(problem.y)


@BASELINES.register(
    "wiener", summary="the posterior mean of the prior photo-gaussian", example="--baselines wiener"
)
def wiener(problem: Problem, given: Given, /) -> Tensor:
    """E[x0 | y] of a stationary Gaussian with the spectrum of photographs, for any linear degradation."""
    prior = moved(photo_gaussian(), problem.y.device)
    step = RESTORERS["exact"](prior, problem, SeededNoise([0]), sample=False)
    x = problem.y.new_zeros(1, *problem.A.in_shape)
    return last(sample(step, x, torch.tensor([1.0, 0.0]))).x


@BASELINES.register("tv", summary="least total variation that explains the data", example="--baselines tv")
def tv(
    problem: Problem,
    given: Given,
    /,
    *,
    iterations: Annotated[int, Field(ge=1, le=100_000, description="of the primal-dual method")] = 300,
) -> Tensor:
    """min TV(x) with |A x - y|^2 <= m sigma_y^2 (Rudin, Osher and Fatemi 1992): no weight to be tuned."""
    return constrained_variation(_linear(problem, "tv"), problem.y, problem.sigma_y, iterations)


@BASELINES.register(
    "bm3d", summary="BM3D for noise alone; needs the package bm3d", example="--baselines bm3d", slow=True
)
def bm3d(problem: Problem, given: Given, /) -> Tensor:
    """BM3D (Dabov et al. 2007) by its authors' package; colours in opponent space."""
    if kind_of(problem.A) != "noise":
        raise ValueError("bm3d removes noise only; use it with deno")
    package = _bm3d()
    z, sigma = _unit(problem.y), max(problem.sigma_y / 2, QUIET)
    found = package.bm3d_rgb(z, sigma) if z.shape[2] == 3 else package.bm3d(z, sigma)
    return _back(np.asarray(found), problem.y)


@BASELINES.register(
    "bm3d_deblur",
    summary="BM3D for blur; needs the package bm3d",
    example="--baselines bm3d_deblur",
    slow=True,
)
def bm3d_deblur(problem: Problem, given: Given, /) -> Tensor:
    """Regularised inversion, then filtering of the coloured noise left (Dabov et al. 2008), by the authors' package.

    It knows blur that wraps around: the picture is continued by reflection, as our blurs do, and cut afterwards.
    """
    if kind_of(problem.A) != "blur":
        raise ValueError("bm3d_deblur inverts blur only; use it with deblur_gauss and the like")
    package, kernel = _bm3d(), response(problem.A)
    edge, found = max(kernel.shape) + 8, []
    z = functional.pad(problem.y, (edge,) * 4, mode="reflect")
    with patch.object(
        np, "trapz", np.trapezoid, create=True
    ):  # bm4d 4.2 calls it; numpy 2.4 has dropped the name
        for plane in z.split(1, 1):
            # (H, W, 1): of a plane (H, W) the package makes H channels
            answer = package.bm3d_deblurring(_unit(plane), max(problem.sigma_y / 2, QUIET), kernel)
            found.append(_back(answer, problem.y))
    return torch.cat(found, 1)[:, :, edge:-edge, edge:-edge]


def response(A: Operator) -> np.ndarray:
    """(h, w): what a blur makes of one bright pixel in the middle, cut to where it is not zero; odd sides."""
    channels, height, width = A.in_shape
    x = torch.zeros(1, channels, height, width, dtype=torch.float64)
    x[..., height // 2, width // 2] = 1
    spread = A.to(x.dtype)(x)[0, 0]
    A.to(torch.float32)
    seen = spread.abs() > 1e-6 * spread.abs().max()
    rows, columns = (seen.any(axis).nonzero().flatten() for axis in (1, 0))
    up = max(abs(int(rows[i]) - height // 2) for i in (0, -1))
    left = max(abs(int(columns[i]) - width // 2) for i in (0, -1))
    middle = (slice(height // 2 - up, height // 2 + up + 1), slice(width // 2 - left, width // 2 + left + 1))
    return spread[middle].numpy()


def _linear(problem: Problem, name: str) -> LinearOperator:
    if not isinstance(problem.A, LinearOperator):
        raise ValueError(f"{name} needs a linear degradation and {type(problem.A).__name__} is not")
    return problem.A


def _reduction(problem: Problem, name: str) -> None:
    if kind_of(problem.A) != "reduction":
        raise ValueError(f"{name} enlarges reduced pictures only; use it with sr4 and the like")


def _bm3d():
    try:
        import bm3d  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError("needs the package bm3d; pip install bm3d (free for non-commercial use)") from None
    return bm3d


def _unit(x: Tensor) -> np.ndarray:
    """(1, C, H, W) in [-1, 1] -> (H, W, C) in [0, 1], float64."""
    return (x[0].cpu().double() / 2 + 0.5).permute(1, 2, 0).numpy()


def _back(x: np.ndarray, like: Tensor) -> Tensor:
    x = x[..., None] if x.ndim == 2 else x
    return (torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None] * 2 - 1).to(like)
