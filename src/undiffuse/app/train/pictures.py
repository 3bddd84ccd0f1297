"""What a prior in training can do: samples, and photographs denoised, as one picture."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from undiffuse.app.outputs import picture_bytes
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.core.state import Denoise
from undiffuse.priors import Prior
from undiffuse.samplers import dpmpp_2m
from undiffuse.training import LowRes

CALLS = 20  # of the sampler
LEVELS = (0.2, 0.5, 1.5)  # sigma of the denoised ones
TOP = 80.0
CHUNK = 64  # validation images at once


@dataclass(frozen=True)
class Held:
    """Validation images (N, C, H, W), always the same, and their labels."""

    clean: Tensor
    labels: Tensor | None
    seed: int

    def batches(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """In order."""
        for at in range(0, len(self.clean), CHUNK):
            part = slice(at, at + CHUNK)
            yield self.clean[part], None if self.labels is None else self.labels[part]


def grid(pictures: Tensor, columns: int, gap: int = 2) -> Tensor:
    """(N, C, H, W) as one picture, in reading order, white between them."""
    padded = functional.pad(pictures, (0, gap, 0, gap), value=1.0)
    rows = [torch.cat(list(row), 2) for row in padded.split(columns) if len(row) == columns]
    return torch.cat(rows, 1)


@torch.no_grad()
def samples(prior: Prior, count: int, seed: int, device: torch.device, cond: Tensor | None = None) -> Tensor:
    """(count, C, H, W) from fixed noise; classes in turn."""
    assert prior.size is not None
    labels = torch.arange(count, device=device) % prior.num_classes if prior.num_classes else None
    noise = SeededNoise(image_seeds(seed, [f"sample/{i}" for i in range(count)]))
    grid = karras(CALLS, sigma_min=max(0.002, prior.sigma_range[0]), sigma_max=min(TOP, prior.sigma_range[1]))
    x = noise(torch.empty(count, prior.channels, *prior.size)).to(device) * grid[0].item()
    denoise: Denoise = prior.given(labels, cond)
    return last(sample(dpmpp_2m(denoise, noise), x, grid)).x.clamp(-1, 1).cpu()


@torch.no_grad()
def denoised(prior: Prior, clean: Tensor, labels: Tensor | None, cond: Tensor | None, seed: int) -> Tensor:
    """(B, C, H, 7 W): the clean image, then noisy and denoised at three levels."""
    noise = SeededNoise(image_seeds(seed, [f"denoise/{i}" for i in range(len(clean))]))
    strips = [clean]
    for sigma in LEVELS:
        noisy = clean + sigma * noise(clean)
        strips += [noisy, prior(noisy, torch.tensor(sigma, device=clean.device), labels, cond)]
    return torch.cat(strips, 3).clamp(-1, 1).cpu()


def sheet(prior: Prior, held: Held, condition: LowRes | None, count: int, device: torch.device) -> bytes:
    """A PNG: samples, and below them validation images denoised.

    Of a prior conditioned on a picture, the samples are of the first validation images, each below what it was given.
    """
    shown = min(4, len(held.clean))
    clean = held.clean[:shown].to(device)
    labels = None if held.labels is None else held.labels[:shown].to(device)
    cond = None
    if condition is not None:
        noise = SeededNoise(image_seeds(held.seed, [f"condition/{i}" for i in range(shown)]))
        cond = condition.to(device)(clean, noise)
    if cond is None:
        columns = next(n for n in range(min(count, 16), 0, -1) if count % n == 0 and n * n <= 2 * count)
        above = grid(samples(prior, count, held.seed, device), columns)
    else:
        given = cond[:, : prior.channels].clamp(-1, 1).cpu()
        above = grid(torch.cat((given, samples(prior, shown, held.seed, device, cond))), shown)
    parts = [above, grid(denoised(prior, clean, labels, cond, held.seed), 1)]
    width = max(part.shape[2] for part in parts)
    parts = [functional.pad(part, (0, width - part.shape[2], 0, 0), value=1.0) for part in parts]
    return picture_bytes(torch.cat(parts, 1))
