"""What `undiffuse analyse trajectories` and `determinism` are told."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.config.analyse.common import AnalyseConfig
from undiffuse.config.said import PRIOR, Said, Words, WordsOrNone

Way = Literal["pca", "tsne", "umap"]
Dims = Annotated[int, pydantic.Field(ge=2, le=3)]


class TrajectoriesConfig(AnalyseConfig):
    """Whose trajectories, and in how few dimensions they are drawn."""

    priors: Annotated[
        tuple[str, ...],
        Said("The teacher and its students: runs' folders, files of weights, or names.", argument=True),
    ] = ()
    embed: Annotated[
        tuple[Way, ...], WordsOrNone, Said("Ways into few dimensions, with commas: pca, tsne, umap; or none.")
    ] = ("pca",)
    of: Annotated[
        Literal["estimates", "states"], Said("What is embedded: estimates of the picture, or states.")
    ] = "estimates"
    dims: Annotated[tuple[Dims, ...], pydantic.Field(min_length=1), Words, Said("2, 3 or 2,3.")] = (2, 3)
    frame: Annotated[
        Path | None,
        Said("Frame of the PCA, from an earlier report. [of the first prior]"),
    ] = None
    stored: Annotated[Path | None, Said("Trajectories of an earlier report, which come first.")] = None
    store: Annotated[bool, Said("Keep the trajectories.")] = True

    @pydantic.model_validator(mode="after")
    def _of_something(self) -> "TrajectoriesConfig":
        if not self.priors and self.stored is None:
            raise ValueError("no priors; give the folder of a run, a file or a name, or --stored FILE")
        for name in ("embed", "dims"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"--{name} {','.join(map(str, values))} says one of them twice")
        return self


class DeterminismConfig(AnalyseConfig):
    """Which prior draws the same pictures again."""

    run: Annotated[str, PRIOR]
    n: Annotated[int, pydantic.Field(ge=2, le=64), Said("Pictures.", names=("--n", "-n"))] = 8  # all are held
    steps: Annotated[int, pydantic.Field(ge=2, le=10_000), Said("Noise levels.")] = 20
