"""The idx files of the MNIST family."""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from undiffuse.data.dataset import Dataset
from undiffuse.data.table import Table, checked_labels, numbered
from undiffuse.registry import DATASETS

_MOST = 2**31  # bytes of one file, unpacked
_PREFIX = {"train": "train", "test": "t10k"}


@DATASETS.register(
    "idx", summary="MNIST, Fashion-MNIST, KMNIST, EMNIST", example="idx:split=test,names=cat+dog"
)
def idx(
    path: str | os.PathLike[str],
    /,
    *,
    split: Annotated[Literal["train", "test"], Field(description="of a folder")] = "train",
    names: Annotated[list[str] | None, Field(description="of the classes, from 0 on")] = None,
    transposed: Annotated[bool, Field(description="rows are columns, as in EMNIST")] = False,
) -> Dataset:
    """A folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and t10k-..., or one file of images.

    Each raw or .gz; the labels lie beside the images, or there are none. One channel.
    """
    images = _find(Path(path), f"{_PREFIX[split]}-images") if os.path.isdir(path) else Path(path)
    if images is None:
        what = f"{_PREFIX[split]}-images-idx3-ubyte or that with .gz"
        raise ValueError(f"{path}: no images of the {split} split; expected {what}; download them there")
    values = read(images, dims=3)
    values = values.swapaxes(1, 2) if transposed else values
    beside = images.name.split("-idx")[0].split(".idx")[0]
    where = _find(images.parent, beside.replace("images", "labels")) if "images" in beside else None
    if where is None:
        return Table(images.name, values[..., None], None, False, notes=("no labels beside the images",))
    labels = checked_labels(read(where, dims=1), len(values), str(where))
    notes = (f"labels from {where.name}",)
    classes = numbered(labels) if names is None else tuple(names)
    if len(classes) <= int(labels.max()) or len(set(classes)) < len(classes):
        raise ValueError(
            f"{where}: labels up to {labels.max()} with the names {'+'.join(classes)}; give each class a name of its "
            "own"
        )
    return Table(images.name, values[..., None], labels, False, None, classes, notes)


def _find(folder: Path, prefix: str) -> Path | None:
    kinds = [f"{dash}idx{n}-ubyte{gz}" for dash in "-." for n in (3, 1) for gz in ("", ".gz")]
    return next((folder / (prefix + kind) for kind in kinds if (folder / (prefix + kind)).is_file()), None)


def read(path: Path, *, dims: int) -> NDArray[Any]:
    """The uint8 array of one file; ValueError unless its header fits its length and `dims`."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
            return _array(file, dims)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{path}: {error}; expected an idx file of bytes; download it again") from error


def _array(file: Any, dims: int) -> NDArray[Any]:
    head = file.read(4 + 4 * dims)
    if len(head) < 4 + 4 * dims or head[:4] != bytes((0, 0, 8, dims)):
        raise ValueError(f"begins with {head[:4]!r}, not {bytes((0, 0, 8, dims))!r} and {dims} sizes")
    shape = struct.unpack(f">{dims}I", head[4:])
    claimed = math.prod(shape)
    if not 0 < claimed <= _MOST:
        raise ValueError(f"claims {' x '.join(map(str, shape))} bytes, where 1 to {_MOST} are allowed")
    data = file.read(claimed + 1)
    if len(data) != claimed:
        more = "more" if len(data) > claimed else str(len(data))
        raise ValueError(f"claims {claimed} bytes of data and holds {more}")
    return np.frombuffer(data, np.uint8).reshape(shape)
