"""`undiffuse analyse guidance`."""

from pathlib import Path
from typing import Annotated

import typer

from undiffuse.commands.analyse import common
from undiffuse.commands.given import Plugins, Precision, PriorOptions, batch_size, load_plugins

app = typer.Typer()


@app.command(
    epilog="Example: undiffuse analyse guidance runs/fashion_mnist --scales 1,3,5,7 --against runs/student"
)
def guidance(
    run: Annotated[
        str, typer.Argument(help="Run's folder, file of weights, or name of a prior with classes.")
    ],
    scales: Annotated[
        str, typer.Option(help="With commas; 1, the unguided prior, is always among them.")
    ] = "1,3,5,7",
    against: Annotated[str | None, typer.Option(help="A student, at the same scales and noise.")] = None,
    classifier: Annotated[
        Path | None,
        typer.Option(help="Which class is seen: a noisy classifier, .onnx or TorchScript (.ts) file."),
    ] = None,
    classifier_size: Annotated[int | None, typer.Option(help="Side it sees [that of the pictures].")] = None,
    classifier_range: Annotated[
        str, typer.Option(help="Of a network: 0..255, 0..1, -1..1, imagenet.")
    ] = "-1..1",
    n: common.Pictures = 64,
    label: common.Label = None,
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
    """The same noise at several scales of guidance: trajectories, pictures, saturation, diversity, class accuracy."""
    from undiffuse.config.analyse.guidance import GuidanceConfig

    load_plugins(plugin)
    given = {
        "run": run, "scales": tuple(scales.split(",")), "against": against, "classifier": classifier,
        "classifier_size": classifier_size, "classifier_range": classifier_range, "n": n, "label": label,
        "size": size, "seed": seed, "steps": steps, "sampler": sampler, "out": out, "batch": batch_size(batch),
        "device": device, "prior_options": prior_options, "precision": precision,
        "plugins": tuple(plugin),
    }  # fmt: skip
    common.analysed("guidance", GuidanceConfig, given)
