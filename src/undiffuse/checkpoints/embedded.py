"""The network priors that come with the package."""

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

from undiffuse.checkpoints.native import load
from undiffuse.priors import Prior
from undiffuse.registry import PRIORS


def photo_file() -> AbstractContextManager[Path]:
    """Its weights, as a file while the context lasts."""
    return as_file(files("undiffuse.assets") / "photo.safetensors")


@PRIORS.register(
    "photo",
    summary="small U-Net trained on photographs: any size; docs/photo.md is its model card",
    example="--prior photo",
    file=photo_file,
)
def photo() -> Prior:
    """The photograph prior of configs/train/photos64.yaml; docs/photo.md says on what, how long, and how good."""
    with photo_file() as path:
        return load(path).prior


@PRIORS.register(
    "photo-fast",
    summary="photo with presets of four calls: a fifth of its time for reductions and blurs",
    example="--prior photo-fast",
    file=photo_file,
)
def photo_fast() -> Prior:
    """The weights of photo; the presets of this name restore in four calls (benchmarks/presets_fast.py)."""
    return photo()
