"""A file that is written whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path]:
    """A name beside `path` to write to: it takes the place of `path` after the block, and is gone if the block fails.

    ValueError, in one line, for an OSError or a ValueError in the block, and where nothing can be written.
    """
    temporary = Path(path).parent / f".undiffuse-{secrets.token_hex(8)}.tmp"
    try:
        try:
            yield temporary
            with suppress(FileNotFoundError):  # whoever could not read the old file cannot read the new one
                shutil.copymode(path, temporary)
            os.replace(temporary, path)
        except BaseException:  # also an interrupt
            temporary.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:
        reason = f"'{path}' cannot be written ({error}); what was there before is intact"
        advice = "free some space, check the folder and its rights, or choose another"
        raise ValueError(" ".join(f"{reason}: {advice}".splitlines())) from error
