"""A classifier of noisy pictures that guides a prior with classes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from undiffuse.app.pull import pulled
from undiffuse.checkpoints import NoisyClassifierConfig, load_classifier
from undiffuse.checkpoints.formats import is_ours, native_file
from undiffuse.core.state import Denoise
from undiffuse.priors import NoisyClassifier, Prior, classifier_guided


@dataclass(frozen=True, slots=True)
class Guide:
    """A classifier in evaluation mode, and how strongly it pulls."""

    classifier: NoisyClassifier
    config: NoisyClassifierConfig
    name: str  # as it was asked for
    sha256: str  # of its file
    scale: float
    told: tuple[str, ...] = ()  # of a file from outside: what it does not say itself, and who does

    def __str__(self) -> str:
        return f"classifier {self.name} (sha256 {self.sha256[:12]}) at scale {self.scale:g}"

    @property
    def mark(self) -> str:
        """What decides its answers: the file, what is known of it, and the scale."""
        return f"{self.sha256} {self.config.model_dump_json()} {self.scale!r}"

    def record(self) -> dict[str, Any]:
        """For JSON."""
        told = {"told": list(self.told)} if self.told else {}
        return {"name": self.name, "sha256": self.sha256, "scale": self.scale, **told}

    def towards(self, denoise: Denoise, labels: Tensor) -> Denoise:
        """`denoise` pulled towards classes (B,), the gradient taken at the current x."""
        return classifier_guided(denoise, self.classifier.log_prob(labels), scale=self.scale)

    def check_prior(self, prior: Prior | None, name: str, classes: Sequence[str] | None = None) -> None:
        """ValueError for a prior that it cannot guide: without classes, or of other ones, or of other channels.

        classes: their names, where the prior knows them.
        """
        own = self.config
        if prior is None or prior.num_classes is None:
            raise ValueError(
                f"--classifier {self.name}; the prior '{name}' has no classes, so that a label would mean nothing to "
                "it: choose a prior with classes, or leave it out"
            )
        if (prior.num_classes, prior.channels) != (own.num_classes, own.channels):
            raise ValueError(
                f"--classifier {self.name} knows {own.num_classes} classes of pictures of {own.channels} channels, and "
                f"the prior '{name}' {prior.num_classes} of {prior.channels}; take the classifier of the same set"
            )

        known = own.classes
        if known and classes and tuple(known) != tuple(classes):
            number = next(i for i, (a, b) in enumerate(zip(known, classes, strict=True)) if a != b)
            raise ValueError(
                f"--classifier {self.name} has class {number} for {known[number]}, and the prior '{name}' for "
                f"{classes[number]}; take the classifier of the same set"
            )

    def check_size(self, height: int, width: int) -> None:
        """ValueError unless it can see pictures of this size."""
        network = getattr(self.classifier.net, "config", None)
        multiple: int = getattr(network, "multiple", 1)
        if getattr(network, "pool", None) == "attention":
            if (height, width) != self.config.size:
                own = "x".join(map(str, self.config.size))
                raise ValueError(
                    f"--classifier {self.name} sees {own} alone, and the prior sees {height}x{width} here; take the "
                    "classifier of that size"
                )
        elif height % multiple or width % multiple:
            raise ValueError(
                f"--classifier {self.name} takes sides that {multiple} divides, and the prior sees {height}x{width} "
                "here; crop the picture"
            )


def open_guide(text: str, scale: float) -> Guide:
    """A classifier by its published name, once it is pulled, or from a file. ValueError, in one line, for others."""
    path = native_file(pulled(text) or text)
    classifier, config, facts = load_classifier(path)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    told = () if is_ours(path) else tuple(facts["told"])
    return Guide(classifier.eval(), config, text, digest, scale, told)
