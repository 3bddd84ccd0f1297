"""`undiffuse analyse all`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from undiffuse.commands.analyse import common
from undiffuse.commands.given import Plugins, Precision, PriorOptions, batch_size, checked, load_plugins

if TYPE_CHECKING:
    from undiffuse.app.events import Event

app = typer.Typer()


@app.command(
    "all", epilog="Example: undiffuse analyse all runs/fashion_mnist runs/students/* --skip attention"
)
def everything(
    run: Annotated[str, typer.Argument(help="Run's folder, file of weights, or name of a prior.")],
    students: Annotated[list[str] | None, typer.Argument(help="Priors that are compared with it.")] = None,
    skip: Annotated[str, typer.Option(help="Parts to leave out, with commas, or none.")] = "none",
    embed: Annotated[str, typer.Option(help="Of trajectories: pca,tsne,umap.")] = "pca",
    scales: Annotated[str, typer.Option(help="Of guidance.")] = "1,3,5,7",
    classifier: Annotated[
        Path | None, typer.Option(help="That judges guided pictures; see `undiffuse analyse guidance`.")
    ] = None,
    restored: Annotated[
        Path | None, typer.Option(help="OUT/NAME of `undiffuse restore`, to be followed as well.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Clean pictures, for noise and sizes. [what the run held out]")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Dataset, such as idx:split=test. [folder]")] = None,
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
    """Every analysis that applies, in one report; a part that fails is told there, and the rest goes on."""
    from undiffuse.app.analyse.everything import run as run_all
    from undiffuse.config.analyse.everything import AllConfig

    load_plugins(plugin)
    given = {
        "run": run, "students": tuple(students or ()), "skip": common.words(skip), "embed": common.words(embed),
        "scales": tuple(scales.split(",")), "classifier": classifier, "restored": restored, "data": data,
        "source": source, "n": n, "label": label, "guidance": guidance, "size": size, "seed": seed, "steps": steps,
        "sampler": sampler, "out": out, "batch": batch_size(batch), "device": device,
        "prior_options": prior_options, "precision": precision,
        "plugins": tuple(plugin),
    }  # fmt: skip
    config = checked(AllConfig, {k: v for k, v in given.items() if v is not None}, "analyse all")
    codes: list[int] = []
    common.say(_remembered(run_all(config), codes))
    if codes[-1]:
        raise typer.Exit(codes[-1])


def _remembered(events: "Iterable[Event]", codes: list[int]) -> "Iterator[Event]":
    """The same events; the exit code of the result goes to `codes`."""
    from undiffuse.app.events import Done

    for event in events:
        if isinstance(event, Done):
            codes.append(event.result.code)
        yield event
