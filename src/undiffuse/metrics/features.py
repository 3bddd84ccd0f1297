"""How far apart two sets of pictures are, by their features (N, D). In float64; the order is of no account."""

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Answer = TypeVar("Answer")
InSteps = Generator[
    int, None, Answer
]  # the pairs of pictures that were just compared, of `pairs`; then the answer
ENTRIES = 2**24  # of a matrix of pairs, held at once: 128 MiB
BELOW = 1e-3  # of the largest eigenvalue: what float32 and float16 make of a smallest one that is 0
NORMAL = 1.959964  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D), with N - 1. ValueError for fewer than two, and for what is not finite."""
    _check(features, 2)
    mean = features.mean(0, dtype=torch.float64)
    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=features.device)
    for rows in features.split(max(1, ENTRIES // len(mean))):
        centred = rows.double() - mean
        covariance.addmm_(centred.T, centred)
    return mean, covariance / (len(features) - 1)


def frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """Squared Frechet distance of two Gaussians (Dowson and Landau 1982, eq. 4); of Inception's features, FID.

    d^2 = |m - n|^2 + tr S + tr T - 2 tr (S T)^(1/2)        S = L L^T

    (S T)^(1/2) has the trace of (L^T T L)^(1/2), which is symmetric: the sum of the roots of its eigenvalues. No
    square root of a matrix, no complex numbers. Rounding below 0 is cut off. ValueError for shapes that differ,
    and for a covariance that is not finite, not symmetric or of negative variances.
    """
    if mean.shape != other_mean.shape:
        shapes = f"{tuple(mean.shape)} and {tuple(other_mean.shape)}"
        raise ValueError(f"means of {shapes}; expected the same features of both; use one network for both")
    (mean, s), (other_mean, t) = gaussian(mean, covariance), gaussian(other_mean, other_covariance)
    apart = (mean - other_mean).square().sum() + s.trace() + t.trace() - 2 * _trace_of_root(s, t)
    return max(0.0, apart.item())


def frechet_to(features: Tensor, mean: Tensor, covariance: Tensor) -> float:
    """The same from features (N, D) to a Gaussian. With N <= D by the singular values of F R, S = F^T F and T = R R^T.

    Of two sets give the larger one as the Gaussian: `frechet_to(few, *moments(many))`.
    """
    own_mean, own = moments(features)
    if len(features) > features.shape[1] or mean.shape != own_mean.shape:
        return frechet(own_mean, own, mean, covariance)
    mean, t = gaussian(mean, covariance)
    factor = (features.double() - own_mean) / math.sqrt(len(features) - 1)
    lower, failed = torch.linalg.cholesky_ex(t)
    # Not the roots of eigenvalues of F T F^T: those below rounding would be lost, and their roots are not small.
    values = torch.linalg.svdvals(factor @ (_root(t) if failed else lower))
    apart = (own_mean - mean).square().sum() + own.trace() + t.trace()
    return max(0.0, (apart - 2 * values.sum()).item())


def _trace_of_root(s: Tensor, t: Tensor) -> Tensor:
    """tr (S T)^(1/2) of positive semi-definite matrices."""
    factor, failed = torch.linalg.cholesky_ex(s)
    if not failed:
        values = torch.linalg.eigvalsh(factor.T @ t @ factor)
        if values[0] > _noise(values):
            return values.sqrt().sum()
    # fewer pictures than features: roots of eigenvalues that are rounding alone, 1e-16, would add 1e-8 each
    return torch.linalg.svdvals(_root(s).T @ _root(t)).sum()


def _root(s: Tensor) -> Tensor:
    """R with S = R R^T, a column for each eigenvalue above rounding. ValueError where some are far below 0."""
    values, vectors = torch.linalg.eigh(s)
    if values[0] < -BELOW * values.abs().max():
        raise ValueError(
            f"a covariance with the negative eigenvalue {values[0].item():.3g}; expected sigma of an .npz of statistics"
        )
    kept = values > _noise(values)
    return vectors[:, kept] * values[kept].sqrt()


def _noise(values: Tensor) -> Tensor:
    """What rounding makes of an eigenvalue 0: D eps max, the bound of backward-stable solvers."""
    return len(values) * torch.finfo(values.dtype).eps * values[-1].clamp(min=0)


def gaussian(mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, the covariance exactly symmetric. ValueError for numbers that are of no Gaussian."""
    mean, covariance, size = mean.double(), covariance.double(), len(mean)
    if not mean.isfinite().all():
        raise ValueError("a mean that is not finite; expected mu of an .npz of statistics")
    if covariance.shape != (size, size) or not covariance.isfinite().all():
        shape = "x".join(map(str, covariance.shape))
        raise ValueError(
            f"a covariance of {shape} for {size} means, or not finite; expected {size}x{size} numbers"
        )
    if (covariance - covariance.T).abs().max() > 1e-6 * covariance.diagonal().abs().max():  # of float32: 1e-7
        raise ValueError("a covariance that is not symmetric; expected sigma of an .npz of statistics")
    return mean, (covariance + covariance.T) / 2


def finished(steps: InSteps[Answer]) -> Answer:
    """The answer, whatever it takes."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def pairs(features: Tensor, reference: Tensor) -> int:
    """How many `kid_steps` and `prdc_steps` compare: all within each set, and all between them."""
    m, n = len(features), len(reference)
    return m * m + n * n + m * n


def kid(features: Tensor, reference: Tensor) -> Estimate:
    """Kernel distance, MMD^2 with k(x, y) = (x . y / D + 1)^3 (Binkowski et al. 2018, sec. 4): unbiased, may be < 0.

    mean k(x, x') - 2 mean k(x, y) + mean k(y, y') over all pairs of different pictures, not over random blocks:
    the expectation of the published blocks of 1000, with less spread. The interval is the jackknife's, each
    picture left out once (Arvesen 1969); for equal distributions it is wider than need be. ValueError for fewer
    than 3 pictures.
    """
    return finished(kid_steps(features, reference))


def kid_steps(features: Tensor, reference: Tensor) -> InSteps[Estimate]:
    """`kid`, which can be watched: thousands of pictures take long."""
    _check(features, 3)
    _check(reference, 3, features.shape[1])
    m, n = len(features), len(reference)
    own, _ = yield from _kernel_sums(features, features)
    other, _ = yield from _kernel_sums(reference, reference)
    across, back = yield from _kernel_sums(features, reference)
    a, b, c = own.sum(), across.sum(), other.sum()
    value = a / (m * (m - 1)) - 2 * b / (m * n) + c / (n * (n - 1))
    without = (a - 2 * own) / ((m - 1) * (m - 2)) - 2 * (b - across) / ((m - 1) * n)
    without_reference = (c - 2 * other) / ((n - 1) * (n - 2)) - 2 * (b - back) / ((n - 1) * m)
    variance = without.var(correction=0) * (m - 1) + without_reference.var(correction=0) * (n - 1)
    half = NORMAL * math.sqrt(variance.item())
    return Estimate(value.item(), value.item() - half, value.item() + half)


def _kernel_sums(x: Tensor, y: Tensor) -> InSteps[tuple[Tensor, Tensor]]:
    """Sums of the kernel along rows and columns; of a set with itself, without the diagonal."""
    rows, columns = x.new_zeros(len(x), dtype=torch.float64), x.new_zeros(len(y), dtype=torch.float64)
    for start, block in _blocks(x, len(y)):
        kernel = (block @ y.double().T / x.shape[1] + 1) ** 3
        if x is y:
            kernel[torch.arange(len(block)), start + torch.arange(len(block))] = 0
        rows[start : start + len(block)] = kernel.sum(1)
        columns += kernel.sum(0)
        yield kernel.numel()
    return rows, columns


def prdc(features: Tensor, reference: Tensor, neighbours: int = 5) -> dict[str, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020, eq. 3-5).

    Around each picture of a set lies a ball that reaches to its k-th neighbour in that set. precision: share of the
    pictures in a ball of the reference; recall: share of the reference in a ball of the pictures; density: balls
    of the reference around a picture, over k; coverage: share of the reference's balls that hold a picture.
    ValueError for sets of k pictures or fewer.
    """
    return finished(prdc_steps(features, reference, neighbours))


def prdc_steps(features: Tensor, reference: Tensor, neighbours: int = 5) -> InSteps[dict[str, float]]:
    """`prdc`, which can be watched."""
    _check(features, neighbours + 1)
    _check(reference, neighbours + 1, features.shape[1])
    radius = yield from _radii(reference, neighbours)
    own_radius = yield from _radii(features, neighbours)
    around = torch.zeros(len(features), dtype=torch.float64, device=features.device)
    recalled, covered = [], []
    for start, block in _blocks(reference, len(features)):
        squared = _squared_distances(block, features)
        inside = squared < radius[start : start + len(block), None]
        around += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((squared < own_radius).any(1))
        yield squared.numel()
    return {
        "precision": (around > 0).double().mean().item(),
        "recall": torch.cat(recalled).double().mean().item(),
        "density": around.mean().item() / neighbours,
        "coverage": torch.cat(covered).double().mean().item(),
    }


def _radii(x: Tensor, neighbours: int) -> InSteps[Tensor]:
    """Squared distance of each picture to its k-th neighbour."""
    found = []
    for start, block in _blocks(x, len(x)):
        squared = _squared_distances(block, x)
        squared[torch.arange(len(block)), start + torch.arange(len(block))] = math.inf  # itself
        found.append(squared.kthvalue(neighbours, 1).values)
        yield squared.numel()
    return torch.cat(found)


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    x, y = x.double(), y.double()
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp(min=0)


def _blocks(x: Tensor, columns: int):
    """Rows of x in float64 with the number of the first: so many that pairs with `columns` others fit."""
    size = max(1, ENTRIES // columns)
    for start in range(0, len(x), size):
        yield start, x[start : start + size].double()


def inception_score(logits: Tensor, splits: int = 10) -> tuple[float, float]:
    """exp of the mean of KL(p(y|x) | p(y)) (Salimans et al. 2016): mean and deviation over splits, in order.

    logits: (N, classes). As published, the mean of 10 parts; splits=1 takes all at once. ValueError for fewer
    pictures than splits.
    """
    _check(logits, splits)
    scores = []
    for part in torch.tensor_split(logits, splits):
        log = part.double().log_softmax(1)
        marginal = log.logsumexp(0) - math.log(len(log))
        scores.append((log.exp() * (log - marginal)).sum(1).mean().exp())
    values = torch.stack(scores)
    return values.mean().item(), values.std(correction=0).item()


def _check(features: Tensor, least: int, width: int | None = None) -> None:
    if features.ndim != 2 or len(features) < least or not features.shape[1]:
        raise ValueError(
            f"features of shape {tuple(features.shape)}; expected (N, D) of at least {least} pictures"
        )
    if width is not None and features.shape[1] != width:
        raise ValueError(f"{features.shape[1]} features and {width}; expected one network for both sets")
    if not features.isfinite().all():
        raise ValueError("features that are not finite; expected numbers: look at the network and its input")
