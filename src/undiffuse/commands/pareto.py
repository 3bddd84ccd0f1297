"""`undiffuse pareto`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undiffuse.commands.given import Plugins, batch_size, checked, load_plugins
from undiffuse.commands.shown import plain, show

if TYPE_CHECKING:
    from undiffuse.app.pareto import Compared

app = typer.Typer()


@app.command(
    epilog="Example: undiffuse pareto runs/students --tasks sample,sr4,deblur_gauss --calls 1,2,4,8   |   "
    "undiffuse pareto runs/students --with photo --tasks sr4 --data photos --size 128"
)
def pareto(
    students: Annotated[Path, typer.Argument(help="Folder with runs and files below it, a run, or a file.")],
    tasks: Annotated[
        str, typer.Option(help="sample, and degradations to restore from, with , or ; between them.")
    ] = "sample",
    calls: Annotated[
        str, typer.Option(help="Network calls; a prior that was made for its own levels takes those alone.")
    ] = "1,2,4,8,16",
    teacher: Annotated[
        str | None, typer.Option(help="A run, a file or a name. [whom the students' runs name]")
    ] = None,
    beside: Annotated[
        list[str], typer.Option("--with", help="Another prior, such as photo; several times for more.")
    ] = [],  # noqa: B006
    guidance: Annotated[
        float, typer.Option(help="Towards the class, of priors that have none built in; counts calls twice.")
    ] = 1.0,
    label: Annotated[str | None, typer.Option(help="Class of samples; several: 3,5. [all in turn]")] = None,
    sampler: Annotated[str, typer.Option(help="Of priors that were made for no other.")] = "dpmpp_2m",
    presets: Annotated[
        Path | None,
        typer.Option(help="samplers.yaml of `undiffuse compare`: used where it fits a prior's calls."),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Samples of each prior and number of calls.")] = 256,
    reference: Annotated[
        Path | None,
        typer.Option(help="What samples are compared with: a folder or an .npz. [what a run held out]"),
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Of samples: fid, kid. [kid,fid]")] = None,
    features: Annotated[
        str, typer.Option(help="As of `undiffuse evaluate`; auto: inception if its weights are here.")
    ] = "auto",
    weights: Annotated[Path | None, typer.Option(help="Of these features.")] = None,
    data: Annotated[
        list[str],
        typer.Option(help="Pictures to restore: a folder, a file or a pattern. [what a run held out]"),
    ] = [],  # noqa: B006
    count: Annotated[int, typer.Option(help="Of these pictures, of each entry.")] = 16,
    size: Annotated[
        int | None, typer.Option(help="Side of pictures [what the prior was trained on].")
    ] = None,
    noise: Annotated[float, typer.Option(help="Of the data, white - black = 1.")] = 0.05,
    algorithm: Annotated[str, typer.Option(help="Of restoration, name:key=value,...")] = "dpir",
    lpips: Annotated[str | None, typer.Option(help="Weights for LPIPS: FILE or FILE,FILE, or auto.")] = None,
    seed: Annotated[int, typer.Option(help="Of all noise.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder [out/pareto/NAME, or the next free NAME-2].")
    ] = None,
    batch: Annotated[str, typer.Option(help="Samples at once, or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Quality against calls, parameters, FLOP and seconds, and which priors nobody beats. A stopped run goes on."""
    from undiffuse.app.pareto import run
    from undiffuse.config.bench import split_terms
    from undiffuse.config.pareto import ParetoConfig, split_calls

    load_plugins(plugin)
    given: dict[str, Any] = {
        "students": students, "tasks": split_terms(tasks), "calls": split_calls(calls), "teacher": teacher,
        "beside": tuple(beside), "guidance": guidance, "label": label, "sampler": sampler, "presets": presets, "n": n,
        "reference": reference, "features": features, "weights": weights, "data": tuple(data), "count": count,
        "metrics": None if metrics is None else split_terms(metrics), "size": size, "noise": noise,
        "algorithm": algorithm, "lpips": lpips, "seed": seed, "out": out, "batch": batch_size(batch),
        "device": device,
        "plugins": tuple(plugin),
    }  # fmt: skip
    for result in show(run(checked(ParetoConfig, given, "pareto"))):
        _print(result)


def _print(result: "Compared") -> None:
    """The fronts against calls, for people; the others are in the report."""
    from rich.console import Console
    from rich.table import Table

    console, table = Console(highlight=False), Table(box=None)
    table.add_column("task", no_wrap=True)
    table.add_column("prior", overflow="fold")
    for name in ("calls", "GFLOP", "seconds", "value"):
        table.add_column(name, justify="right", no_wrap=True, min_width=7)
    for point in result.points:
        if "calls" in point.on:
            cost = f"{point.calls:g}", f"{point.flop / 1e9:.3g}", f"{point.seconds:.3g}"
            title = f"{point.measure.task}, {point.measure.title}"
            table.add_row(title, plain(point.prior), *cost, f"{point.value:.4g}")
    console.print("Nobody beats these in both quality and network calls:")
    console.print(table)
    for text in (result.summary, *result.notes):
        typer.echo(plain(text))
    typer.echo(plain(f"report: {result.folder / 'report.html'}"))
