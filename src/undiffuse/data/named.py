"""Public sets by name, through the package `datasets`."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from undiffuse.data.dataset import Dataset, Item, Unusable
from undiffuse.data.encoded import from_bytes
from undiffuse.registry import DATASETS


@dataclass(frozen=True)
class Public:
    """Rows of a set whose images are still encoded: they are decoded here, where sizes are checked."""

    source: str
    rows: Any  # datasets.Dataset
    image: str
    label: str | None
    channels: int
    classes: tuple[str, ...] | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int, /) -> Item:
        row = self.rows[i]
        label = None if self.label is None else row[self.label]
        if label is not None and (not isinstance(label, int) or label < 0):
            raise Unusable(f"{self.name(i)}: the label {label!r}; expected a class; choose another split")
        return Item(from_bytes(self._stored(row, i), self.channels, self.name(i)), label)

    def name(self, i: int, /) -> str:
        return f"{self.source}#{i}"

    def digest(self, i: int, /) -> bytes:
        return hashlib.sha256(self._stored(self.rows[i], i)).digest()

    def _stored(self, row: Mapping[str, Any], i: int) -> bytes:
        cell = row[self.image]
        if isinstance(cell, Mapping) and isinstance(cell.get("bytes"), bytes):
            return cell["bytes"]
        if isinstance(cell, Mapping) and isinstance(cell.get("path"), str) and os.path.isfile(cell["path"]):
            with open(cell["path"], "rb") as file:
                return file.read()
        raise Unusable(f"{self.name(i)}: no image in '{self.image}'; expected one; name another column")


@DATASETS.register("public", summary="a public set by name (package datasets)", example="public:label=label")
def public(
    path: str,
    /,
    *,
    split: Annotated[str, Field(description="as the set calls it")] = "train",
    config: Annotated[str | None, Field(description="of a set that has several")] = None,
    revision: Annotated[str | None, Field(description="a commit: pins what is downloaded")] = None,
    image: Annotated[str, Field(description="column of the images")] = "image",
    label: Annotated[str | None, Field(description="column of the labels")] = None,
    channels: Annotated[Literal[1, 3], Field(description="others are converted")] = 3,
) -> Dataset:
    """`path` names a set on the hub, or its copy on this machine. Code that comes with a set is never run."""
    try:
        import datasets  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError(
            f"{path}: needs the package datasets; run `pip install datasets`, or use a folder"
        ) from error
    try:
        rows = datasets.load_dataset(path, config, split=split, revision=revision)
        columns = set(rows.column_names)
        missing = sorted({name for name in (image, label) if name is not None} - columns)
        if missing:
            raise ValueError(f"no column {', '.join(missing)}; choose from {', '.join(sorted(columns))}")
        names = getattr(rows.features[label], "names", None) if label is not None else None
        rows = rows.cast_column(image, datasets.Image(decode=False))
    except Exception as error:  # a library that reaches into the network fails in any way
        what = " ".join(f"{type(error).__name__}: {error}".splitlines())
        raise ValueError(f"{path}: {what}; expected a public set with these options; check them") from error
    notes = (f"{len(rows)} rows of {path}, split {split}, revision {revision or 'newest'}",)
    return Public(path, rows, image, label, channels, None if names is None else tuple(names), notes)
