"""The table of published files: known.toml, what keys and shapes do not tell, and where the files come from."""

import functools
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pydantic

from undiffuse.config import Options, explain


class Known(Options):
    """One published file. Downloads read the columns after `data`, the loader those before."""

    name: str  # as users write it
    files: tuple[str, ...]  # names of the file, with the folder where the name alone says little
    format: Literal["adm", "ho_ddpm"]
    network: dict[str, Any]  # sizes of networks/; `name` only where the format has several networks
    prediction: Literal["eps", "v", "x0"] = "eps"
    schedule: Literal["linear", "cosine"]
    timesteps: int = 1000
    time_scale: float = 1.0  # the network is told time_scale times the timestep
    size: int  # pixels a side
    low_res: str | None = None  # the degradation of the picture that an upsampler enlarges
    data: str
    licence: str | None = None  # of the publisher's repository
    url: str | None = None
    mirrors: tuple[str, ...] = ()
    parameters: int  # of the network: 4 bytes each, and a little more
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None
    hashed_by: Literal["publisher", "users"] = "publisher"  # who computed the checksum
    note: str | None = None

    def is_named(self, path: Path) -> bool:
        """Whether a file is called as this one is published."""
        whole = path.absolute().as_posix()
        return any(whole.endswith(f"/{name}") for name in self.files)

    @property
    def is_classifier(self) -> bool:
        """A classifier for guidance, and no prior."""
        return self.network.get("name") == "classifier"


@functools.cache
def known() -> dict[str, Known]:
    """All of them by name, in the order of the table."""
    text = (files("undiffuse.checkpoints") / "known.toml").read_text("utf-8")
    found: dict[str, Known] = {}
    for name, row in tomllib.loads(text).items():
        try:
            found[name] = Known(name=name, **row)
        except pydantic.ValidationError as error:
            raise ValueError(explain(error, f"'{name}' in known.toml", Known)) from None
    return found
