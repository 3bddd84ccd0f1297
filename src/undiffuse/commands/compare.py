"""`undiffuse compare` and `undiffuse likelihood`."""

from typing import TYPE_CHECKING

import typer

from undiffuse.commands.from_model import command
from undiffuse.commands.shown import show
from undiffuse.config.compare import CompareConfig, LikelihoodConfig

if TYPE_CHECKING:
    from undiffuse.app.compare import Compared

app = typer.Typer()


@command(
    app,
    CompareConfig,
    example="undiffuse compare runs/fashion_mnist --samplers ddpm:1000,ddim:50,dpmpp:15 --presets 10",
)
def compare(config: CompareConfig) -> None:
    """Compare samplers from the same noise: pictures, calls, seconds, distance to the exact path's end."""
    from undiffuse.app.compare import run

    for result in show(run(config)):
        _print(result)


def _print(result: "Compared") -> None:
    from rich.console import Console
    from rich.table import Table

    console, table = Console(highlight=False), Table(box=None)
    table.add_column("sampler", no_wrap=True)
    for name in ("steps", "calls", "seconds", "distance"):
        table.add_column(name, justify="right", no_wrap=True)
    scored = any(row.frechet is not None for row in result.rows)
    if scored:
        table.add_column("Frechet", justify="right", no_wrap=True)
    for row in result.rows:
        score = [] if not scored else ["" if row.frechet is None else f"{row.frechet:.4g}"]
        distance = row.verdict().removeprefix("distance ")
        table.add_row(row.label, str(row.steps), f"{row.calls:g}", f"{row.seconds:.3g}", distance, *score)
    console.print(table)
    if result.guided:
        console.print(
            "With guidance each estimate is two calls: with the class, and without.", soft_wrap=True
        )
    if result.fine is not None:
        console.print(
            f"Distance: RMS to the end of the probability-flow ODE, white - black = 1; that is known to "
            f"{result.fine.error:.1g} ({result.fine.steps} steps of heun). Calls and seconds of one picture.",
            soft_wrap=True,
        )


@command(app, LikelihoodConfig, example="undiffuse likelihood runs/cifar10 --data test --probes 4")
def likelihood(config: LikelihoodConfig) -> None:
    """Bits per dimension of pictures, by the probability-flow ODE and, if asked for, the variational bound."""
    from undiffuse.app.likelihood import run

    for result in show(run(config)):
        for line in result.lines():
            typer.echo(line)
