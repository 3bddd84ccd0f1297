"""Measurements that are made once: y as .npy, and an index that says of what."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undiffuse.app.bench.pictures import Picture
from undiffuse.app.outputs import make_folder
from undiffuse.core.images import replace_file
from undiffuse.core.noise import SeededNoise, image_seed
from undiffuse.operators import build
from undiffuse.operators.base import Operator
from undiffuse.restore import Problem, measure

FOLDER, INDEX, PICTURES = "measurements", "index.json", "pictures"
PROBES = 8  # numbers that tell one operator from another
AGREES = 1e-6  # of their size: float64 sums in another order differ by 1e-12, another operator by 1e-2
MEASUREMENT = -1  # the `draw` whose noise makes y; answers are drawn with 0, 1, ...


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement to be restored from: of which picture, with which degradation and noise ([0, 1] units)."""

    picture: Picture
    degrade: str
    noise: float
    seed: int

    @property
    def key(self) -> str:
        """Its name: 16 hexadecimal digits of what decides y."""
        text = f"{self.picture.sha256} {self.degrade} {self.noise!r} {self.seed}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Record:
    """What the index says of one measurement."""

    picture: str
    picture_sha256: str
    degrade: str
    noise: float
    seed: int
    operator: tuple[float, ...]  # `fingerprint`
    y_sha256: str  # of the file


class Measurements:
    """A folder of measurements. What is there is read and checked, never drawn again."""

    def __init__(self, out: Path):
        self.folder = out / FOLDER
        self._index = self._read_index()

    def problem(self, cell: Cell) -> Problem:
        """The cell's measurement, from its file: made first if there is none.

        ValueError if the file is not what was written, or if the degradation is not what it was.
        """
        A = build(cell.degrade, tuple(cell.picture.pixels.shape[1:]))
        seen = fingerprint(A)
        A = A.to(cell.picture.pixels.dtype)
        if cell.key not in self._index:
            self._make(cell, A, seen)
        record = self._index[cell.key]
        if not np.allclose(record.operator, seen, rtol=AGREES, atol=AGREES):
            raise ValueError(
                f"'{self._path(cell)}' was made with another '{cell.degrade}' than there is now (a kernel or mask "
                "file, or the package, has changed); put it back, or choose another --out"
            )
        return Problem(A, self._y(cell, record), 2 * cell.noise)

    def _make(self, cell: Cell, A: Operator, seen: tuple[float, ...]) -> None:
        noise = SeededNoise([image_seed(cell.seed, cell.picture.sha256, MEASUREMENT)])
        y = measure(A, cell.picture.pixels, 2 * cell.noise, noise)
        data = io.BytesIO()
        np.save(data, y.numpy(), allow_pickle=False)
        make_folder(self.folder)
        replace_file(self._path(cell), data.getvalue())
        self._index[cell.key] = Record(
            cell.picture.name, cell.picture.sha256, cell.degrade, cell.noise, cell.seed, seen,
            hashlib.sha256(data.getvalue()).hexdigest(),
        )  # fmt: skip
        tree = {key: asdict(record) for key, record in self._index.items()}
        replace_file(self.folder / INDEX, json.dumps(tree, indent=1).encode())

    def _y(self, cell: Cell, record: Record) -> Tensor:
        path = self._path(cell)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ValueError(f"'{path}' cannot be read: {error.strerror}; choose another --out") from None
        if hashlib.sha256(data).hexdigest() != record.y_sha256:
            raise ValueError(
                f"'{path}' is not what was written: its sha256 is not that of {INDEX}; what was measured on it "
                "cannot be compared, choose another --out"
            )
        return torch.from_numpy(np.load(io.BytesIO(data), allow_pickle=False))

    def _path(self, cell: Cell) -> Path:
        return self.folder / f"{cell.key}.npy"

    def _read_index(self) -> dict[str, Record]:
        path = self.folder / INDEX
        if not path.exists():
            return {}
        try:
            tree = json.loads(path.read_bytes())
            return {key: _record(values) for key, values in tree.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"'{path}' is no index of measurements ({error}); choose another --out"
            ) from None


def _record(values: Mapping[str, Any]) -> Record:
    return Record(**{**values, "operator": tuple(map(float, values["operator"]))})


def fingerprint(A: Operator) -> tuple[float, ...]:
    """Eight numbers that another operator would not give: a fixed random picture, seen through A, weighed at random.

    Compared within a tolerance, as a hash of its tables would differ with the last bit of a cosine.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *A.in_shape, generator=generator, dtype=torch.float64).clamp(-1, 1)
    y = A(x).flatten()
    weights = torch.randn(PROBES, y.numel(), generator=generator, dtype=torch.float64)
    return tuple((weights @ y / y.numel() ** 0.5).tolist())


def picture_path(out: Path, cell: Cell, method: str) -> Path:
    """Where the answer of a method on a shown measurement is kept."""
    name = hashlib.sha256(method.encode()).hexdigest()[:12]
    return out / PICTURES / f"{cell.key}_{name}.png"
