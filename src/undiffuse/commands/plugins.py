"""Plugins that a user names."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from undiffuse.config.said import PLUGINS

Plugins = Annotated[list[Path], typer.Option("--plugin", help=PLUGINS.help)]


def load_plugins(paths: Iterable[Path]) -> None:
    """Run files that register names, after those of installed packages. ValueError for one that fails."""
    from undiffuse.registry import load_entry_points

    load_entry_points()
    load_files(paths)


def load_files(paths: Iterable[Path]) -> None:
    """Run files that register names. ValueError for one that fails."""
    from undiffuse.registry import load_plugin

    for path in paths:
        try:
            load_plugin(path)
        except SystemExit as stop:
            raise ValueError(
                f"plugin '{path}' called exit({stop.code}); it may only register names"
            ) from None
