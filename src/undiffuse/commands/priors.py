"""`undiffuse priors`: what there is, what a file is, and a file of another form as one of ours."""

from dataclasses import astuple
from pathlib import Path
from typing import Annotated

import typer

from undiffuse.commands.from_model import command
from undiffuse.commands.lists import listing
from undiffuse.commands.plugins import Plugins, load_files, load_plugins
from undiffuse.commands.shown import plain, show
from undiffuse.config.convert import ConvertConfig
from undiffuse.config.said import OPTIONS

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
def list_priors(plugin: Plugins = []) -> None:  # noqa: B006
    """List the priors: what is built in, and the published files that load by name once they are pulled."""
    load_files(plugin)
    _list()


@priors.command(epilog="Example: undiffuse priors pull 256x256_diffusion_uncond")
def pull(
    name: Annotated[str, typer.Argument(help="A published file; see `undiffuse priors list`.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the file [UNDIFFUSE_CACHE, or the system's folder for caches]."),
    ] = None,
) -> None:
    """Download a published file, compare its checksum and keep it; `--prior NAME` finds it then.

    The same command again goes on where it was stopped.
    """
    from undiffuse.app.pull import published, source_of
    from undiffuse.app.pull import pull as run

    file = published(name)
    for result in show(run(source_of(file), out)):
        size, licence = f"{result.record.bytes:,} bytes", file.licence or "licence not stated"
        typer.echo(plain(f"{result.path}: {file.data}, {size}, {licence}, sha256 {result.record.sha256}"))


def _list() -> None:
    from undiffuse import checkpoints, priors  # noqa: F401 (fills the registry)
    from undiffuse.app.pull import rows
    from undiffuse.registry import PRIORS

    listing(PRIORS)
    head = ("name", "kind", "trained on", "size", "classes", "licence", "file", "checksum", "where")
    table = [head] + [tuple(map(plain, astuple(row))) for row in rows()]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    typer.echo()
    for line in table:
        typer.echo("  ".join(map(str.ljust, line, widths)).rstrip())


@priors.command(epilog="Example: undiffuse priors inspect 256x256_diffusion_uncond.pt")
def inspect(
    file: Annotated[
        str, typer.Argument(help="File of weights, run's folder, folder of diffusers, or a prior's name.")
    ],
    prior_options: Annotated[str | None, typer.Option(help=OPTIONS.help)] = None,
) -> None:
    """Say what a file of weights is: form, network, channels, classes, schedule, and what it does not tell."""
    from undiffuse.app.inspect import inspect as run

    for result in show(run(file, prior_options)):
        typer.echo(plain(str(result.path)))
        for line in result.lines:
            typer.echo(f"  {plain(line)}")
        if result.missing:
            typer.echo(plain(f"  missing, for --prior-options: {'; '.join(result.missing)}"))


@command(
    priors,
    ConvertConfig,
    of="priors",
    example="undiffuse priors convert model.ckpt model.safetensors --prior-options schedule=linear",
)
def convert(config: ConvertConfig) -> None:
    """Make a file of another form one of ours, which needs no options, or a folder of diffusers."""
    from undiffuse.app.convert import convert as run

    for result in show(run(config)):
        typer.echo(plain(str(result)))
