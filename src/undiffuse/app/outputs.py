"""Output folders and files, whatever a command writes: checked before the work, written whole or not at all."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from torch import Tensor

from undiffuse.core.images import replace_file, to_bytes

BLOCK = 2**16  # bytes that are searched at once for the end of a line


def default_folder(prior: str, name: str) -> Path:
    """RUN/NAME of a prior that is a run's folder, else NAME/PRIOR.

    What stands between a prior's name and its options, and in them, may be what no folder of Windows is called.
    """
    source = Path(prior)
    if source.is_dir():
        return source / name
    return Path(name) / (source.stem if source.is_file() else re.sub(r"[^\w.,=-]+", "_", prior))


def check_writable(out: Path) -> None:
    """ValueError if `out` is no folder to write to. Makes nothing: the folder appears with the first result."""
    place = out
    while not place.exists() and place != place.parent:
        place = place.parent
    if out.is_symlink() and not out.exists():
        trouble = "it is a link to nowhere"
    elif not place.is_dir():
        trouble = f"'{place}' is not a folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        trouble = f"no right to write to '{place}'"
    else:
        return
    raise ValueError(f"cannot write to output folder '{out}': {trouble}; choose another with --out")


def make_folder(out: Path) -> None:
    """The output folder, with those above it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot make output folder '{out}': {error.strerror}; choose another with --out"
        ) from None


def append_lines(path: Path, lines: bytes) -> int:
    """Add lines to a file; when this returns they are on the disk. A last line that a kill cut off goes.

    Returns the place where they begin. ValueError where they cannot be written.
    """
    try:
        with path.open("r+b" if path.exists() else "w+b") as file:
            at = _whole(file)
            file.seek(at)
            file.truncate()
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ValueError(f"'{path}' cannot be written ({error.strerror}); free some space") from None
    return at


def _whole(file: BinaryIO) -> int:
    """Bytes of the lines that have their end."""
    end = file.seek(0, os.SEEK_END)
    while end:
        begin = max(end - BLOCK, 0)
        file.seek(begin)
        last = file.read(end - begin).rfind(b"\n")
        if last >= 0:
            return begin + last + 1
        end = begin
    return 0


@contextmanager
def alone(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """One process at a time, where the system has locks: two runs in one folder both keep their rows.

    Without `wait` a ValueError says that another one is at work there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ValueError(
                f"another run is writing to '{folder}'; wait for it, or choose another folder with --out"
            ) from None
        yield
    finally:
        os.close(handle)


def save_bytes(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all."""
    replace_file(path, data)
    return path


def as_image(pixels: Tensor) -> Image.Image:
    """(C, H, W) in [-1, 1] as an RGB picture; of other channel counts the first is shown in grey."""
    if pixels.shape[0] != 3:
        pixels = pixels[:1].expand(3, -1, -1)
    return Image.fromarray(to_bytes(pixels))


def picture_bytes(pixels: Tensor) -> bytes:
    """(C, H, W) in [-1, 1] as a PNG."""
    data = io.BytesIO()
    as_image(pixels).save(data, "PNG")
    return data.getvalue()
