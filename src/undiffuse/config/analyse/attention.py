"""What `undiffuse analyse attention` is told."""

from typing import Annotated, ClassVar

import pydantic

from undiffuse.config.analyse.common import AnalyseConfig

Pixel = Annotated[str, pydantic.Field(pattern=r"^[0-9]{1,5}:[0-9]{1,5}$")]  # row and column, from 0


class AttentionConfig(AnalyseConfig):
    """Whose attention, of which pixels, at how many levels."""

    POSITIONAL: ClassVar[tuple[str, ...]] = ("run",)

    run: str  # a run's folder, a file of weights, or a name
    n: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 4  # pictures; the first one is shown
    levels: Annotated[int, pydantic.Field(ge=2, le=20)] = 6  # that are shown, evenly in log sigma
    query: tuple[Pixel, ...] = ()  # pixels whose maps are shown, ROW:COLUMN; none: the middle
    layers: Annotated[int, pydantic.Field(ge=1, le=20)] = 6  # that are shown, evenly over the network
    layer: str | None = None  # whose heads are shown one by one; None: the last of the finest

    def pixels(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """(row, column) of the queries, for a picture of this size."""
        if not self.query:
            return ((size[0] // 2, size[1] // 2),)
        return tuple(
            (int(row), int(column)) for row, _, column in (text.partition(":") for text in self.query)
        )
