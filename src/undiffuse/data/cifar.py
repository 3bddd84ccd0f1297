"""CIFAR-10 and CIFAR-100 as published: pickles, read without running them."""

import os
import pickle
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from undiffuse.data.dataset import Dataset
from undiffuse.data.table import Table, checked_labels
from undiffuse.registry import DATASETS

_MOST = 2**28  # bytes of one file; the largest published one has 155 MB
_PIXELS = 3 * 32 * 32
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))


@DATASETS.register("cifar", summary="CIFAR-10 or CIFAR-100, python version", example="cifar:split=test")
def cifar(
    path: str | os.PathLike[str],
    /,
    *,
    split: Annotated[Literal["train", "test"], Field(description="50000 or 10000 images")] = "train",
    labels: Annotated[Literal["fine", "coarse"], Field(description="of CIFAR-100: 100 or 20")] = "fine",
) -> Dataset:
    """The unpacked cifar-10-python.tar.gz or cifar-100-python.tar.gz (Krizhevsky 2009); 32x32 RGB, in memory."""
    root, ten = _root(Path(path))
    if ten and labels == "coarse":
        raise ValueError(f"{root}: CIFAR-10 has no coarse labels; expected labels=fine; drop the option")
    files = (_TRAIN if split == "train" else ("test_batch",)) if ten else (split,)
    key = b"labels" if ten else f"{labels}_labels".encode()
    batches = [_batch(root / name, key) for name in files]
    images = np.concatenate([images for images, _ in batches])
    known = np.concatenate([labels for _, labels in batches])
    classes = _classes(root, b"label_names" if ten else f"{labels}_label_names".encode(), ten)
    if known.max() >= len(classes):
        raise ValueError(
            f"{root}: label {known.max()} of {len(classes)} classes; expected less; download it again"
        )
    whole = 50_000 if split == "train" else 10_000
    notes = () if len(images) == whole else (f"{len(images)} images where the published set has {whole}",)
    return Table(f"{root.name}-{split}", images, known, True, None, classes, notes)


def _root(path: Path) -> tuple[Path, bool]:
    for at in (path, path / "cifar-10-batches-py", path / "cifar-100-python"):
        if (at / "batches.meta").is_file():
            return at, True
        if (at / "meta").is_file():
            return at, False
    raise ValueError(
        f"{path}: no batches.meta nor meta; expected CIFAR's python version, unpacked; name its folder"
    )


def _batch(path: Path, key: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    held = load(path)
    data, labels = held.get(b"data"), held.get(key)
    if (
        not isinstance(data, _Array)
        or not isinstance(labels, list)
        or not all(type(n) is int for n in labels)
    ):
        raise ValueError(f"{path}: no {key.decode()} beside data; expected a CIFAR batch; download it again")
    values = data.values(str(path))
    if not labels:
        raise ValueError(f"{path}: an empty batch; expected images; download it again")
    try:
        numbers = np.asarray(labels, np.int64)
    except OverflowError as error:
        raise ValueError(f"{path}: labels beyond 64 bits; expected classes; download it again") from error
    return values, checked_labels(numbers, len(values), str(path))


def _classes(root: Path, key: bytes, ten: bool) -> tuple[str, ...]:
    path = root / ("batches.meta" if ten else "meta")
    names = load(path).get(key)
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise ValueError(f"{path}: no {key.decode()}; expected names of classes; download it again")
    return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in names)


class _Array:
    """What a pickled array becomes: its state, looked at only after the pickle is done."""

    def __init__(self, *made: Any):
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def values(self, path: str) -> NDArray[np.uint8]:
        """(N, 3, 32, 32); ValueError unless it is that, of bytes."""
        match self.state:
            case (
                _,
                (int(count), int(width)),
                _Type(code="u1" | "uint8"),
                bool() | int() as fortran,
                bytes(data),
            ):
                if width == _PIXELS and len(data) == count * width and count > 0:
                    rows = np.frombuffer(data, np.uint8).reshape(count, width, order="F" if fortran else "C")
                    return rows.reshape(count, 3, 32, 32)
        raise ValueError(
            f"{path}: its data are no array of N x {_PIXELS} bytes; expected that; download it again"
        )


class _Type:
    """What a pickled dtype becomes."""

    def __init__(self, code: Any = None, *rest: Any):
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        pass


def _encode(text: Any, encoding: Any) -> bytes:
    """`_codecs.encode`, by which Python 3 writes bytes in old protocols."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("an encoding that arrays do not need")
    return text.encode("latin1")


def load(path: Path) -> dict[Any, Any]:
    """A pickled dict of builtins and arrays; any other name in it is refused, and none is ever called.

    The names that arrays need stand for the inert classes above: NumPy's own would trust what they are given.
    The interpreter is the one in Python, without byte arrays, as the one in C and these make room for whatever
    sizes a file claims.
    """
    allowed = {
        ("numpy", "dtype"): _Type,
        ("numpy", "ndarray"): _Array,
        ("_codecs", "encode"): lambda *given: _encode(*given),
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed[module, "_reconstruct"] = lambda *made: _Array()

    class Reader(pickle._Unpickler):
        dispatch = {op: read for op, read in pickle._Unpickler.dispatch.items() if op != pickle.BYTEARRAY8[0]}

        def find_class(self, module: str, name: str, /) -> Any:
            if (module, name) not in allowed:
                raise pickle.UnpicklingError(f"asks for {module}.{name}, which no CIFAR file needs")
            return allowed[module, name]

    try:
        if path.stat().st_size > _MOST:
            raise ValueError(f"longer than {_MOST} bytes")
        held = Reader(BytesIO(path.read_bytes()), encoding="bytes").load()
        if not isinstance(held, dict):
            raise ValueError("holds no dict")
    except Exception as error:  # a hostile file fails in any way it likes
        what = " ".join(f"{type(error).__name__}: {error}".splitlines())
        raise ValueError(
            f"{path}: not read ({what}); expected CIFAR's python version; download it again"
        ) from error
    return held
