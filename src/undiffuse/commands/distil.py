"""`undiffuse distil`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undiffuse.commands.given import Plugins, checked, load_plugins
from undiffuse.commands.shown import show

if TYPE_CHECKING:
    from undiffuse.app.distil.table import Row

app = typer.Typer()


@app.command(
    epilog="Examples: undiffuse distil runs/fashion_mnist --sizes 0.1,0.3   |   "
    "undiffuse distil runs/fashion_mnist --method progressive --to-steps 4   |   "
    "undiffuse distil photo --config configs/train/photos128.yaml --size 0.35"
)
def distil(
    teacher: Annotated[str, typer.Argument(help="A run's folder, or a name or file of weights.")],
    sizes: Annotated[
        str | None,
        typer.Option(
            "--sizes", "--size", help="Shares of the teacher's parameters, such as 0.1,0.3: a student each."
        ),
    ] = None,
    method: Annotated[
        str, typer.Option(help="match (the same at every noise level), progressive, consistency or restore.")
    ] = "match",
    to_steps: Annotated[
        int | None, typer.Option(help="Steps of sampling that the last one needs; of restore: calls.")
    ] = None,
    from_steps: Annotated[
        int | None, typer.Option(help="Of progressive: the teacher's, halved again and again [64 or more].")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(help="Of progressive: karras or timesteps [the teacher's own].")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps of each student.")] = None,
    guidance: Annotated[
        float, typer.Option(help="Guidance of the teacher's answers, which students have built in.")
    ] = 1.0,
    truth: Annotated[
        float, typer.Option(help="Of sizes: share of the clean picture in the loss, beside the teacher.")
    ] = 0.0,
    tuning: Annotated[
        bool, typer.Option("--tuning", help="Of consistency: from the data alone, not the teacher's path.")
    ] = False,
    tasks: Annotated[
        str | None, typer.Option(help="Of restore: degradations to practise, such as sr4,deblur_gauss,inp.")
    ] = None,
    algorithm: Annotated[str, typer.Option(help="Of restore: what to practise with.")] = "dpir_wiener",
    noise: Annotated[
        float, typer.Option(help="Of restore: noise of the data up to this, white - black = 1.")
    ] = 0.1,
    config: Annotated[
        Path | None, typer.Option(help="Training configuration, where the teacher is not a run's folder.")
    ] = None,
    settings: Annotated[
        list[str], typer.Option("--set", help="section.key=value of the training; several times for more.")
    ] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder of the students [runs/students/NAME].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the students in that folder.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it will train, time a few steps, write nothing.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or mps.")] = "auto",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Train students of a prior: smaller, or of fewer steps, or both."""
    from undiffuse.app.distil import run
    from undiffuse.config.bench import split_numbers, split_terms
    from undiffuse.config.distil import DistilConfig

    load_plugins(plugin)
    given: dict[str, Any] = {
        "teacher": teacher, "config": config, "settings": tuple(settings), "method": method,
        "sizes": () if sizes is None else split_numbers(sizes, "--sizes"), "to_steps": to_steps,
        "from_steps": from_steps, "grid": grid, "steps": steps, "guidance": guidance, "truth": truth,
        "tuning": tuning, "tasks": () if tasks is None else split_terms(tasks), "algorithm": algorithm, "noise": noise,
        "out": out, "device": device,
    }  # fmt: skip
    for rows in show(run(checked(DistilConfig, given, "distil"), resume=resume, dry=dry_run)):
        _print(rows)


def _print(rows: "list[Row]") -> None:
    """The table of students, for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None)
    for name in ("student", "parameters", "share", "made for"):
        table.add_column(name, justify="left" if name in ("student", "made for") else "right", no_wrap=True)
    for low, high in rows[0].rms:
        table.add_column(f"{low:g}-{high:g}", justify="right", no_wrap=True)
    for row in rows:
        errors = [f"{error:.4f}" for error in row.rms.values()]
        table.add_row(row.name, f"{row.parameters:,}", f"{row.share:.3g}", row.made_for, *errors)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)  # a file has no edge
    console.print(table)
    console.print(
        "Last columns: error of x0 (RMS, white - black = 1) on held-out images, by sigma in [-1, 1] units."
    )
