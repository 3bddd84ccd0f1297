"""`undiffuse analyse trajectories` and `undiffuse analyse determinism`."""

from pathlib import Path
from typing import Annotated

import typer

from undiffuse.commands.analyse import common
from undiffuse.commands.given import Plugins, Precision, PriorOptions, batch_size, load_plugins

app = typer.Typer()


@app.command(epilog="Example: undiffuse analyse trajectories runs/teacher runs/student --embed pca,umap")
def trajectories(
    priors: Annotated[
        list[str] | None,
        typer.Argument(help="The teacher and its students: runs' folders, files of weights, or names."),
    ] = None,
    embed: Annotated[
        str, typer.Option(help="Ways into few dimensions, with commas: pca, tsne, umap; or none.")
    ] = "pca",
    of: Annotated[
        str, typer.Option(help="What is embedded: estimates of the picture, or states.")
    ] = "estimates",
    dims: Annotated[str, typer.Option(help="2, 3 or 2,3.")] = "2,3",
    frame: Annotated[
        Path | None, typer.Option(help="Frame of the PCA, from an earlier report. [of the first prior]")
    ] = None,
    stored: Annotated[
        Path | None, typer.Option(help="Trajectories of an earlier report, which come first.")
    ] = None,
    store: Annotated[bool, typer.Option("--store/--no-store", help="Keep the trajectories.")] = True,
    n: common.Pictures = 64,
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
    """Follow priors from the same noise to pictures: shape of the paths, distance by noise level, embeddings."""
    from undiffuse.config.analyse.trajectories import TrajectoriesConfig

    load_plugins(plugin)
    given = {
        "priors": tuple(priors or ()), "embed": common.words(embed), "of": of, "dims": common.numbers("dims", dims),
        "frame": frame, "stored": stored, "store": store, "n": n, "label": label, "guidance": guidance, "size": size,
        "seed": seed, "steps": steps, "sampler": sampler, "out": out, "batch": batch_size(batch), "device": device,
        "prior_options": prior_options, "precision": precision,
        "plugins": tuple(plugin),
    }  # fmt: skip
    common.analysed("trajectories", TrajectoriesConfig, given)


@app.command(epilog="Example: undiffuse analyse determinism runs/fashion_mnist --device cuda")
def determinism(
    run: Annotated[str, typer.Argument(help="Run's folder, file of weights, or name of a prior.")],
    n: Annotated[int, typer.Option("--n", "-n", help="Pictures.")] = 8,
    label: common.Label = None,
    guidance: common.Guidance = 1.0,
    size: common.Size = None,
    seed: common.Seed = 0,
    steps: Annotated[int, typer.Option(help="Noise levels.")] = 20,
    sampler: common.Sampler = "ddim",
    out: common.Out = None,
    batch: common.Batch = "auto",
    device: common.Device = "auto",
    prior_options: PriorOptions = None,
    precision: Precision = "fp32",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Whether a seed draws the same picture again: once more, alone, in another order, with other threads."""
    from undiffuse.config.analyse.trajectories import DeterminismConfig

    load_plugins(plugin)
    given = {
        "run": run, "n": n, "label": label, "guidance": guidance, "size": size, "seed": seed, "steps": steps,
        "sampler": sampler, "out": out, "batch": batch_size(batch), "device": device,
        "prior_options": prior_options, "precision": precision,
        "plugins": tuple(plugin),
    }  # fmt: skip
    common.analysed("determinism", DeterminismConfig, given)
