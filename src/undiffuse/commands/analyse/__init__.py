"""`undiffuse analyse`: what priors do on their way from noise to a picture."""

import typer

app = typer.Typer()
analyse = typer.Typer(invoke_without_command=True)
app.add_typer(analyse, name="analyse")
rooms: tuple[typer.Typer, ...] = ()
for room in rooms:
    analyse.add_typer(room)


@analyse.callback()
def everything(context: typer.Context) -> None:
    """Analyse priors: trajectories, guidance, noise, attention, sizes; each as a report of figures and tables."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
