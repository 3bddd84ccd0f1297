"""`undiffuse sample`."""

import typer

from undiffuse.commands.from_model import command
from undiffuse.commands.groups import Grouped
from undiffuse.commands.shown import plain, show
from undiffuse.config.sample import SampleConfig

app = typer.Typer()


@command(
    app,
    SampleConfig,
    cls=Grouped,
    example="undiffuse sample runs/fashion_mnist --label all --guidance 2 --n 64   |   "
    "undiffuse sample prior.safetensors --sampler ddim:eta=1 --steps 50 --grid timesteps --out out/ddpm",
)
def sample(config: SampleConfig) -> None:
    """Draw pictures from a prior. The same command again goes on where it was stopped.

    Several processes: torchrun --nproc-per-node 2 -m undiffuse sample RUN -n 50000, or accelerate launch; each
    draws its share.
    """
    from undiffuse.app.sample import run

    for result in show(run(config)):
        kept = f", {result.kept} kept" if result.kept else ""
        values = f"; values from {result.low:.3g} to {result.high:.3g}, black is -1 and white 1"
        typer.echo(plain(f"{result.folder}: {result.drawn} drawn in {result.seconds:.1f} s{kept}{values}"))
