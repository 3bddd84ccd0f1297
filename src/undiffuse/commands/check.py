"""`undiffuse doctor` and `undiffuse check`."""

from typing import Annotated

import typer

from undiffuse.commands.plugins import Plugins, load_files, load_plugins
from undiffuse.commands.shown import fail, show

app = typer.Typer()
check_app = typer.Typer(help="Verify that something is what it says.", rich_markup_mode=None)
app.add_typer(check_app, name="check")


@app.command(epilog="Example: undiffuse doctor --prior photo --size 512x512")
def doctor(
    prior: Annotated[str, typer.Option(help="Prior to try: a name, a file or a run's folder.")] = "photo",
    size: Annotated[str | None, typer.Option(help="HxW or CxHxW to try it at.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Also try torch.compile: 20 seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Say what this machine has and measure what is slow on it; exit code 1 if something essential is broken."""
    import json
    from dataclasses import asdict

    try:
        from undiffuse.app.doctor import examine, table
    except (ImportError, OSError) as error:
        fail(f"a package that everything needs cannot be imported: {error}; reinstall it", 1)

    load_files(plugin)  # those that are installed are among what is examined
    for findings in show(examine(prior, size, full=full)):
        typer.echo(json.dumps([asdict(f) for f in findings], indent=1) if as_json else table(findings))
        if any(f.verdict == "broken" for f in findings):
            raise typer.Exit(1)


@check_app.command(epilog="Example: undiffuse check operator deblur_gauss --size 97x64")
def operator(
    degrade: Annotated[str, typer.Argument(help="Degradation, name:key=value,...")],
    size: Annotated[str, typer.Option(help="HxW or CxHxW of the test picture.")] = "97x64",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Adjoint, SVD, pseudo-inverse, gain and direct comparison of a degradation; exit code 1 if one fails."""
    from undiffuse.app.check import check_operator, table

    load_plugins(plugin)
    checks = check_operator(degrade, size)
    typer.echo(table(checks))
    if not all(check.passed for check in checks):
        raise typer.Exit(1)
