"""Many points in few dimensions: PCA in one frame for all that is compared, t-SNE and UMAP for neighbourhoods.

Points are (..., k): pictures flattened, or their sketches (`analysis.trajectory`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FIRST = 50  # principal components that t-SNE and UMAP see (van der Maaten and Hinton 2008, sec. 4.2 take 30)
MISSING = "--embed {} needs the package {}; install it with pip, or use --embed pca"


@dataclass(frozen=True, slots=True)
class Frame:
    """An affine frame: where the origin is, and orthonormal axes by falling variance."""

    mean: Tensor  # (k,)
    axes: Tensor  # (dims, k), rows of length 1
    variances: Tensor  # (dims,), of the points it was fitted on along each axis
    total: float  # their variance in all k dimensions together

    def __call__(self, points: Tensor) -> Tensor:
        """(..., k) -> (..., dims): coordinates, in the units of the points."""
        return (points.to(self.mean) - self.mean) @ self.axes.T

    def back(self, coordinates: Tensor) -> Tensor:
        """(..., dims) -> (..., k): the nearest point with these coordinates."""
        return self.mean + coordinates.to(self.mean) @ self.axes

    @property
    def explained(self) -> Tensor:
        """(dims,): the share of the variance that each axis shows; together 1 where nothing is hidden."""
        return self.variances / self.total if self.total > 0 else torch.ones_like(self.variances)

    def seen(self, points: Tensor) -> float:
        """The share of the variance of these points around the frame's origin that its axes show, 0 to 1."""
        centred = points.to(self.mean).reshape(-1, len(self.mean)) - self.mean
        whole = centred.square().sum().item()
        return (centred @ self.axes.T).square().sum().item() / whole if whole > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Cloud:
    """Trajectories of one prior in few dimensions, white - black = 1 where lengths mean something."""

    label: str
    sigmas: Tensor  # (T,) in [-1, 1] units
    points: Tensor  # (T, n, dims)


@dataclass(frozen=True, slots=True)
class Embedding:
    """All priors in one frame."""

    way: str  # pca, tsne or umap
    dims: int
    clouds: tuple[Cloud, ...]
    axes: tuple[str, ...]  # what the axes are called
    told: str  # how it was made, and what of it means something


def pca(points: Tensor, dims: int = 3) -> Frame:
    """The frame of largest variance (Pearson 1901): eigenvectors of the covariance, in float64.

    points: (..., k), two or more. Each axis points so that its largest entry is positive: the same points give the
    same frame in any order, up to rounding. ValueError for fewer points or dimensions than asked for.
    """
    x = points.double().reshape(-1, points.shape[-1])
    if len(x) < 2 or not 1 <= dims <= min(len(x), x.shape[1]):
        raise ValueError(
            f"a frame of {dims} dimensions from {len(x)} points of {x.shape[1]} numbers; expected 1 to "
            f"{min(len(x), x.shape[1])} dimensions, and 2 points or more"
        )
    if not x.isfinite().all():
        raise ValueError("points that are not finite; a trajectory diverged: use more steps")
    mean = x.mean(0)
    x = x - mean
    if len(x) < x.shape[1]:  # the smaller of the two matrices has the same eigenvalues
        values, vectors = _largest(x @ x.T / len(x), dims)
        axes = _rows_of_length_one(vectors.T @ x)
    else:
        values, vectors = _largest(x.T @ x / len(x), dims)
        axes = vectors.T
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return Frame(mean, axes * torch.where(largest < 0, -1.0, 1.0), values, x.square().sum().item() / len(x))


def _largest(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrix)
    return values[-count:].flip(0).clamp(min=0), vectors[:, -count:].flip(1)


def _rows_of_length_one(rows: Tensor) -> Tensor:
    """Orthonormal also where a variance is 0 and the direction is free: QR keeps the order of the rows."""
    q, r = torch.linalg.qr(rows.T)
    return (q * torch.where(r.diagonal() < 0, -1.0, 1.0)).T


def tsne(points: Tensor, dims: int = 2, *, seed: int = 0, perplexity: float = 30.0) -> Tensor:
    """(N, k) -> (N, dims): t-SNE (van der Maaten and Hinton 2008) by scikit-learn, begun at the PCA.

    It keeps neighbours together: distances between groups, and their sizes, mean nothing. It is of these points
    alone, so that all that is compared goes in at once. perplexity: about how many neighbours count, less for fewer
    than 91 points. ValueError without scikit-learn.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ValueError(MISSING.format("tsne", "scikit-learn")) from None
    from threadpoolctl import threadpool_limits

    perplexity = min(perplexity, max(1.0, (len(points) - 1) / 3))
    with threadpool_limits(torch.get_num_threads()):
        model = TSNE(
            dims, perplexity=perplexity, init="pca", random_state=seed, n_jobs=torch.get_num_threads()
        )
        found = model.fit_transform(_reduced(points))
    return torch.from_numpy(found)


def umap(points: Tensor, dims: int = 2, *, fitted: int, seed: int = 0, neighbours: int = 15) -> Tensor:
    """(N, k) -> (N, dims): UMAP (McInnes et al. 2018) by umap-learn, fitted on the first `fitted` points.

    The others are placed among those, as the teacher's frame demands. Neighbourhoods count; distances between groups
    mean little. One thread, so that the seed decides. ValueError without umap-learn.
    """
    try:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensorflow, which it looks for and does not need
            from umap import UMAP
    except ImportError:
        raise ValueError(MISSING.format("umap", "umap-learn")) from None
    import numpy as np

    reduced = _reduced(points, fitted)
    neighbours = min(neighbours, fitted - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the seed asks for one thread
        model = UMAP(n_components=dims, n_neighbors=neighbours, random_state=seed, n_jobs=1)
        placed = [model.fit_transform(reduced[:fitted])]
        if fitted < len(reduced):
            placed.append(model.transform(reduced[fitted:]))
    return torch.from_numpy(np.concatenate(placed))


def _reduced(points: Tensor, fitted: int | None = None):
    """The first principal components of the first `fitted` points, as numpy's float32."""
    frame = pca(points[:fitted], min(FIRST, *points[:fitted].shape))
    return frame(points).float().numpy()
