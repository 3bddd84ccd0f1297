"""`undiffuse bench` and `undiffuse tune`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undiffuse.commands.given import Plugins, Precision, PriorOptions, checked, load_plugins
from undiffuse.commands.shown import show

if TYPE_CHECKING:
    from undiffuse.app.bench import Benched

Data = Annotated[
    list[str], typer.Option(help="Folder of clean pictures, a picture, or a pattern; several times for more.")
]
METRICS = {"psnr": "PSNR", "ssim": "SSIM", "lpips": "LPIPS", "spectrum": "spectrum", "coverage90": "coverage"}


app = typer.Typer()


@app.command(
    epilog='Example: undiffuse bench --data photos --tasks "sr4;inp" --algorithms "dpir@5;ddrm" --noise 0,0.05'
)
def bench(
    data: Data,
    tasks: Annotated[
        str, typer.Option(help="Degradations with ; or , between them.")
    ] = "sr4;deblur_gauss;inp",
    algorithms: Annotated[
        str, typer.Option(help="Algorithms with ; between them; NAME@N takes N calls.")
    ] = "dpir;ddrm;diffpir",
    baselines: Annotated[
        str, typer.Option(help="pinv, bicubic, lanczos, wiener, tv, bm3d, bm3d_deblur; auto, all or none.")
    ] = "auto",
    noise: Annotated[str, typer.Option(help="Noise levels with commas, white - black = 1.")] = "0,0.05",
    prior: Annotated[str, typer.Option(help="Name, file of weights or run's folder.")] = "photo",
    prior_options: PriorOptions = None,
    precision: Precision = "fp32",
    calls: Annotated[int, typer.Option(help="Network calls of each draw.")] = 20,
    draws: Annotated[
        int, typer.Option(help="Draws; above 1 their mean is compared, and coverage is found.")
    ] = 1,
    count: Annotated[int, typer.Option(help="Pictures of each --data.")] = 8,
    size: Annotated[int, typer.Option(help="Side of the centre crop.")] = 256,
    reference: Annotated[
        str | None, typer.Option(help="Method that the others are compared with [the first].")
    ] = None,
    lpips: Annotated[
        str | None, typer.Option(help="Weights of LPIPS: FILE, FILE,FILE, or auto. [without]")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder; what is there is kept and added to.")] = Path(
        "out/bench"
    ),
    report: Annotated[bool, typer.Option("--report", help="Also report.html, one file.")] = False,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    plugin: Plugins = [],  # noqa: B006 (typer reads the default, nobody changes it)
) -> None:
    """Compare algorithms on stored measurements. The same command again goes on where it was stopped."""
    from undiffuse.app.bench import run
    from undiffuse.config.bench import BenchConfig, split_numbers, split_terms

    load_plugins(plugin)
    given: dict[str, Any] = {
        "data": tuple(data), "tasks": split_terms(tasks), "algorithms": split_terms(algorithms),
        "baselines": split_terms(baselines), "noise": split_numbers(noise, "--noise"), "prior": prior,
        "prior_options": prior_options, "precision": precision,
        "calls": calls, "draws": draws, "count": count, "size": size, "reference": reference, "lpips": lpips,
        "out": out, "report": report, "seed": seed, "device": device,
    }  # fmt: skip
    for result in show(run(checked(BenchConfig, given, "bench"))):
        _print(result)


@app.command(epilog="Example: undiffuse tune sr4 --data photos --noise 0.05 --calls 5 --out preset.yaml")
def tune(
    task: Annotated[str, typer.Argument(help="Degradation, name:key=value,...")],
    data: Data,
    noise: Annotated[float, typer.Option(help="Noise level, white - black = 1.")] = 0.0,
    calls: Annotated[int, typer.Option(help="Network calls, and so levels of the grid.")] = 5,
    algorithm: Annotated[str, typer.Option(help="Algorithm, name:key=value,...")] = "dpir",
    prior: Annotated[str, typer.Option(help="Name, file of weights or run's folder.")] = "photo",
    prior_options: PriorOptions = None,
    precision: Precision = "fp32",
    count: Annotated[
        int, typer.Option(help="Pictures of each --data: half to search on, half to judge.")
    ] = 8,
    size: Annotated[int, typer.Option(help="Side of the centre crop.")] = 256,
    rounds: Annotated[int, typer.Option(help="Of the search, each with half the step.")] = 6,
    out: Annotated[Path, typer.Option(help="The preset; what was tried is kept beside it.")] = Path(
        "preset.yaml"
    ),
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Find the noise levels that suit a task best, and write them as a preset if they are better elsewhere, too."""
    from undiffuse.app.bench.tune import run
    from undiffuse.config.bench import TuneConfig

    load_plugins(plugin)
    given: dict[str, Any] = {
        "task": task, "data": tuple(data), "noise": noise, "calls": calls, "algorithm": algorithm,
        "prior": prior, "prior_options": prior_options, "precision": precision,
        "count": count, "size": size, "rounds": rounds, "out": out, "seed": seed,
        "device": device,
    }  # fmt: skip
    for result in show(run(checked(TuneConfig, given, "tune"))):
        typer.echo(str(result))


def _print(result: "Benched") -> None:
    """The table, one part for each task and noise, and what was not possible."""
    from itertools import groupby

    from rich.console import Console
    from rich.table import Table

    summary = result.summary
    known = [name for name in METRICS if any(name in line.means for line in summary.lines)]
    console = Console(highlight=False)
    for (task, noise), lines in groupby(summary.lines, key=lambda line: (line.task, line.noise)):
        table = Table(title=f"{task}, noise {noise:g}", title_justify="left", box=None)
        table.add_column("method", no_wrap=True)
        for name in (*(METRICS[name] for name in known), "dB to reference", "n", "seconds", "calls", "MB"):
            table.add_column(name, justify="right", no_wrap=True)
        for line in lines:
            figures = [f"{line.means[name]:.3f}" if name in line.means else "" for name in known]
            table.add_row(line.method, *figures, *line.cost())
        console.print(table)
    console.print(
        f"Means over n pictures; difference in dB to {summary.reference} on the same measurements, with its 95 % "
        f"interval. Seconds of wall time; MB: {result.memory}.",
        soft_wrap=True,
    )
    for text in summary.missing(result.asked):
        console.print(text, markup=False, soft_wrap=True)
    typer.echo(f"{result.table}: {result.measured} rows measured, {result.kept} kept")
