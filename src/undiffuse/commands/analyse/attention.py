"""`undiffuse analyse attention`."""

from typing import Annotated

import typer

from undiffuse.commands.analyse import common
from undiffuse.commands.given import Plugins, Precision, PriorOptions, batch_size, load_plugins

app = typer.Typer()


@app.command(
    epilog="Example: undiffuse analyse attention 256x256_diffusion_uncond --query 128:128,40:200 --n 1"
)
def attention(
    run: Annotated[str, typer.Argument(help="Run's folder, file of weights, or name of a prior.")],
    query: Annotated[
        str | None,
        typer.Option(help="Pixels whose maps are shown, ROW:COLUMN from 0: 14:14,3:20. [the middle]"),
    ] = None,
    levels: Annotated[int, typer.Option(help="Noise levels that are shown.")] = 6,
    layers: Annotated[int, typer.Option(help="Layers that are shown, evenly over the network.")] = 6,
    layer: Annotated[
        str | None, typer.Option(help="Layer whose heads are shown one by one. [the last of the finest]")
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Pictures; the first one is shown.")] = 4,
    label: common.Label = None,
    guidance: common.Guidance = 1.0,
    size: common.Size = None,
    seed: common.Seed = 0,
    steps: common.Steps = 50,
    sampler: common.Sampler = "ddim",
    out: common.Out = None,
    batch: common.Batch = "auto",
    device: common.Device = "auto",
    prior_options: PriorOptions = None,
    precision: Precision = "fp32",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Attention of a network over the picture, by layer, head and noise level, on the way from noise to a picture."""
    from undiffuse.config.analyse.attention import AttentionConfig

    load_plugins(plugin)
    given = {
        "run": run, "query": tuple(query.split(",")) if query else (), "levels": levels, "layers": layers,
        "layer": layer, "n": n, "label": label, "guidance": guidance, "size": size, "seed": seed, "steps": steps,
        "sampler": sampler, "out": out, "batch": batch_size(batch), "device": device, "prior_options": prior_options,
        "precision": precision,
        "plugins": tuple(plugin),
    }  # fmt: skip
    common.analysed("attention", AttentionConfig, given)
