"""`undiffuse analyse sizes`."""

from typing import Annotated

import typer

from undiffuse.commands.analyse import common
from undiffuse.commands.given import Plugins, Precision, PriorOptions, batch_size, load_plugins

app = typer.Typer()


@app.command(
    epilog="Example: undiffuse analyse sizes runs/students/* --teacher runs/fashion_mnist --focus 0.1-0.5"
)
def sizes(
    students: Annotated[
        list[str], typer.Argument(help="Runs' folders, files of weights, or names of priors.")
    ],
    teacher: Annotated[
        str | None, typer.Option(help="[whom the students' folders name, else the largest]")
    ] = None,
    focus: Annotated[
        str | None, typer.Option(help="Sizes over the teacher's to look at closely: 0.1-0.5.")
    ] = None,
    choose: Annotated[
        str | None, typer.Option(help="Sizes to compare: 0.1,0.3. [three over the focus]")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Clean pictures: a folder, or what --source reads. [what the teacher's run held out]"
        ),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Dataset, such as idx:split=test. [folder]")] = None,
    features: Annotated[
        str, typer.Option(help="Of samples and data: pixels:8, inception, dinov2, or a file.")
    ] = "pixels:8",
    repeats: Annotated[int, typer.Option(help="Calls that are timed.")] = 5,
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
    """What students of several sizes give for what they cost: parameters, FLOP, seconds."""
    from undiffuse.config.analyse.sizes import SizesConfig

    load_plugins(plugin)
    given = {
        "students": tuple(students), "teacher": teacher, "focus": focus, "data": data, "source": source,
        "choose": None if choose is None else tuple(choose.split(",")), "features": features, "repeats": repeats,
        "n": n, "label": label, "guidance": guidance, "size": size, "seed": seed, "steps": steps, "sampler": sampler,
        "out": out, "batch": batch_size(batch), "device": device, "prior_options": prior_options,
        "precision": precision,
        "plugins": tuple(plugin),
    }  # fmt: skip
    common.analysed("sizes", SizesConfig, given)
