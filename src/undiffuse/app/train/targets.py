"""What is trained, as its run sees it: how to judge it, show it and write it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import nn

from undiffuse.app.train.pictures import Held, sheet
from undiffuse.checkpoints import NoisyClassifierConfig, PriorConfig, save, save_classifier
from undiffuse.priors import NoisyClassifier, Prior
from undiffuse.training import LowRes, validate, validate_classifier

BANDS = (0.02, 0.1, 0.3, 1.0, 3.0, 10.0, 80.0)  # of sigma: the edges of what validation tells apart


def edges(lowest: float, highest: float) -> list[float]:
    """Of the bands, within the levels that a model knows."""
    lowest, highest = max(lowest, BANDS[0]), min(highest, BANDS[-1])
    return [lowest, *(edge for edge in BANDS if lowest < edge < highest), highest]


class Target(Protocol):
    """A denoiser or a classifier."""

    @property
    def columns(self) -> tuple[str, ...]: ...  # of a row of `check`
    def check(self, model: nn.Module, /) -> Iterator[Mapping[str, Any]]: ...
    def picture(self, model: nn.Module, device: torch.device, /) -> bytes | None: ...  # a PNG
    def write(self, path: Path, model: nn.Module, facts: Mapping[str, Any], /) -> None: ...


@dataclass(frozen=True)
class DenoiserTarget:
    """A prior: its three losses by band of noise, samples, images denoised."""

    description: PriorConfig
    held: Held
    condition: LowRes | None
    pictures: int

    columns = ("low", "high", "eps", "x0", "v", "count")

    def check(self, model: nn.Module) -> Iterator[Mapping[str, Any]]:
        prior = cast(Prior, model)
        rows = validate(
            prior,
            self.held.batches(),
            edges=edges(*prior.sigma_range),
            seed=self.held.seed,
            condition=self.condition,
        )
        for row in rows:
            yield dict(zip(self.columns, row, strict=True))

    def picture(self, model: nn.Module, device: torch.device) -> bytes | None:
        if not self.pictures:
            return None
        return sheet(cast(Prior, model), self.held, self.condition, self.pictures, device)

    def write(self, path: Path, model: nn.Module, facts: Mapping[str, Any]) -> None:
        save(path, cast(Prior, model), self.description, facts)


@dataclass(frozen=True)
class ClassifierTarget:
    """A classifier of noisy images: cross-entropy and accuracy by band of noise."""

    description: NoisyClassifierConfig
    held: Held

    columns = ("low", "high", "cross_entropy", "accuracy", "count")

    def check(self, model: nn.Module) -> Iterator[Mapping[str, Any]]:
        classifier = cast(NoisyClassifier, model)
        levels = classifier.schedule.sigmas
        rows = validate_classifier(
            classifier,
            self.held.batches(),
            edges=edges(float(levels[0]), float(levels[-1])),
            seed=self.held.seed,
        )
        for row in rows:
            yield dict(zip(self.columns, row, strict=True))

    def picture(self, model: nn.Module, device: torch.device) -> bytes | None:
        return None

    def write(self, path: Path, model: nn.Module, facts: Mapping[str, Any]) -> None:
        save_classifier(path, cast(NoisyClassifier, model), self.description, facts)
