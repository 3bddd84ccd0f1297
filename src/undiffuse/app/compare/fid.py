"""Frechet distance of each sampler's pictures to a reference, as `undiffuse evaluate` measures it."""

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pydantic
from torch import Tensor

from undiffuse.app import outputs
from undiffuse.app.evaluate import run
from undiffuse.app.events import Done, Event, Note, Progress
from undiffuse.config import explain
from undiffuse.config.compare import CompareConfig
from undiffuse.config.evaluate import EvaluateConfig
from undiffuse.core.images import to_bytes

FOLDER = "fid"
NAMES = ("fid", "fd")  # of Inception's features, and of others


def evaluation(config: CompareConfig, out: Path, number: int) -> EvaluateConfig:
    """Of the pictures of sampler `number`. ValueError for settings that do not go together."""
    assert config.fid is not None
    folder = out / FOLDER
    try:
        return EvaluateConfig(
            samples=folder / f"{number}.npz", reference=config.fid, metrics=("fid",), features=config.features,
            weights=config.weights, out=folder, device=config.device,
        )  # fmt: skip
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, "compare", EvaluateConfig)) from None


def fid(x: Tensor, config: CompareConfig, out: Path, number: int) -> Generator[Event, None, float]:
    """x: (n, C, H, W), rounded to 8 bits and kept as an .npz. Features of the reference are computed once."""
    asked = evaluation(config, out, number)
    outputs.make_folder(asked.samples.parent)
    np.savez(asked.samples, arr_0=np.stack([to_bytes(picture) for picture in x]))
    value = float("nan")
    for event in run(asked):
        if isinstance(event, Progress) or (isinstance(event, Note) and number == 0):
            yield event
        elif isinstance(event, Done):
            value = float(next(event.result.values[name] for name in NAMES if name in event.result.values))
    return value
