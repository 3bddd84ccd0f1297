"""What `undiffuse analyse trajectories` and `determinism` are told."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pydantic

from undiffuse.config.analyse.common import AnalyseConfig

Way = Literal["pca", "tsne", "umap"]
Dims = Literal[2, 3]


class TrajectoriesConfig(AnalyseConfig):
    """Whose trajectories, and in how few dimensions they are drawn."""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("priors",)

    priors: tuple[str, ...] = ()  # the teacher, and those that are compared with it
    stored: Path | None = None  # trajectories of an earlier run, which come before those of `priors`
    embed: tuple[Way, ...] = ("pca",)
    of: Literal["estimates", "states"] = "estimates"  # what is embedded
    dims: Annotated[tuple[Dims, ...], pydantic.Field(min_length=1)] = (2, 3)
    frame: Path | None = None  # of the PCA, from an earlier run; None: fitted on the first prior
    store: bool = True  # keep the trajectories beside the report

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

    POSITIONAL: ClassVar[tuple[str, ...]] = ("run",)

    run: str  # a name, a file of weights or the folder of a run
    n: Annotated[int, pydantic.Field(ge=2, le=64)] = 8  # all their states are held
    steps: Annotated[int, pydantic.Field(ge=2, le=10_000)] = 20
