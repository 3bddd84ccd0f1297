"""`undiffuse analyse noise`."""

from typing import Annotated

import typer

from undiffuse.commands.analyse import common
from undiffuse.commands.given import Plugins, Precision, PriorOptions, batch_size, load_plugins

app = typer.Typer()


@app.command(epilog="Example: undiffuse analyse noise runs/fashion_mnist runs/student --n 128")
def noise(
    runs: Annotated[list[str], typer.Argument(help="Runs' folders, files of weights, or names of priors.")],
    data: Annotated[
        str | None,
        typer.Option(help="Clean pictures: a folder, or what --source reads. [what the first run held out]"),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Dataset, such as idx:split=test. [folder]")] = None,
    levels: Annotated[int, typer.Option(help="Noise levels, evenly in log sigma.")] = 12,
    n: common.Pictures = 64,
    label: common.Label = None,
    guidance: common.Guidance = 1.0,
    size: common.Size = None,
    seed: common.Seed = 0,
    steps: Annotated[int, typer.Option(help="Of samples, where there is no data.")] = 50,
    sampler: Annotated[str, typer.Option(help="Of samples, where there is no data.")] = "ddim",
    out: common.Out = None,
    batch: common.Batch = "auto",
    device: common.Device = "auto",
    prior_options: PriorOptions = None,
    precision: Precision = "fp32",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Errors of what priors say of the noise, by its level: size, bias, calibration, spectrum, whiteness."""
    from undiffuse.config.analyse.noise import NoiseConfig

    load_plugins(plugin)
    given = {
        "runs": tuple(runs), "data": data, "source": source, "levels": levels, "n": n, "label": label,
        "guidance": guidance, "size": size, "seed": seed, "steps": steps, "sampler": sampler, "out": out,
        "batch": batch_size(batch), "device": device, "prior_options": prior_options, "precision": precision,
        "plugins": tuple(plugin),
    }  # fmt: skip
    common.analysed("noise", NoiseConfig, given)
