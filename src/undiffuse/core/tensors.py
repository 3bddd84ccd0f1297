"""Tensors in a file, written whole or not at all."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], meta: Mapping[str, str]) -> None:
    """A safetensors file that replaces `path` once it is complete on disk. ValueError where it cannot be written."""
    temporary = path.parent / f".undiffuse-{secrets.token_hex(8)}.tmp"
    try:
        try:
            temporary.touch()  # with the rights of any new file; safetensors would make it private
            rights = temporary.stat().st_mode
            held = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
            save_file(held, temporary, dict(meta))
            temporary.chmod(rights)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:  # also an interrupt
            temporary.unlink(missing_ok=True)
            raise
    except (OSError, SafetensorError) as error:
        reason = f"'{path}' cannot be written ({error}); what was there before is intact"
        raise ValueError(f"{reason}: free some space, or choose another folder") from error
