"""The posterior itself, for a Gaussian prior: the referee of every other algorithm."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Protocol, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import max_pool2d

from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.operators.base import LinearOperator, SVDOperator
from undiffuse.operators.pixel import Inpaint
from undiffuse.operators.solve import conjugate_gradient
from undiffuse.registry import RESTORERS
from undiffuse.restore.problem import Problem, linear

TOLERANCE = 1e-4  # of the residual for y, whitened: all modes count alike
TOLERANCE_X = {
    torch.float32: 1e-6,
    torch.float64: 1e-9,
}  # of that for x, which the largest structures dominate
# Smallest sigma_y for x, [-1, 1] units: the system is singular without. With 1e-3 float32 loses a wide hole of
# noise-free data to rounding (values of 5 in [-1, 1]); 1e-2 is one 8-bit level, and moves the PSNR of single
# missing pixels by 0.001 dB.
FLOOR = {torch.float32: 1e-2, torch.float64: 1e-3}


TOLERANCE_HOLES = {torch.float32: 1e-4, torch.float64: 1e-9}  # of the residual at missing pixels
WIDE = 32  # pixels of a hole
SPECTRUM = 2**16  # of its modes, enough to know how they are distributed

PROBES = 8  # random products by which the rows of a matrix are weighed
DIAGONAL = 1e-3  # two products with random signs as close as this: a diagonal matrix, rounding apart


class GaussianPrior(Protocol):
    """A Gaussian that is diagonal in an orthonormal basis: x0 = mean + V c, c ~ N(0, diag(spectrum))."""

    def vt(self, x: Tensor, /) -> Tensor:
        """(B, C, H, W) -> coefficients of the same shape."""
        ...

    def v(self, c: Tensor, /) -> Tensor:
        """The inverse of `vt`."""
        ...

    def spectrum(self, channels: int, height: int, width: int, /) -> Tensor:
        """(C, H, W): the variance of each coefficient."""
        ...

    def mean_image(self, channels: int, /) -> Tensor:
        """Broadcasts to (1, C, H, W)."""
        ...


@RESTORERS.register(
    "exact",
    summary="the exact posterior of a Gaussian prior: its mean, or draws; any linear degradation; one call",
    example="--algorithm exact --prior photo-gaussian --draws 8",
)
def exact(
    denoise: Denoise,
    problem: Problem,
    noise: Noise,
    /,
    *,
    sample: Annotated[
        bool, Field(description="a draw from the posterior; false = its mean, best in PSNR")
    ] = True,
    tolerance: Annotated[
        float,
        Field(gt=0, lt=1, description="relative residual that ends a search over data that is a picture"),
    ] = TOLERANCE,
) -> Step:
    """Draws from p(x0 | y) of a Gaussian prior N(m, C) by perturb-and-solve (Papandreou and Yuille 2010):

        argmin_z |A z - y - sigma_y n|^2 / sigma_y^2 + (z - x_p)^T C^-1 (z - x_p),  x_p ~ N(m, C)

    or, with sample = false, its mean (n = 0, x_p = m), which is the Wiener filter for any linear A. The grid
    plays no part: one level is enough, and the state's x is ignored.

    Solved by preconditioned conjugate gradient, for y where y is a whole picture and for x otherwise (see
    `_for_data`, `_for_holes`, `_for_pixels`); noise-free data is projected at the end. A hole of a hundred pixels
    across converges slowly: it is a little too smooth when the iterations end.

    ValueError for a degradation that is not linear, or a prior that is not Gaussian.
    """
    A = linear(problem, "exact")
    if not all(hasattr(denoise, name) for name in ("vt", "v", "spectrum", "mean_image")):
        raise ValueError("exact needs a Gaussian prior such as photo-gaussian; use pigdm or ddrm")
    prior, y = cast(GaussianPrior, denoise), problem.y
    variance = prior.spectrum(*A.in_shape).to(y)
    mean = prior.mean_image(A.in_shape[0]).to(y).expand(y.shape[0], *A.in_shape)

    @cache  # it is weighed first, at the cost of some products: not before it is asked for
    def correction() -> Correction:
        if isinstance(A, Inpaint):
            return _for_holes(A, prior, variance, problem)
        if len(A.out_shape) == 3 and A.support is None:
            return _for_data(A, prior, variance, problem, tolerance)
        return _for_pixels(A, prior, variance, problem)

    def step(state: State, sigma_next: Tensor) -> State:
        start, data = mean, y
        if sample:
            start = mean + prior.v(variance.sqrt() * noise(mean))
            n = noise(y)
            data = y + problem.sigma_y * (n if A.support is None else A.support * n)
        x0 = start + correction()(data - A(start))
        if problem.sigma_y == 0:
            x0 = A.ridge(x0, y, 0.0)
        return State(x0 + sigma_next * noise(x0), sigma_next, x0)

    return step


Correction = Callable[[Tensor], Tensor]  # residual y - A x -> C A^T (A C A^T + sigma_y^2)^-1 residual


def _for_data(
    A: LinearOperator, prior: GaussianPrior, variance: Tensor, problem: Problem, tolerance: float
) -> Correction:
    """Solve (A C A^T + sigma_y^2) z = r for z of the size of y, in the prior's basis at that size.

    There A C A^T is nearly diagonal for blurs, reductions and weighted channels, exactly so for symmetric
    kernels with reflecting boundary, even without noise. Preconditioned with its rows' norms, found by
    probing with random signs (Bekas et al. 2007) after scaling by the prior's own spectrum, for its modes
    span eight orders of magnitude.
    """
    y = problem.y

    def covariance(z: Tensor) -> Tensor:
        seen = A(prior.v(variance * prior.vt(A.adjoint(prior.v(z)))))
        return prior.vt(seen) + problem.sigma_y**2 * z

    scale = (prior.spectrum(*A.out_shape).to(y) + problem.sigma_y**2).sqrt()
    norms = _row_norms(lambda z: covariance(z / scale) / scale, y[:1])
    inverse = 1 / (scale**2 * norms)

    def correct(residual: Tensor) -> Tensor:
        z = conjugate_gradient(
            covariance, prior.vt(residual), precondition=lambda r: inverse * r, tolerance=tolerance
        )
        return prior.v(variance * prior.vt(A.adjoint(prior.v(z))))

    return correct


def _for_holes(A: Inpaint, prior: GaussianPrior, variance: Tensor, problem: Problem) -> Correction:
    """Solve (C^-1 + W) d = W r with W = 1 / sigma_y^2 at measured pixels, 0 elsewhere; without noise d = r at the
    measured ones and C^-1 d = 0 at the missing ones.

    C^-1 is local, nearly a differential operator, so that a missing pixel asks its neighbours only: conditioned by the
    width of the holes, and not by the size of the picture. Preconditioned with D (C^-1 + rho)^-1 D + L, where D is 1 at
    missing pixels and q / (q + W) at measured ones, q the mean of C^-1, and L = (1 - D^2) / (q + W). rho is the
    precision of structures as wide as the widest hole: what is wider the data decides. Where noisy data surrounds
    wide holes that rho would be far from what decides the measured pixels: they have (C^-1 + W)^-1 to themselves.
    """
    y, kept = problem.y, A.s.to(problem.y)
    precision, gone = 1 / variance, 1 - kept
    q, exactly = precision.mean(), problem.sigma_y == 0
    some = precision.flatten()[:: precision.numel() // SPECTRUM | 1]  # odd: of every row and column
    width = _width(kept)
    rho, apart = some.quantile(width**-2), width >= WIDE and not exactly
    weight = q.new_zeros(()) if exactly else q.new_tensor(problem.sigma_y**-2)
    shrink = torch.zeros_like(q) if exactly else q / (q + weight)
    near = gone + shrink * kept
    alone = torch.zeros_like(kept) if exactly else kept * (1 - shrink**2) / (q + weight)

    def normal(x: Tensor) -> Tensor:
        pulled = prior.v(prior.vt(x) * precision)
        return gone * pulled if exactly else pulled.addcmul(weight * kept, x)

    def smooth(r: Tensor, floor: Tensor) -> Tensor:
        return prior.v(prior.vt(r) / (precision + floor))

    def precondition(r: Tensor) -> Tensor:
        if apart:
            return gone * smooth(gone * r, rho) + kept * smooth(kept * r, weight)
        return near * smooth(near * r, rho) + alone * r

    def correct(residual: Tensor) -> Tensor:
        known = kept * residual
        right = -normal(known) if exactly else weight * known
        found = conjugate_gradient(
            normal, right, precondition=precondition, tolerance=TOLERANCE_HOLES[y.dtype]
        )
        return known + found if exactly else found

    return correct


def _width(kept: Tensor) -> int:
    """A power of 2 of which every square block holds a measured pixel, in some channel. kept: (C, H, W)."""
    seen, width = kept.amax(0, keepdim=True), 1
    while not seen.all():
        seen, width = max_pool2d(seen, 2, ceil_mode=True), 2 * width
    return width


def _for_pixels(A: LinearOperator, prior: GaussianPrior, variance: Tensor, problem: Problem) -> Correction:
    """Solve (A^T A + sigma_y^2 C^-1) d = A^T r for d of the size of x: for missing coefficients.

    Preconditioned with the sum of two inverse diagonals: of A^T A + sigma_y^2 C^-1 in the prior's basis, good
    for large structures, and in the operator's, good for single missing pixels.
    """
    weight = max(problem.sigma_y, FLOOR[problem.y.dtype]) ** 2
    precision, tolerance = weight / variance, TOLERANCE_X[problem.y.dtype]
    signs = _signs(variance[None], torch.Generator().manual_seed(0))
    seen = (signs * prior.vt(A.adjoint(A(prior.v(signs))))).mean().clamp(min=1e-6)
    smooth = 1 / (seen + precision)

    def normal(c: Tensor) -> Tensor:
        return prior.vt(A.adjoint(A(prior.v(c)))) + precision * c

    def precondition(r: Tensor) -> Tensor:
        if not isinstance(A, SVDOperator):
            return smooth * r
        return smooth * r + prior.vt(A.v(A.vt(prior.v(r)) / (A.s**2 + precision.mean())))

    def correct(residual: Tensor) -> Tensor:
        right = prior.vt(A.adjoint(residual))
        return prior.v(conjugate_gradient(normal, right, precondition=precondition, tolerance=tolerance))

    return correct


def _row_norms(apply: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The norm of each row of a matrix: the root mean square of its products with random signs.

    One product at a time, for memory. Where the first two agree the matrix is diagonal, and they are enough.
    """
    generator = torch.Generator().manual_seed(0)
    first = apply(_signs(like, generator)).square()
    total, count = first + apply(_signs(like, generator)).square(), 2
    if (total - 2 * first).abs().sum() > DIAGONAL * first.sum():
        while count < PROBES:
            total, count = total + apply(_signs(like, generator)).square(), count + 1
    return (total / count).sqrt()


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs of the shape, dtype and device of `like`; drawn as bytes, for memory."""
    bits = torch.randint(0, 2, like.shape, generator=generator, dtype=torch.uint8)
    return bits.to(like) * 2 - 1
