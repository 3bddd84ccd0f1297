"""`undiffuse compare` and `undiffuse likelihood`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undiffuse.commands.given import Plugins, Precision, PriorOptions, batch_size, checked, load_plugins
from undiffuse.commands.shown import show

if TYPE_CHECKING:
    from undiffuse.app.compare import Compared

app = typer.Typer()


@app.command(
    epilog="Example: undiffuse compare runs/fashion_mnist --samplers ddpm:1000,ddim:50,dpmpp:15 --presets 10"
)
def compare(
    prior: Annotated[str, typer.Argument(help="Run's folder, file of weights, or name of a prior.")],
    samplers: Annotated[
        str, typer.Option(help="NAME:STEPS or NAME:OPTIONS:STEPS with commas; grid= is an option of all.")
    ] = "ddim:50,dpmpp:20,heun:10",
    n: Annotated[int, typer.Option(help="Pictures, each from noise of its own.")] = 8,
    fine: Annotated[int, typer.Option(help="Heun steps of the fine solution; 0: without.")] = 200,
    presets: Annotated[
        str | None,
        typer.Option(help="Choose solver and levels for so many calls, twice that with guidance: 5,10,20."),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Of that search, each with half the step.")] = 4,
    fid: Annotated[
        Path | None, typer.Option(help="Reference of Frechet distances: a folder or an .npz.")
    ] = None,
    features: Annotated[str, typer.Option(help="For these, as `undiffuse evaluate` has them.")] = "inception",
    weights: Annotated[Path | None, typer.Option(help="Of these features.")] = None,
    label: Annotated[str | None, typer.Option(help="Class by name or number; several: 3,5. [all]")] = None,
    guidance: Annotated[float, typer.Option(help="Towards the class; 1 = the conditional prior.")] = 1.0,
    clip: Annotated[bool, typer.Option("--clip", help="Hold every estimate within black and white.")] = False,
    size: Annotated[str | None, typer.Option(help="HxW [what the prior was trained on].")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder [RUN/compare or compare/NAME].")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise, as in `undiffuse sample`.")] = 0,
    batch: Annotated[str, typer.Option(help="Pictures at once, or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    prior_options: PriorOptions = None,
    precision: Precision = "fp32",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Compare samplers from the same noise: pictures, calls, seconds, distance to the exact path's end."""
    from undiffuse.app.compare import run
    from undiffuse.config.bench import split_terms
    from undiffuse.config.compare import CompareConfig, split_calls_list

    load_plugins(plugin)
    given: dict[str, Any] = {
        "prior": prior, "samplers": split_terms(samplers), "n": n, "fine": fine, "rounds": rounds,
        "presets": split_calls_list(presets), "label": label, "guidance": guidance, "clip": clip, "size": size,
        "out": out, "seed": seed, "batch": batch_size(batch), "device": device, "prior_options": prior_options,
        "precision": precision, "fid": fid, "features": features, "weights": weights,
    }  # fmt: skip
    for result in show(run(checked(CompareConfig, given, "compare"))):
        _print(result)


def _print(result: "Compared") -> None:
    from rich.console import Console
    from rich.table import Table

    console, table = Console(highlight=False), Table(box=None)
    table.add_column("sampler", no_wrap=True)
    for name in ("steps", "calls", "seconds", "distance"):
        table.add_column(name, justify="right", no_wrap=True)
    scored = any(row.frechet is not None for row in result.rows)
    if scored:
        table.add_column("Frechet", justify="right", no_wrap=True)
    for row in result.rows:
        score = [] if not scored else ["" if row.frechet is None else f"{row.frechet:.4g}"]
        distance = row.verdict().removeprefix("distance ")
        table.add_row(row.label, str(row.steps), f"{row.calls:g}", f"{row.seconds:.3g}", distance, *score)
    console.print(table)
    if result.guided:
        console.print(
            "With guidance each estimate is two calls: with the class, and without.", soft_wrap=True
        )
    if result.fine is not None:
        console.print(
            f"Distance: RMS to the end of the probability-flow ODE, white - black = 1; that is known to "
            f"{result.fine.error:.1g} ({result.fine.steps} steps of heun). Calls and seconds of one picture.",
            soft_wrap=True,
        )


@app.command(epilog="Example: undiffuse likelihood runs/cifar10 --data test --probes 4")
def likelihood(
    prior: Annotated[str, typer.Argument(help="Run's folder, file of weights, or name of a prior.")],
    data: Annotated[str, typer.Option(help="Folder of pictures, or what --source reads.")],
    source: Annotated[str, typer.Option(help="Dataset with its options, such as idx:split=test.")] = "folder",
    count: Annotated[int, typer.Option(help="Pictures, evenly over the data.")] = 100,
    steps: Annotated[int, typer.Option(help="Of the flow's path.")] = 100,
    probes: Annotated[int, typer.Option(help="Random directions for each picture's trace.")] = 1,
    trace: Annotated[str, typer.Option(help="exact, hutchinson, or auto: exact for tiny pictures.")] = "auto",
    dequantise: Annotated[
        str, typer.Option(help="uniform, unit (priors trained with dequantise: true) or normal.")
    ] = "uniform",
    bound: Annotated[
        bool, typer.Option("--bound", help="Also the variational bound, of learned variances.")
    ] = False,
    label: Annotated[str | None, typer.Option(help="Class of all pictures. [the data's]")] = None,
    size: Annotated[str | None, typer.Option(help="HxW [what the prior was trained on].")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON with every picture's number.")] = None,
    seed: Annotated[int, typer.Option(help="Of probes and dequantisation.")] = 0,
    batch: Annotated[str, typer.Option(help="Pictures at once, or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    prior_options: PriorOptions = None,
    precision: Precision = "fp32",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Bits per dimension of pictures, by the probability-flow ODE and, if asked for, the variational bound."""
    from undiffuse.app.likelihood import run
    from undiffuse.config.compare import LikelihoodConfig

    load_plugins(plugin)
    given: dict[str, Any] = {
        "prior": prior, "data": data, "source": source, "count": count, "steps": steps, "probes": probes,
        "trace": trace, "dequantise": dequantise, "bound": bound, "label": label, "size": size, "out": out,
        "seed": seed, "batch": batch_size(batch), "device": device, "prior_options": prior_options,
        "precision": precision,
    }  # fmt: skip
    for result in show(run(checked(LikelihoodConfig, given, "likelihood"))):
        for line in result.lines():
            typer.echo(line)
