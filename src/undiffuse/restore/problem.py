"""What is to be restored: y = A(x) + sigma_y n, everything in the scale of [-1, 1] images."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from undiffuse.core.state import Noise
from undiffuse.operators.base import LinearOperator, Operator, SVDOperator


@dataclass(frozen=True, slots=True)
class Problem:
    """A measurement. y: (B, *A.out_shape); sigma_y: standard deviation of its noise in [-1, 1] units, 0 = noise-free.

    What y holds where A measures nothing (a missing pixel; NaN, too) is dropped: it is 0 here. ValueError if y
    has another shape, is not finite, or sigma_y is not a number >= 0.
    """

    A: Operator
    y: Tensor
    sigma_y: float

    def __post_init__(self):
        if self.y.shape[1:] != self.A.out_shape:
            expected = "x".join(str(n) for n in self.A.out_shape)
            raise ValueError(f"the measurement is {_size(self.y)}, but the degradation gives {expected}")
        if not math.isfinite(self.sigma_y) or self.sigma_y < 0:
            raise ValueError(f"noise level {self.sigma_y}; expected a number >= 0 (0 = noise-free)")
        if self.A.support is not None:  # residuals, and so the certificate, run over all of y
            object.__setattr__(self, "y", torch.where(self.A.support > 0, self.y, 0))
        if not torch.isfinite(self.y).all():
            raise ValueError("the measurement holds NaN or infinite values; mask them out with inp:mask=FILE")

    def repeat(self, draws: int) -> "Problem":
        """The same measurement `draws` times over, image by image: (B * draws, ...)."""
        return Problem(self.A, self.y.repeat_interleave(draws, 0), self.sigma_y)


def _size(y: Tensor) -> str:
    return "x".join(str(n) for n in y.shape[1:])


def measure(A: Operator, x: Tensor, sigma_y: float, noise: Noise) -> Tensor:
    """y = A(x) + sigma_y n, noise only where something is measured. sigma_y = 0 draws nothing."""
    y = A(x)
    if sigma_y == 0:
        return y
    n = noise(y)
    return y + sigma_y * (n if A.support is None else A.support * n)


class Start(Protocol):
    """(problem, sigma, noise) -> x at the first level of the grid."""

    def __call__(self, problem: Problem, sigma: Tensor, noise: Noise, /) -> Tensor: ...


def start(problem: Problem, sigma: Tensor, noise: Noise, /) -> Tensor:
    """sigma n: where every algorithm begins that does not say otherwise in the registry."""
    y = problem.y
    return sigma * noise(y.new_zeros(y.shape[0], *problem.A.in_shape))


def linear(problem: Problem, algorithm: str) -> LinearOperator:
    """The operator as a linear one; ValueError that names algorithms which do without."""
    if isinstance(problem.A, LinearOperator):
        return problem.A
    raise ValueError(
        f"{algorithm} needs a linear degradation and {type(problem.A).__name__} is not; use dps, daps or reddiff"
    )


def decomposed(problem: Problem, algorithm: str) -> SVDOperator:
    """The operator with its SVD; ValueError that names algorithms which do without."""
    A = linear(problem, algorithm)
    if isinstance(A, SVDOperator):
        return A
    raise ValueError(
        f"{algorithm} needs the singular value decomposition of the degradation and {type(A).__name__} has none; "
        "use pigdm, diffpir, daps or dps"
    )


def noise_in_image(A: SVDOperator, sigma_y: float) -> Tensor:
    """sigma_y / s: the noise of each spectral coefficient of A^+ y, infinite where nothing is seen."""
    return torch.where(A.seen, sigma_y / torch.where(A.seen, A.s, 1), torch.inf)


def noise_of_modes(A: SVDOperator, noise: Noise, x: Tensor, c: Tensor) -> Tensor:
    """V^T n for white noise n like the images x, whose coefficients are like c.

    White noise is white in every orthonormal basis: real coefficients are drawn as such, without the transform.
    """
    return noise(c) if c.dtype == x.dtype and c.numel() == x.numel() else A.vt(noise(x))
