"""Tensors in a file, written whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from undiffuse.core.replacing import replacing


def write_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> None:
    """A safetensors file that replaces `path` once it is complete on disk. ValueError where it cannot be written."""
    with replacing(path) as temporary:
        temporary.touch()  # with the rights of any new file; safetensors would make it private
        rights = temporary.stat().st_mode
        held = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        try:
            save_file(held, temporary, dict(meta))
        except SafetensorError as error:
            raise OSError(error) from error
        temporary.chmod(rights)
        with open(temporary, "r+b") as file:
            _put_in_order(file)
            file.flush()
            os.fsync(file.fileno())


def _put_in_order(file: BinaryIO) -> None:
    """The entries of the header by name: the library writes them as they fall, and equal files are to be equal."""
    size = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(size))
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) <= size:
        file.seek(8)
        file.write(text.ljust(size))
