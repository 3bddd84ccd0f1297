"""NumPy's .npz, mapped: an image is read from the disk when it is asked for."""

import math
import os
import struct
import zipfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from undiffuse.data.dataset import Dataset
from undiffuse.data.table import Layout, Range, Table, axes, checked_labels, numbered
from undiffuse.registry import DATASETS

Members = dict[str, zipfile.ZipInfo]


@DATASETS.register(
    "npz", summary="arrays in an uncompressed .npz", example="npz:images=x_train,labels=y_train"
)
def npz(
    path: str | os.PathLike[str],
    /,
    *,
    images: Annotated[
        str | None, Field(description="key of the images; none: the only one that fits")
    ] = None,
    labels: Annotated[str | None, Field(description="key of the labels")] = None,
    layout: Annotated[Layout, Field(description="auto: by the axis of at most 4")] = "auto",
    range: Annotated[Range | None, Field(description="of float images: must be said")] = None,
) -> Dataset:
    """Images (N, H, W), (N, H, W, C) or (N, C, H, W) of uint8, or of float with `range`.

    The file is mapped, so it must stay as it is while used. Compressed files and arrays of objects are refused.
    """
    members = _members(Path(path))
    key = _images_key(path, members) if images is None else images
    stored = mapped(path, members, key)
    shape, first, note = axes(stored.shape, layout, f"{path}[{key}]")
    if shape[1 if first else 3] > 64:
        raise ValueError(f"{path}[{key}]: {shape} has too many channels; expected at most 64; set layout")
    _check_type(f"{path}[{key}]", stored.dtype, range)
    named = None if labels is None else mapped(path, members, labels)
    known = None if named is None else checked_labels(named, shape[0], f"{path}[{labels}]")
    unused = sorted(set(members) - {key, labels})
    notes = (f"{key}: {note}", *((f"arrays not used: {', '.join(unused)}",) if unused else ()))
    classes = None if known is None else numbered(known)
    return Table(f"{Path(path).name}[{key}]", stored.reshape(shape), known, first, range, classes, notes)


def _check_type(source: str, dtype: np.dtype[Any], span: Range | None) -> None:
    if dtype.kind == "f" and span is None:
        raise ValueError(
            f"{source}: holds {dtype}; expected its range to be said; set range to 0..1, -1..1 or 0..255"
        )
    if dtype != np.uint8 and (dtype.kind != "f" or dtype.itemsize > 8):
        raise ValueError(f"{source}: holds {dtype}; expected uint8, or float of at most 64 bits; convert it")
    if dtype == np.uint8 and span is not None:
        raise ValueError(f"{source}: holds uint8; expected floats where range is given; drop range={span}")


def _members(path: Path) -> Members:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise ValueError(
            f"{path}: cannot be opened ({error}); expected an .npz of numpy.savez; check it"
        ) from error
    found = {info.filename.removesuffix(".npy"): info for info in infos if info.filename.endswith(".npy")}
    if not found:
        raise ValueError(f"{path}: holds no arrays; expected an .npz of numpy.savez; check what it is")
    return found


def _images_key(path: str | os.PathLike[str], members: Members) -> str:
    shapes = {key: mapped(path, members, key).shape for key in sorted(members)}
    fitting = [key for key, shape in shapes.items() if len(shape) in (3, 4)]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
    raise ValueError(
        f"{path}: {len(fitting)} arrays could be the images ({listed}); expected one; set images"
    )


def mapped(path: str | os.PathLike[str], members: Members, key: str) -> NDArray[Any]:
    """One array of the archive, by its place in the file. Nothing the file says of itself is believed."""
    if key not in members:
        raise ValueError(f"{path}: no array '{key}'; choose from {', '.join(sorted(members))}")
    info = members[key]
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
        raise ValueError(
            f"{path}[{key}]: is compressed; expected it plain, to map it; write it again with numpy.savez"
        )
    try:
        with open(path, "rb") as file:
            start, shape, fortran, dtype = _header(file, info)
            size = file.seek(0, 2)
    except Exception as error:  # numpy's header parser raises anything, tokenize's errors too
        what = " ".join(str(error).splitlines())
        raise ValueError(
            f"{path}[{key}]: {what}; expected an array of numpy.savez; write it again"
        ) from error
    held = info.header_offset + info.file_size
    if dtype.hasobject:
        raise ValueError(
            f"{path}[{key}]: holds Python objects, which can run code; expected numbers; convert it"
        )
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != info.file_size - start[1] or sum(start) + claimed > size or held > size:
        raise ValueError(
            f"{path}[{key}]: shape {shape} of {dtype} takes {claimed} bytes, {info.file_size - start[1]} are there; "
            "expected a whole file; write it again"
        )
    if not claimed:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", sum(start), shape, "F" if fortran else "C")


def _header(file: Any, info: zipfile.ZipInfo) -> tuple[tuple[int, int], tuple[int, ...], bool, np.dtype[Any]]:
    """Where the member starts and how long its .npy header is; shape, order and type."""
    file.seek(info.header_offset)
    local = file.read(30)  # 4.3.7 of the zip specification
    if local[:4] != b"PK\3\4" or len(local) < 30:
        raise ValueError("no zip entry where the directory says")
    name, extra = struct.unpack("<HH", local[26:30])
    start = file.seek(info.header_offset + 30 + name + extra)
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f".npy of version {version}")
    shape, fortran, dtype = readers[version](file)
    if any(n < 0 for n in shape):
        raise ValueError(f"a shape of {shape}")
    return (start, file.tell() - start), shape, fortran, dtype
