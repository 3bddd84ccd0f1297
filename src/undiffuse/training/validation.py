"""How good a prior is in each band of noise, on images held out: the same noise every time, so that runs compare."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.priors import NoisyClassifier, Prior
from undiffuse.training.conditioning import LowRes
from undiffuse.training.draws import uniform
from undiffuse.training.objective import by_prediction

Batches = Iterable[tuple[Tensor, Tensor | None]]  # images (B, C, H, W), labels (B,) or None


class Band(NamedTuple):
    """The three losses of the same estimates, each the mean over the images, for low < sigma < high."""

    low: float
    high: float
    eps: float
    x0: float
    v: float
    images: int


class ClassifierBand(NamedTuple):
    """Mean cross-entropy, in nats, and share of images whose class is the likeliest, for low < sigma < high."""

    low: float
    high: float
    cross_entropy: float
    accuracy: float
    images: int


def validate(
    prior: Prior,
    batches: Batches,
    /,
    *,
    edges: Sequence[float],
    seed: int,
    condition: LowRes | None = None,
) -> list[Band]:
    """The losses in the bands between `edges`, which rise; a network call for each batch and band.

    In a band, each image has one level, log-uniform in it, and one draw of noise, functions of the seed, the band's
    number and the image's in the order of `batches`: not of the batches' size. `condition` makes the picture that
    the prior is conditioned on, from the image's own draws too. Images are moved to where the prior's weights are
    (`condition` is not); the prior is called in evaluation mode and put back into its own. ValueError without images.
    """

    def measure(clean: Tensor, labels: Tensor | None, sigma: Tensor, noise: SeededNoise) -> list[Tensor]:
        n = noise(clean)
        cond = None if condition is None else condition(clean, noise)
        losses = by_prediction(prior(clean + sigma * n, sigma, labels, cond), clean, sigma)
        return [losses[name] for name in ("eps", "x0", "v")]

    rows = _bands(prior, batches, edges, seed, measure)
    return [Band(low, high, eps, x0, v, images) for low, high, (eps, x0, v), images in rows]


def validate_classifier(
    classifier: NoisyClassifier, batches: Batches, /, *, edges: Sequence[float], seed: int
) -> list[ClassifierBand]:
    """`validate` for a classifier, with the same levels and noise. ValueError for images without labels."""

    def measure(clean: Tensor, labels: Tensor | None, sigma: Tensor, noise: SeededNoise) -> list[Tensor]:
        if labels is None:
            raise ValueError("images without labels; a classifier is validated on data with classes")
        logits = classifier(clean + sigma * noise(clean), sigma)
        return [F.cross_entropy(logits, labels.long(), reduction="none"), logits.argmax(1) == labels]

    rows = _bands(classifier, batches, edges, seed, measure)
    return [ClassifierBand(low, high, nats, right, images) for low, high, (nats, right), images in rows]


Measure = Callable[[Tensor, Tensor | None, Tensor, SeededNoise], list[Tensor]]


def _bands(
    module: nn.Module, batches: Batches, edges: Sequence[float], seed: int, measure: Measure
) -> Iterator[tuple[float, float, list[float], int]]:
    """(low, high, means, images) of each band."""
    bands = list(pairwise(float(edge) for edge in edges))
    if not bands or bands[0][0] <= 0 or not all(low < high < float("inf") for low, high in bands):
        raise ValueError(
            f"edges {list(edges)}; expected two or more noise levels that rise, the first above 0"
        )
    sums: list[list[float]] = [[] for _ in bands]
    images = 0
    with torch.no_grad(), _evaluating(module):
        device = next((p.device for p in module.parameters()), None)
        for clean, labels in batches:
            clean, labels = clean.to(device), None if labels is None else labels.to(device)
            names = [f"validate/{k}" for k in range(images, images + len(clean))]
            images += len(clean)
            for number, band in enumerate(bands):
                noise = SeededNoise(image_seeds(seed, names, draw=number))
                low, high = torch.tensor(band, dtype=torch.float64).log()
                u = uniform(noise, len(clean), 1)
                sigma = (low + u * (high - low)).exp().reshape(-1, 1, 1, 1).to(clean)
                found = [value.cpu().double().sum().item() for value in measure(clean, labels, sigma, noise)]
                sums[number] = [a + b for a, b in zip(sums[number] or [0.0] * len(found), found, strict=True)]
    if not images:
        raise ValueError("no images to validate on; hold some out")
    return (
        (*band, [total / images for total in totals], images)
        for band, totals in zip(bands, sums, strict=True)
    )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; each part is put back into the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
