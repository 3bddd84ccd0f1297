"""`undiffuse analyse`: what priors do on their way from noise to a picture."""

import typer

from undiffuse.commands.analyse import attention, everything, guidance, noise, restore, sizes, trajectories

app = typer.Typer()
analyse = typer.Typer(invoke_without_command=True)
app.add_typer(analyse, name="analyse")
for room in (trajectories, guidance, sizes, attention, noise, restore, everything):
    analyse.add_typer(room.app)


@analyse.callback()
def parts(context: typer.Context) -> None:
    """Analyse priors: trajectories, guidance, noise, attention, sizes; each as a report of figures and tables."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
