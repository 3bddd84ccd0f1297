"""Priors that are small enough to be made, saved and run in a test."""

from pathlib import Path
from typing import Any

import torch

from tests.networks.weights import seeded
from undiffuse.checkpoints import PriorConfig, save
from undiffuse.priors import Prior

PHOTO = PriorConfig(
    network={"name": "photo", "widths": [8, 8], "blocks": 1, "groups": 4, "embedding": 8},
    prediction="edm",
    channels=3,
    size=(8, 8),
)
CLASSES = PriorConfig(
    network={
        "name": "ddpm", "width": 8, "multipliers": [1, 2], "blocks": 1, "attention": [], "groups": 4,
        "in_channels": 1, "out_channels": 1, "num_classes": 3, "null_class": True,
    },
    prediction="v",
    schedule="linear",
    channels=1,
    size=(8, 8),
    num_classes=3,
    null_class=True,
    classes=("ankle boot", "bag", "coat"),
)  # fmt: skip


def changed(config: PriorConfig, network: dict[str, Any] | None = None, **values: Any) -> PriorConfig:
    """The same with other values, unchecked."""
    return config.model_copy(update={"network": {**config.network, **(network or {})}, **values})


def prior_of(config: PriorConfig, seed: int = 0) -> Prior:
    """With weights that anyone can draw again, all of them different from zero."""
    prior = config.build()
    with torch.no_grad():
        seeded(prior.net, seed)
    return prior.eval()


def stored(path: Path, config: PriorConfig, **facts: Any) -> Path:
    """A file with such a prior."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save(path, prior_of(config), config, {"licence": "made up", "steps": 7, **facts})
    return path
