"""LSUN as published: an lmdb database of encoded images."""

import hashlib
import os
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from undiffuse.data.dataset import Dataset, Item, Unusable
from undiffuse.data.encoded import from_bytes
from undiffuse.registry import DATASETS


@dataclass(frozen=True)
class Database:
    """Images in a database, by their keys."""

    source: str
    env: Any  # lmdb.Environment
    keys: list[bytes]
    channels: int
    notes: tuple[str, ...]
    classes: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, i: int, /) -> Item:
        return Item(from_bytes(self._stored(i), self.channels, f"{self.source}#{self.name(i)}"))

    def name(self, i: int, /) -> str:
        return self.keys[i].decode("utf-8", "backslashreplace")

    def digest(self, i: int, /) -> bytes:
        return hashlib.sha256(self._stored(i)).digest()

    def _stored(self, i: int) -> bytes:
        with self.env.begin() as transaction:
            data = transaction.get(self.keys[i])
        if data is None:
            raise Unusable(
                f"{self.source}: {self.name(i)} is gone; expected it to stay; stop what writes there"
            )
        return data


@DATASETS.register("lsun", summary="LSUN, one category (lmdb)", example="lsun")
def lsun(
    path: str | os.PathLike[str],
    /,
    *,
    channels: Annotated[Literal[1, 3], Field(description="others are converted")] = 3,
) -> Dataset:
    """A folder such as bedroom_train_lmdb (Yu et al. 2015), in the order of its keys. Needs the package lmdb.

    Its C library trusts the database's own pages: use it on files whose origin you know.
    """
    try:
        import lmdb  # type: ignore[import-not-found]
    except ImportError as error:
        raise ValueError(
            f"{path}: needs the package lmdb; expected it installed; run `pip install lmdb`"
        ) from error
    if not os.path.isfile(os.path.join(path, "data.mdb")):
        raise ValueError(
            f"{path}: no data.mdb in it; expected an unpacked LSUN folder, such as bedroom_train_lmdb"
        )
    try:
        env = lmdb.open(
            os.fspath(path), readonly=True, lock=False, readahead=False, meminit=False, create=False
        )
        with env.begin() as transaction:
            keys = list(transaction.cursor().iternext(keys=True, values=False))
    except lmdb.Error as error:
        raise ValueError(
            f"{path}: cannot be opened ({error}); expected an lmdb database; unpack it again"
        ) from error
    if not keys:
        raise ValueError(f"{path}: an empty database; expected images; unpack it again")
    return Database(str(path), env, keys, channels, (f"{len(keys)} images in the database",))
