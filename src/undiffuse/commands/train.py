"""`undiffuse train`."""

from pathlib import Path
from typing import Annotated

import typer

from undiffuse.commands.plugins import Plugins, load_plugins
from undiffuse.commands.shown import show

app = typer.Typer()


@app.command(
    epilog="Examples: undiffuse train configs/train/fashion_mnist.yaml   |   "
    "undiffuse train configs/train/photos64.yaml --set train.steps=50000 --resume"
)
def train(
    config: Annotated[Path, typer.Argument(help="YAML file; the ready ones are in configs/train/.")],
    settings: Annotated[
        list[str], typer.Option("--set", help="section.key=value over the file; may be given several times.")
    ] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder of the run [runs/NAME].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, time a few steps, write nothing.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or mps.")] = "auto",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Train a prior. Several processes: accelerate launch -m undiffuse train CONFIG, or torchrun."""
    from undiffuse.app.train import run
    from undiffuse.config.train import read_train

    load_plugins(plugin)
    asked = read_train(config, settings)
    place = out or Path("runs") / asked.name
    for folder in show(run(asked, place, resume=resume, dry=dry_run, device=device)):
        if folder is not None:
            typer.echo(f"the run is in {folder}")
