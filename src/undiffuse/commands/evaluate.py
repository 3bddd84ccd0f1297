"""`undiffuse evaluate`."""

import typer

from undiffuse.commands.from_model import command
from undiffuse.commands.shown import show
from undiffuse.config.evaluate import EvaluateConfig

app = typer.Typer()


@command(
    app,
    EvaluateConfig,
    example="undiffuse evaluate samples/photos --reference photos --metrics fid,kid,prdc   |   "
    "undiffuse evaluate samples.npz --reference stats.npz --weights pt_inception-2015-12-05-6726825d.pth",
)
def evaluate(config: EvaluateConfig) -> None:
    """Compare many pictures with a reference: FID, KID, precision and recall. A stopped run goes on."""
    from undiffuse.app.evaluate import run

    for result in show(run(config)):
        for line in result.lines():
            typer.echo(line)
