"""The tensors of a file from outside: mapped into memory, not read, and nothing in the file is executed.

A file is believed only as far as its bytes bear it out: archives hold their entries as they are, tensors are no
larger than the file, and what would run code when unpickled is refused.
"""

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from undiffuse.checkpoints.unwrapping import unwrapped

MOST = 10_000  # tensors; the largest published U-Nets have a thousand
PICKLE = (
    2**23
)  # bytes of the pickle in an archive, which is read tensor by tensor: a megabyte holds ten thousand
COUNTERS = ".num_batches_tracked"  # of batch normalisation: integers that no network computes with
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Weights:
    """A network's tensors as a file names them."""

    path: Path
    tensors: Mapping[str, Tensor]  # most are views of the file
    meta: Mapping[str, Any] = field(default_factory=dict)  # of a safetensors file; what else a format needs
    wrapped: tuple[str, ...] = ()  # what was taken out of what, in words

    @property
    def shapes(self) -> Shapes:
        """Of all tensors."""
        return {name: tuple(value.shape) for name, value in self.tensors.items()}

    @property
    def dtypes(self) -> tuple[str, ...]:
        """All that occur: float32, ..."""
        found = {str(value.dtype).removeprefix("torch.") for value in self.tensors.values()}
        return tuple(sorted(found))


def open_weights(path: Path, *, raw: bool = False) -> Weights:
    """The tensors of a safetensors file or of a file of torch.save, out of whatever they are wrapped in.

    raw: of a file with both, the weights as trained, instead of their average. ValueError, in one line, for a file
    that holds no tensors, that holds more than they (code, compressed entries) or whose tensors are not its own.
    """
    head = _head(path)
    if head[8:] == b"{":
        tensors, meta, wrapped = *_safetensors(path), ()
    else:
        tensors, wrapped = unwrapped(path, _unpickled(path, archive=head[:4] == b"PK\x03\x04"), raw)
        meta = {}
    tensors = {name: value for name, value in tensors.items() if not name.endswith(COUNTERS)}
    return Weights(path, checked(path, tensors), meta, wrapped)


def open_header(path: Path) -> Mapping[str, str]:
    """The notes in the header of a safetensors file; empty for a file of another kind, or one without notes."""
    if _head(path)[8:] != b"{":
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"'{path}' cannot be read as safetensors: {error}") from None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read ({error.strerror})") from None
    if not head:
        raise ValueError(
            f"'{path}' is empty; expected weights, as torch.save or safetensors write: get it again"
        )
    return head


def checked(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same. ValueError unless they are floats, as large as their memory, and together no larger than the file."""
    if not 0 < len(tensors) <= MOST:
        raise ValueError(f"'{path}' holds {len(tensors)} tensors; expected 1 to {MOST}")
    total = 0
    for name, value in tensors.items():
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not plain or value.dtype not in FLOATS:
            kind = value.dtype if plain else f"{value.layout} on {value.device}"
            raise ValueError(f"'{path}': {shown(name)} is of type {kind}; expected plain tensors of floats")
        size = value.numel() * value.element_size()
        if size > value.untyped_storage().nbytes():
            raise ValueError(
                f"'{path}': {shown(name)}, {tuple(value.shape)}, repeats a smaller memory; expected tensors of "
                "their own"
            )
        total += size
    if total > path.stat().st_size:
        raise ValueError(f"'{path}': its tensors would be {total} bytes, more than the file has")
    return {name: value.detach() for name, value in tensors.items()}


def shown(name: str) -> str:
    """The name of a tensor for a message: not too long, in one line, with control characters as escapes."""
    return repr(name[:100])[1:-1]


def shape_of(shapes: Shapes, name: str, axes: int) -> tuple[int, ...]:
    """The shape of one tensor. ValueError if it is missing, or has another number of axes."""
    shape = shapes.get(name)
    if shape is None or len(shape) != axes or 0 in shape:
        raise ValueError(f"{name} is {'missing' if shape is None else shape}; expected {axes} axes")
    return shape


def _safetensors(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) > MOST:
                raise ValueError(f"'{path}' holds {len(names)} tensors; expected at most {MOST}")
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"'{path}' cannot be read as safetensors: {error}") from None


def _unpickled(path: Path, archive: bool) -> Any:
    """What torch.save wrote. An archive's tensors are mapped; older files, a pickle after another, are read."""
    if archive:
        _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # whatever a broken pickle makes an unpickler raise
        raise ValueError(f"'{path}' cannot be read: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """torch's own words are long, and advise to trust the file."""
    text = " ".join(str(error).split())
    if named := re.search(r"GLOBAL (\S{1,100})", text):
        return (
            f"beside tensors it holds {named[1]}, which is code, and is refused; where it can be trusted, save the "
            "network's state_dict() alone"
        )
    said = text.rpartition("WeightsUnpickler error:")[2].partition("Check the documentation")[0].strip()
    return f"no file of torch.save or safetensors with tensors alone ({type(error).__name__}: {said[:150]})"


def _check_archive(path: Path) -> None:
    """torch writes entries as they are: a compressed one, or one larger than the file, is a trap."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ValueError(f"'{path}' is a broken archive ({error}); get it again") from None
    pickles = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    total = sum(entry.file_size for entry in entries)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or total > path.stat().st_size:
        raise ValueError(
            f"'{path}' is a compressed archive; torch.save writes none: unpack it if it is trusted"
        )
    if pickles > PICKLE:
        raise ValueError(f"'{path}': a table of {pickles} bytes for its tensors; expected at most {PICKLE}")
