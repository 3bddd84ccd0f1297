"""Classifiers of noisy images in our own format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pydantic
from torch import nn

from undiffuse.checkpoints.described import WIDEST, Described, check_size, read, write
from undiffuse.checkpoints.native import Beta, Count, Schedule, discrete, file_of
from undiffuse.priors import DiscreteSchedule, NoisyClassifier

KIND = "undiffuse classifier 1"


class NoisyClassifierConfig(Described):
    """What turns weights into a classifier."""

    schedule: Schedule
    timesteps: Annotated[int, pydantic.Field(ge=2, le=WIDEST)] = 1000
    beta_start: Beta | None = None
    beta_end: Beta | None = None
    time_scale: Annotated[float, pydantic.Field(gt=0)] = 1.0  # the network is told time_scale * timestep
    channels: Count
    size: tuple[Count, Count]  # height, width of the images it was trained on
    num_classes: Count
    classes: tuple[str, ...] | None = None

    def follows(self) -> dict[str, Any]:
        """Channels and classes of the network."""
        return {
            "in_channels": self.channels,
            "num_classes": self.num_classes,
            "pool": self.network.get("pool", "attention"),
        }

    def discrete(self) -> DiscreteSchedule:
        """Its levels."""
        return discrete(self.schedule, self.timesteps, self.beta_start, self.beta_end)

    def build(self) -> NoisyClassifier:
        """The classifier, its network freshly initialised."""
        return self.around(self.build_network())

    def around(self, net: nn.Module) -> NoisyClassifier:
        """The classifier around a network of this configuration."""
        return NoisyClassifier(net, self.discrete(), self.time_scale)


def save_classifier(
    path: Path, classifier: NoisyClassifier, config: NoisyClassifierConfig, facts: Mapping[str, Any]
) -> None:
    """Weights and header in one file, which replaces `path` whole or not at all."""
    write(path, KIND, classifier.net, config, facts)


def load_classifier(path: str | Path) -> tuple[NoisyClassifier, NoisyClassifierConfig, Mapping[str, Any]]:
    """The classifier of a file, or of a run's folder. ValueError, in one line, for a file that holds none."""
    path = file_of(path)
    net, config, facts = read(path, KIND, NoisyClassifierConfig, "classifier")
    try:
        check_size(net, config.size)
    except ValueError as error:
        raise ValueError(f"'{path}' is no classifier of undiffuse: {error}") from None
    return config.around(net), config, facts
