"""`undiffuse analyse restore`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.commands.analyse.common import Batch, Device, Out, analysed
from undiffuse.commands.given import Plugins, batch_size, load_plugins

app = typer.Typer()


@app.command(epilog="Example: undiffuse analyse restore out/photo --every step")
def restore(
    result: Annotated[
        Path, typer.Argument(help="OUT/NAME of a restored picture: its record is OUT/NAME.json.")
    ],
    every: Annotated[
        str, typer.Option(help="Steps that are shown: step for all, or 5 for every fifth.")
    ] = "step",
    bands: Annotated[int, typer.Option(help="Bands of singular values, beside the null space.")] = 4,
    draws: Annotated[int | None, typer.Option(help="Draws [as many as were restored].")] = None,
    exact: Annotated[
        int,
        typer.Option(help="Pictures from a prior in closed form, to calibrate the algorithm on; 0: none."),
    ] = 8,
    seed: Annotated[int, typer.Option(help="Of these pictures.")] = 0,
    prior: Annotated[
        str | None, typer.Option(help="The prior's place, where it is not the record's any more.")
    ] = None,
    out: Out = None,
    batch: Batch = "auto",
    device: Device = "auto",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Follow a restoration: what the data did and what the prior did, step by step, by band of singular values."""
    from undiffuse.config.analyse.restore import RestoreAnalysisConfig

    load_plugins(plugin)
    given: dict[str, Any] = {
        "result": result, "every": every, "bands": bands, "draws": draws, "exact": exact, "seed": seed,
        "prior": prior, "out": out, "batch": batch_size(batch), "device": device,
        "plugins": tuple(plugin),
    }  # fmt: skip
    analysed("restore", RestoreAnalysisConfig, given)
