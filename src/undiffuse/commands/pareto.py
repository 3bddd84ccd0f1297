"""`undiffuse pareto`."""

from typing import TYPE_CHECKING

import typer

from undiffuse.commands.from_model import command
from undiffuse.commands.shown import plain, show
from undiffuse.config.pareto import ParetoConfig

if TYPE_CHECKING:
    from undiffuse.app.pareto import Compared

app = typer.Typer()


@command(
    app,
    ParetoConfig,
    example="undiffuse pareto runs/students --tasks sample,sr4,deblur_gauss --calls 1,2,4,8   |   "
    "undiffuse pareto runs/students --with photo --tasks sr4 --data photos --size 128",
)
def pareto(config: ParetoConfig) -> None:
    """Quality against calls, parameters, FLOP and seconds, and which priors nobody beats. A stopped run goes on."""
    from undiffuse.app.pareto import run

    for result in show(run(config)):
        _print(result)


def _print(result: "Compared") -> None:
    """The fronts against calls, for people; the others are in the report."""
    from rich.console import Console
    from rich.table import Table

    console, table = Console(highlight=False), Table(box=None)
    table.add_column("task", no_wrap=True)
    table.add_column("prior", overflow="fold")
    for name in ("calls", "GFLOP", "seconds", "value"):
        table.add_column(name, justify="right", no_wrap=True, min_width=7)
    for point in result.points:
        if "calls" in point.on:
            cost = f"{point.calls:g}", f"{point.flop / 1e9:.3g}", f"{point.seconds:.3g}"
            title = f"{point.measure.task}, {point.measure.title}"
            table.add_row(title, plain(point.prior), *cost, f"{point.value:.4g}")
    console.print("Nobody beats these in both quality and network calls:")
    console.print(table)
    for text in (result.summary, *result.notes):
        typer.echo(plain(text))
    typer.echo(plain(f"report: {result.folder / 'report.html'}"))
