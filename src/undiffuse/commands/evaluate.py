"""`undiffuse evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.commands.given import checked
from undiffuse.commands.shown import show

app = typer.Typer()


@app.command(
    epilog="Examples: undiffuse evaluate samples/photos --reference photos --metrics fid,kid,prdc   |   "
    "undiffuse evaluate samples.npz --reference stats.npz --weights pt_inception-2015-12-05-6726825d.pth"
)
def evaluate(
    samples: Annotated[Path, typer.Argument(help="Folder of pictures, or .npz with arr_0.")],
    reference: Annotated[Path, typer.Option(help="The same, or an .npz with mu and sigma.")],
    samples_source: Annotated[
        str | None, typer.Option(help="How they are stored, as train's data.source: npz:range=0..1.")
    ] = None,
    reference_source: Annotated[
        str | None, typer.Option(help="The same of the reference: idx:split=test, cifar10, ...")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Of fid, kid, prdc, is, with commas. [fid,kid,prdc]")
    ] = None,
    features: Annotated[
        str,
        typer.Option(help="inception, dinov2, pixels:SIDE, pca:COMPONENTS, or a .onnx or TorchScript file."),
    ] = "inception",
    weights: Annotated[
        Path | None, typer.Option(help="Of inception or dinov2. [where they usually lie]")
    ] = None,
    resize: Annotated[str, typer.Option(help="For inception: tf1, as published, or clean.")] = "tf1",
    size: Annotated[int | None, typer.Option(help="Side that a network of a file sees.")] = None,
    range_: Annotated[
        str | None, typer.Option("--range", help="Values it sees: -1..1, 0..1, 0..255 or imagenet.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Samples with names such as '*_restored.png'.")] = None,
    neighbours: Annotated[int, typer.Option(help="Of precision, recall, density and coverage.")] = 5,
    pairs: Annotated[int, typer.Option(help="Pictures of each, at most, for kid and prdc.")] = 10_000,
    out: Annotated[Path | None, typer.Option(help="Folder of the result [evaluate/NAME].")] = None,
    batch: Annotated[int, typer.Option(help="Pictures at once.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Compare many pictures with a reference: FID, KID, precision and recall. A stopped run goes on."""
    from undiffuse.app.evaluate import run
    from undiffuse.config.evaluate import EvaluateConfig

    given: dict[str, Any] = {
        "samples": samples, "samples_source": samples_source,
        "reference": reference, "reference_source": reference_source,
        "features": features, "weights": weights, "resize": resize,
        "metrics": None if metrics is None else tuple(part.strip() for part in metrics.split(",")),
        "size": size, "range": range_, "only": only, "neighbours": neighbours, "pairs": pairs, "out": out,
        "batch": batch, "device": device,
    }  # fmt: skip
    for result in show(run(checked(EvaluateConfig, given, "evaluate"))):
        for line in result.lines():
            typer.echo(line)
