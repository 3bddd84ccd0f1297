"""The network priors that come with the package. Their model cards: docs/photo.md."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path

from undiffuse.checkpoints.native import load
from undiffuse.priors import Prior
from undiffuse.registry import PRIORS


def weights(name: str) -> AbstractContextManager[Path]:
    """Those of an embedded prior, as a file while the context lasts."""
    return as_file(files("undiffuse.assets") / f"{name}.safetensors")


def _embed(name: str, summary: str) -> Callable[[], Prior]:
    def embedded() -> Prior:
        with weights(name) as path:
            return load(path).prior

    PRIORS.register(name, summary=summary, example=f"--prior {name}", file=partial(weights, name))(embedded)
    return embedded


photo = _embed("photo", "small U-Net trained on photographs: any size; docs/photo.md is its model card")
_embed("photo-fast", "photo, practised in restoring with four calls: a fifth of its time")
_embed("photo-small", "a third of photo, practised in restoring with four calls")
