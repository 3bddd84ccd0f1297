"""Trajectories in two and three dimensions: by PCA in the first prior's frame, by t-SNE, by UMAP."""

import importlib.util
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.analysis.embedding import MISSING, Cloud, Embedding, Frame, pca, tsne, umap
from undiffuse.analysis.trajectory import Sketch, Trajectories
from undiffuse.app.analyse import embedding_figures, interactive, store
from undiffuse.app.analyse.section import Attachment, Figure
from undiffuse.app.events import Event, Note
from undiffuse.config.analyse.trajectories import TrajectoriesConfig, Way

PACKAGES = {"tsne": ("sklearn", "scikit-learn"), "umap": ("umap", "umap-learn")}
FRAME, PAGE = "frame.safetensors", "embedding.html"
AXES = 20  # of the frame: what is stored, and the curve of explained variance
FITTED = 2048  # points that a frame is fitted on, evenly over levels and pictures
LOW = 0.5  # share of the variance below which a reader is warned
LEVELS, PICTURES = 8, 30  # of each prior, that t-SNE and UMAP see: their time grows with the square


@dataclass(frozen=True, slots=True)
class Embedded:
    """What goes into the report."""

    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    attachments: tuple[Attachment, ...]


def check(config: TrajectoriesConfig) -> None:
    """ValueError for a package that is not here, or a frame of something else, before anything is computed."""
    if config.frame is not None:
        store.check_frame(config.frame, config.of, max(config.dims))
    for way in config.embed:
        module, package = PACKAGES.get(way, ("", ""))
        if module and importlib.util.find_spec(module) is None:
            raise ValueError(MISSING.format(way, package))


def embedded(
    config: TrajectoriesConfig, found: Sequence[Trajectories], sketch: Sketch
) -> Generator[Event, None, Embedded]:
    """Figures of all ways that were asked for, the frame's file, and a page to turn them in."""
    if not config.embed:
        return Embedded((), (), ())
    points = [it.estimates if config.of == "estimates" else it.scaled() for it in found]
    if config.frame is None:
        frame, fitted_on = fitted(points[0]), found[0].label
    else:
        frame, fitted_on = store.read_frame(config.frame, sketch)
    made: list[Embedding] = []
    for way in config.embed:
        for dims in sorted(config.dims):
            if way != "pca":
                yield Note(f"{way} in {dims} dimensions")
            made.append(_PLACED[way](found, points, frame, dims, config))
    figures = embedding_figures.figures(made, config.of)
    figures += (embedding_figures.variance(frame, fitted_on, config.of),) if "pca" in config.embed else ()
    files = [
        Attachment(
            FRAME, "the frame of the PCA, for --frame", _frame_writer(frame, config.of, sketch, fitted_on)
        )
    ]
    if importlib.util.find_spec("plotly") is not None:
        files.append(
            Attachment(PAGE, "the same to turn and to look into, 5 MB", interactive.writer(made, config.of))
        )
    return Embedded(tuple(figures), tuple(notes(found, points, frame, fitted_on, config)), tuple(files))


def fitted(points: Tensor) -> Frame:
    """The PCA of (T, n, k), of all of it or evenly chosen points."""
    levels, n, k = points.shape
    pictures = points[:, :: max(1, -(-2 * n // FITTED))]
    count = min(levels, max(2, FITTED // pictures.shape[1]))
    chosen = sorted({round(i * (levels - 1) / (count - 1)) for i in range(count)})
    part = pictures[chosen].reshape(-1, k)
    return pca(part, min(AXES, *part.shape))


def notes(
    found: Sequence[Trajectories],
    points: Sequence[Tensor],
    frame: Frame,
    fitted_on: str,
    config: TrajectoriesConfig,
) -> list[str]:
    """How much the axes show, and a warning where that is little."""
    if "pca" not in config.embed:
        return []
    dims = max(config.dims)
    flat = Frame(frame.mean, frame.axes[:dims], frame.variances[:dims], frame.total)
    shares = [flat.seen(it) for it in points]
    told = ", ".join(f"{100 * share:.0f} % of {it.label}" for it, share in zip(found, shares, strict=True))
    words = [f"PCA in {dims} dimensions, fitted on {fitted_on}, shows this much of the variance: {told}."]
    if min(shares) < LOW:
        words.append(
            f"Less than half of the variance is in the {dims} axes: points that are close in the figure may be far "
            "apart. Rely on the distances."
        )
    return words


def _by_pca(
    found: Sequence[Trajectories],
    points: Sequence[Tensor],
    frame: Frame,
    dims: int,
    config: TrajectoriesConfig,
) -> Embedding:
    shares = [f"{100 * share:.0f} %" for share in frame.explained[:dims].tolist()]
    clouds = tuple(
        Cloud(it.label, it.sigmas, frame(values)[..., :dims] / 2 / values.shape[-1] ** 0.5)
        for it, values in zip(found, points, strict=True)
    )
    told = (
        "coordinates along the directions in which the first prior's points vary most, the same for all priors, "
        "as root mean squares over pixels with white - black = 1; distances in the figure are never longer than "
        "they are"
    )
    return Embedding("pca", dims, clouds, tuple(f"axis {i + 1} ({s})" for i, s in enumerate(shares)), told)


def _by_neighbours(
    found: Sequence[Trajectories],
    points: Sequence[Tensor],
    dims: int,
    way: Way,
    told: str,
    place: Callable[..., Tensor],
) -> Embedding:
    parts: list[Tensor] = []
    levels: list[Tensor] = []
    for it, values in zip(found, points, strict=True):
        count = min(LEVELS, len(it.sigmas))
        chosen = sorted({round(i * (len(it.sigmas) - 1) / (count - 1)) for i in range(count)})
        levels.append(it.sigmas[chosen])
        parts.append(values[chosen, :PICTURES])
    sizes = [part.shape[0] * part.shape[1] for part in parts]
    placed = place(torch.cat([part.reshape(-1, part.shape[-1]) for part in parts]), dims, sizes[0])
    clouds = [
        Cloud(it.label, sigmas, flat.reshape(*part.shape[:2], dims))
        for it, sigmas, part, flat in zip(found, levels, parts, placed.split(sizes), strict=True)
    ]
    return Embedding(way, dims, tuple(clouds), ("",) * dims, told)


def _by_tsne(
    found: Sequence[Trajectories],
    points: Sequence[Tensor],
    frame: Frame,
    dims: int,
    config: TrajectoriesConfig,
) -> Embedding:
    told = (
        "by t-SNE, which keeps neighbours together and nothing else: lengths, and gaps between groups, mean "
        "nothing. All priors were placed at once"
    )
    return _by_neighbours(
        found, points, dims, "tsne", told, lambda x, dims, _: tsne(x, dims, seed=config.seed % 2**32)
    )


def _by_umap(
    found: Sequence[Trajectories],
    points: Sequence[Tensor],
    frame: Frame,
    dims: int,
    config: TrajectoriesConfig,
) -> Embedding:
    told = (
        "by UMAP, which keeps neighbours together; lengths, and gaps between groups, mean little. It was fitted on the "
        "first prior, and the others were placed among its points"
    )
    return _by_neighbours(
        found,
        points,
        dims,
        "umap",
        told,
        lambda x, dims, own: umap(x, dims, fitted=own, seed=config.seed % 2**32),
    )


_PLACED: dict[Way, Callable[..., Embedding]] = {"pca": _by_pca, "tsne": _by_tsne, "umap": _by_umap}


def _frame_writer(frame: Frame, of: str, sketch: Sketch, fitted_on: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        store.write_frame(path, frame, of, sketch, fitted_on)

    return write
