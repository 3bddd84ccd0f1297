"""`undiffuse priors`: what there is, what a file is, and a file of another form as one of ours."""

from typing import Any

import typer

from undiffuse.commands.given import Plugins, load_plugins
from undiffuse.commands.lists import listing

app = typer.Typer()
priors = typer.Typer(invoke_without_command=True)
app.add_typer(priors, name="priors")


@priors.callback(epilog="Example: undiffuse priors")
def everything(context: typer.Context, plugin: Plugins = []) -> None:  # noqa: B006
    """List the priors; say what a file is; make it one of ours."""
    load_plugins(plugin)
    if context.invoked_subcommand is None:
        _list()


@priors.command("list", epilog="Example: undiffuse priors list")
def list_priors() -> None:
    """List the priors."""
    _list()


def _list() -> Any:
    from undiffuse import checkpoints, priors  # noqa: F401 (fills the registry)
    from undiffuse.registry import PRIORS

    listing(PRIORS)
