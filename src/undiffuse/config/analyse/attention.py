"""What `undiffuse analyse attention` is told."""

from typing import Annotated

import pydantic

from undiffuse.config.analyse.common import AnalyseConfig
from undiffuse.config.said import PRIOR, Said, Words

Pixel = Annotated[str, pydantic.Field(pattern=r"^[0-9]{1,5}:[0-9]{1,5}$")]  # row and column, from 0
Shown = Annotated[int, pydantic.Field(ge=1, le=20)]


class AttentionConfig(AnalyseConfig):
    """Whose attention, of which pixels, at how many levels."""

    run: Annotated[str, PRIOR]
    query: Annotated[
        tuple[Pixel, ...],
        Words,
        Said("Pixels whose maps are shown, ROW:COLUMN from 0: 14:14,3:20. [the middle]"),
    ] = ()
    levels: Annotated[int, pydantic.Field(ge=2, le=20), Said("Noise levels that are shown.")] = 6
    layers: Annotated[Shown, Said("Layers that are shown, evenly over the network.")] = 6
    layer: Annotated[
        str | None,
        Said("Layer whose heads are shown one by one. [the last of the finest]"),
    ] = None
    n: Annotated[
        int, pydantic.Field(ge=1, le=10_000), Said("Pictures; the first one is shown.", names=("--n", "-n"))
    ] = 4

    def pixels(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """(row, column) of the queries, for a picture of this size."""
        if not self.query:
            return ((size[0] // 2, size[1] // 2),)
        return tuple(
            (int(row), int(column)) for row, _, column in (text.partition(":") for text in self.query)
        )
