"""`undiffuse analyse`: what priors do on their way from noise to a picture."""

import typer

from undiffuse.commands.analyse import attention, noise, restore, trajectories

app = typer.Typer()
analyse = typer.Typer(invoke_without_command=True)
app.add_typer(analyse, name="analyse")
for room in (trajectories, attention, noise, restore):
    analyse.add_typer(room.app)


@analyse.callback()
def everything(context: typer.Context) -> None:
    """Analyse priors: trajectories, guidance, noise, attention, sizes; each as a report of figures and tables."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
