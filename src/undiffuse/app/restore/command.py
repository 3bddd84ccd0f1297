"""The command line that a run was asked for by."""

import shlex
from pathlib import Path
from typing import Any

from undiffuse.config import RestoreConfig

JOINED = ("save",)  # lists that are one option; the others are one option for each item
TOGETHER = ("goal", "draws")  # the default of each depends on the other
OF_FOLDERS = ("fleet", "workers")  # refused for a single picture
SINGULAR = {"plugins": "plugin"}


def command(config: RestoreConfig) -> str:
    """One line for a POSIX shell that restores the same again; only what differs from the defaults is said."""
    words = ["undiffuse", "restore", _positional(config.image)]
    for name, field in RestoreConfig.model_fields.items():
        value: Any = getattr(config, name)
        if name == "image" or value is None or (value == field.default and name not in TOGETHER):
            continue
        flag = "--" + SINGULAR.get(name, name).replace("_", "-")
        if value is True:
            words.append(flag)
        elif isinstance(value, tuple) and name not in JOINED:
            words += [word for item in value for word in (flag, str(item))]
        else:
            words += [flag, ",".join(value) if isinstance(value, tuple) else str(value)]
    return shlex.join(words)


def alone(config: RestoreConfig, name: str) -> RestoreConfig:
    """What restores one picture of a folder, `name` below it, into a folder of its own."""
    out = config.out / Path(name).with_suffix("")
    return config.model_copy(update={"out": out, **dict.fromkeys(OF_FOLDERS)})


def _positional(path: Path) -> str:
    return f"./{path}" if str(path).startswith("-") else str(path)
