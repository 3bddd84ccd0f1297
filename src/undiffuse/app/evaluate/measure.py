"""The metrics that were asked for, of the features of both sets."""

from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from undiffuse.app.events import Progress
from undiffuse.metrics.features import (
    Answer,
    Estimate,
    InSteps,
    frechet_to,
    inception_score,
    kid_steps,
    moments,
    pairs,
    prdc_steps,
)

SPLITS = 10  # of the Inception score, as published
PARTS = 1000  # of a metric, to tell how far it is
Moments = tuple[Tensor, Tensor]
LABELS = {
    "fid": "FID",
    "fd": "Frechet distance",
    "kid": "KID",
    "kd": "kernel distance",
    "is": "Inception score",
}


@dataclass(frozen=True)
class Compared:
    """Features of the pictures and of the reference, on one device; or the reference's statistics alone."""

    features: Tensor
    logits: Tensor | None
    reference: Tensor | None
    statistics: Moments | None  # instead of the reference's own, for the Frechet distance
    pairs: int  # pictures of each that are compared one by one
    neighbours: int

    def few(self, features: Tensor) -> Tensor:
        """At most `pairs` of them; they come in the order of checksums."""
        return features[: self.pairs]


def measured(
    metrics: tuple[str, ...], sets: Compared, inception: bool
) -> Generator[Progress, None, dict[str, Any]]:
    """Yields progress, returns values by name: of other features than Inception's, fd and kd for fid and kid."""
    values: dict[str, Any] = {}
    for metric in metrics:
        label = f"computing {metric}"
        yield Progress(0, PARTS, label)
        if metric == "fid":
            values["fid" if inception else "fd"] = _frechet(sets)
        elif metric == "kid" and sets.reference is not None:
            both = sets.few(sets.features), sets.few(sets.reference)
            found = yield from _watched(kid_steps(*both), pairs(*both), label)
            values["kid" if inception else "kd"] = asdict(found)
        elif metric == "prdc" and sets.reference is not None:
            both = sets.few(sets.features), sets.few(sets.reference)
            values |= yield from _watched(prdc_steps(*both, sets.neighbours), pairs(*both), label)
        elif metric == "is" and sets.logits is not None:
            mean, deviation = inception_score(sets.logits, min(SPLITS, len(sets.logits)))
            values["is"] = {"value": mean, "deviation": deviation}
        yield Progress(PARTS, PARTS, label)
    return values


def _watched(steps: InSteps[Answer], total: int, label: str) -> Generator[Progress, None, Answer]:
    done = 0
    while True:
        try:
            done += next(steps)
        except StopIteration as end:
            return end.value
        if done < total:
            yield Progress(PARTS * done // total, PARTS, label)


def _frechet(sets: Compared) -> float:
    if sets.statistics is not None:
        return frechet_to(sets.features, *(value.to(sets.features.device) for value in sets.statistics))
    assert sets.reference is not None
    few, many = sorted((sets.features, sets.reference), key=len)
    return frechet_to(few, *moments(many))


def lines(values: Mapping[str, Any]) -> list[str]:
    """One for each metric, for people."""
    shown: list[str] = []
    for name, value in values.items():
        label = f"{LABELS.get(name, name):18}"
        if name in ("kid", "kd"):
            estimate = Estimate(**value)
            shown.append(f"{label}{estimate.value:.6f}   95 %: {estimate.low:.6f} to {estimate.high:.6f}")
        elif name == "is":
            shown.append(f"{label}{value['value']:.3f} +- {value['deviation']:.3f} over parts")
        else:
            shown.append(f"{label}{value:.4f}")
    return shown


def principal(reference: Tensor, components: int) -> Tensor:
    """(D, components): the directions along which the reference varies most, for both sets."""
    _, vectors = torch.linalg.eigh(moments(reference)[1])
    return vectors[:, -components:].flip(1)
