"""`undiffuse distil`."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from undiffuse.commands.from_model import command
from undiffuse.commands.shown import show
from undiffuse.config.distil import DistilConfig

if TYPE_CHECKING:
    from undiffuse.app.distil.table import Row

app = typer.Typer()


@command(
    app,
    DistilConfig,
    example="undiffuse distil runs/fashion_mnist --sizes 0.1,0.3   |   "
    "undiffuse distil runs/fashion_mnist --method progressive --to-steps 4   |   "
    "undiffuse distil photo --config configs/train/photos128.yaml --size 0.35",
)
def distil(
    config: DistilConfig,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the students in that folder.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it will train, time a few steps, write nothing.")
    ] = False,
) -> None:
    """Train students of a prior: smaller, or of fewer steps, or both."""
    from undiffuse.app.distil import run

    for rows in show(run(config, resume=resume, dry=dry_run)):
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
