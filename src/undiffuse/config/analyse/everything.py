"""What `undiffuse analyse all` is told."""

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from undiffuse.config.analyse.common import AnalyseConfig
from undiffuse.config.analyse.trajectories import Way
from undiffuse.config.said import PRIOR, Said, Words, WordsOrNone

Part = Literal["trajectories", "guidance", "sizes", "noise", "attention", "restore", "determinism"]


class AllConfig(AnalyseConfig):
    """A prior, its students, and which parts are left out."""

    run: Annotated[str, PRIOR]  # that others are compared with
    students: Annotated[tuple[str, ...], Said("Priors that are compared with it.", argument=True)] = ()
    skip: Annotated[tuple[Part, ...], WordsOrNone, Said("Parts to leave out, with commas, or none.")] = ()
    embed: Annotated[
        tuple[Way, ...], pydantic.Field(min_length=1), Words, Said("Of trajectories: pca,tsne,umap.")
    ] = ("pca",)
    scales: Annotated[tuple[float, ...], pydantic.Field(min_length=1), Words, Said("Of guidance.")] = (
        1.0, 3.0, 5.0, 7.0,
    )  # fmt: skip
    classifier: Annotated[
        Path | None, Said("That judges guided pictures; see `undiffuse analyse guidance`.")
    ] = None
    restored: Annotated[Path | None, Said("OUT/NAME of `undiffuse restore`, to be followed as well.")] = None
    data: Annotated[str | None, Said("Clean pictures, for noise and sizes. [what the run held out]")] = None
    source: Annotated[str | None, Said("Dataset, such as idx:split=test. [folder]")] = None
