"""Priors that come with the package, by name."""

from importlib.resources import as_file, files

from undiffuse.priors.stationary import StationaryGaussian
from undiffuse.registry import PRIORS


@PRIORS.register(
    "photo-gaussian",
    summary="Gaussian with the mean power spectrum of photographs: closed form, any size",
    example="--prior photo-gaussian",
)
def photo_gaussian() -> StationaryGaussian:
    """The mean spectrum of 311 photographs, about 1 / f^2.4 in grey (benchmarks/fit_photo_gaussian.py).

    It knows that pictures are smooth at large and correlated in colour, and nothing of edges or objects:
    what it restores is the best that a linear method can do with a stationary model.
    """
    with as_file(files("undiffuse.assets") / "photo_gaussian.safetensors") as path:
        return StationaryGaussian.load(path)
