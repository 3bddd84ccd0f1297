"""`undiffuse bench` and `undiffuse tune`."""

from typing import TYPE_CHECKING

import typer

from undiffuse.commands.from_model import command
from undiffuse.commands.shown import show
from undiffuse.config.bench import BenchConfig, TuneConfig

if TYPE_CHECKING:
    from undiffuse.app.bench import Benched

app = typer.Typer()
METRICS = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "spectrum": "spectrum", "coverage90": "coverage"}


@command(
    app,
    BenchConfig,
    example='undiffuse bench --data photos --tasks "sr4;inp" --algorithms "dpir@5;ddrm" --noise 0,0.05',
)
def bench(config: BenchConfig) -> None:
    """Compare algorithms on stored measurements. The same command again goes on where it was stopped."""
    from undiffuse.app.bench import run

    for result in show(run(config)):
        _print(result)


@command(app, TuneConfig, example="undiffuse tune sr4 --data photos --noise 0.05 --calls 5 --out preset.yaml")
def tune(config: TuneConfig) -> None:
    """Find the noise levels that suit a task best, and write them as a preset if they are better elsewhere, too."""
    from undiffuse.app.bench.tune import run

    for result in show(run(config)):
        typer.echo(str(result))


def _print(result: "Benched") -> None:
    """The table, one part for each task and noise, and what was not possible."""
    from itertools import groupby

    from rich.console import Console
    from rich.table import Table

    summary = result.summary
    known = [name for name in METRICS if any(name in line.means for line in summary.lines)]
    console = Console(highlight=False)
    for (task, noise), lines in groupby(summary.lines, key=lambda line: (line.task, line.noise)):
        table = Table(title=f"{task}, noise {noise:g}", title_justify="left", box=None)
        table.add_column("method", no_wrap=True)
        for name in (*(METRICS[name] for name in known), "dB to reference", "n", "seconds", "calls", "MB"):
            table.add_column(name, justify="right", no_wrap=True)
        for line in lines:
            figures = [f"{line.means[name]:.3f}" if name in line.means else "" for name in known]
            table.add_row(line.method, *figures, *line.cost())
        console.print(table)
    console.print(
        f"Means over n pictures; difference in dB to {summary.reference} on the same measurements, with its 95 % "
        f"interval. Seconds of wall time; MB: {result.memory}.",
        soft_wrap=True,
    )
    for text in summary.missing(result.asked):
        console.print(text, markup=False, soft_wrap=True)
    impossible = f", {result.impossible} not possible" if result.impossible else ""
    typer.echo(f"{result.table}: {result.measured} rows measured{impossible}, {result.kept} kept")
