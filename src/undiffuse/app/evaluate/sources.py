"""The pictures that are compared, or statistics of them: a folder, a data set, an .npz of either."""

import hashlib
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undiffuse.app.evaluate.files import WIDEST
from undiffuse.config import from_term, parse_term
from undiffuse.core.images import to_bytes
from undiffuse.data.arrays import npz
from undiffuse.data.dataset import Dataset
from undiffuse.data.encoded import as_channels
from undiffuse.data.folder import Files, checked_folder, found
from undiffuse.metrics.features import gaussian
from undiffuse.registry import DATASETS

ARRAYS = "arr_0"  # as numpy.savez names it, and the evaluators of guided diffusion expect it


@dataclass(frozen=True)
class Source:
    """Pictures, statistics of pictures, or both."""

    path: Path
    pictures: Dataset | None
    statistics: tuple[Tensor, Tensor] | None = None  # mean and covariance of some network's features
    notes: tuple[str, ...] = ()


def open_source(path: Path, only: str | None = None, source: str | None = None) -> Source:
    """What lies at `path`. ValueError, in one line, for anything else.

    only: a pattern of names in a folder. source: how a data set is stored, as `train` is told: idx:split=test.
    """
    if source is not None:
        name, first, given = parse_term(source)
        entry = DATASETS[name]
        dataset: Dataset = entry(path, **from_term(entry, first, given))
        return Source(path, dataset, None, dataset.notes)
    if path.suffix.lower() == ".npz":
        if only is not None:
            raise ValueError(f"--only {only}: '{path}' is no folder; leave it out")
        return _open_npz(path)
    if path.is_file():
        raise ValueError(
            f"'{path}' is one file; expected a folder of pictures or an .npz; of a data set say how it is stored, as "
            "--reference-source idx"
        )
    root = checked_folder(path)
    names, notes = found(root)
    if only is not None:
        names = [name for name in names if fnmatch(name, only)]
    if not names:
        raise ValueError(f"'{path}' holds no picture of a name like {only}; look at the names")
    return Source(path, Files(root, names), None, tuple(note for note in notes if "left out" in note))


def picture(dataset: Dataset, index: int) -> Tensor:
    """(3, H, W) of uint8: what is compared has 8 bits a channel. ValueError for one that cannot be read."""
    image = dataset[index].image
    if image.is_floating_point():
        image = torch.from_numpy(to_bytes(image)).permute(2, 0, 1)
    return as_channels(image, 3, dataset.name(index))


def _open_npz(path: Path) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ValueError(f"'{path}' cannot be opened ({error}); expected an .npz of numpy.savez") from None
    statistics = _statistics(path) if {"mu", "sigma"} <= names else None
    try:
        pictures = npz(path, images=ARRAYS) if ARRAYS in names else None
    except ValueError as error:
        said = f"as in --samples-source npz:images={ARRAYS},range=0..1,layout=NHWC"
        raise ValueError(f"{error}, {said}" if "; set " in str(error) else str(error)) from None
    if pictures is None and statistics is None:
        told = ", ".join(sorted(names)[:8])
        raise ValueError(f"'{path}' holds {told}; expected pictures as {ARRAYS}, or mu and sigma")
    return Source(path, pictures, statistics)


def _statistics(path: Path) -> tuple[Tensor, Tensor]:
    """mu (D,) and sigma (D, D) of a Gaussian. Sizes are read, and refused, before the numbers are."""
    values: list[Tensor] = []
    for key, axes in (("mu", 1), ("sigma", 2)):
        try:
            with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
                array = _bounded(file, axes)
        except Exception as error:  # numpy's header parser raises anything
            what = " ".join(str(error).split())[:200]
            raise ValueError(
                f"'{path}': {key} cannot be read ({what}); expected floats of numpy.savez"
            ) from None
        values.append(torch.from_numpy(array.astype(np.float64)))
    try:
        gaussian(values[0], values[1])
    except ValueError as error:
        raise ValueError(f"'{path}' holds {error}") from None
    return values[0], values[1]


def _bounded(file: Any, axes: int) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = readers[version](file)
    if len(shape) != axes or not all(0 < n <= WIDEST for n in shape) or dtype.kind != "f":
        raise ValueError(f"{dtype} of shape {shape}, expected {axes} axes of at most {WIDEST}")
    size = int(np.prod(shape)) * dtype.itemsize
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"{len(data)} of {size} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def digest_of(digests: list[bytes]) -> str:
    """One SHA-256 of a set of pictures, whatever their order and names."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
