"""What is trained, as its run sees it: how to judge it, show it and write it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from undiffuse.app.train.pictures import sheet
from undiffuse.checkpoints import PriorConfig, save
from undiffuse.priors import Prior

BANDS = (0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 80.0)  # of sigma: the edges of what validation tells apart


class Target(Protocol):
    """A denoiser or a classifier."""

    @property
    def columns(self) -> tuple[str, ...]: ...  # of a row of `check`
    def check(self, model: nn.Module, device: torch.device, /) -> Iterator[Mapping[str, Any]]: ...
    def picture(self, model: nn.Module, device: torch.device, /) -> bytes | None: ...  # a PNG
    def write(self, path: Path, model: nn.Module, facts: Mapping[str, Any], /) -> None: ...


@dataclass(frozen=True)
class DenoiserTarget:
    """A prior: its three losses by band of noise on fixed images with fixed noise, samples, images denoised."""

    description: PriorConfig
    clean: Tensor  # (N, C, H, W): the validation images
    labels: Tensor | None
    pictures: int
    seed: int

    columns = ("low", "high", "eps", "x0", "v", "count")

    def check(self, model: nn.Module, device: torch.device) -> Iterator[Mapping[str, Any]]:
        yield from ()

    def picture(self, model: nn.Module, device: torch.device) -> bytes | None:
        if not self.pictures:
            return None
        return sheet(cast(Prior, model), (self.clean, self.labels), self.pictures, self.seed, device)

    def write(self, path: Path, model: nn.Module, facts: Mapping[str, Any]) -> None:
        save(path, cast(Prior, model), self.description, facts)
