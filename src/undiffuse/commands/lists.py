"""Lists of what there is: degradations, algorithms, samplers."""

from typing import Any

import typer

from undiffuse.commands.plugins import Plugins, load_plugins

app = typer.Typer()


@app.command(epilog="Example: undiffuse degradations --plugin my_blur.py")
def degradations(plugin: Plugins = []) -> None:  # noqa: B006
    """List the degradations with their options, each with an example."""
    from undiffuse import operators  # noqa: F401 (fills the registry)
    from undiffuse.registry import OPERATORS

    load_plugins(plugin)
    listing(OPERATORS)


@app.command(epilog="Example: undiffuse algorithms")
def algorithms(plugin: Plugins = []) -> None:  # noqa: B006
    """List the restoration algorithms with their options."""
    from undiffuse import restore  # noqa: F401
    from undiffuse.registry import RESTORERS

    load_plugins(plugin)
    listing(RESTORERS)


@app.command(epilog="Example: undiffuse samplers")
def samplers(plugin: Plugins = []) -> None:  # noqa: B006
    """List the samplers with their options."""
    from undiffuse import samplers  # noqa: F401
    from undiffuse.registry import SAMPLERS

    load_plugins(plugin)
    listing(SAMPLERS)


def listing(table: Any) -> None:
    """Every name with what it is, an example, and its options or the name whose options it fixes."""
    from undiffuse.config import describe

    for name in table:
        entry = table[name]
        typer.echo(f"{name}\n    {entry.summary}\n    example: {entry.example}")
        if entry.preset:
            base = next(other for other in table if table[other].factory is entry.factory)
            fixed = ", ".join(f"{key}={value}" for key, value in entry.preset.items())
            typer.echo(f"    is {base} with {fixed}; its other options can be given too")
            continue
        for line in describe(entry):
            typer.echo(f"        {line}")
