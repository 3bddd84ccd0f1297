"""`undiffuse restore` and `undiffuse demo`."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.commands.from_model import command
from undiffuse.commands.shown import fail, plain, show
from undiffuse.config.restore import RestoreConfig

app = typer.Typer()


@command(
    app,
    RestoreConfig,
    example="undiffuse restore photo.jpg --degrade sr4 --noise 0.02   |   "
    "undiffuse restore blurred.png --measured --degrade blur:kernel=k.png --noise auto   |   "
    "undiffuse restore old.png --measured --degrade blur --blind --noise auto   |   "
    "undiffuse restore scans/ --measured --degrade inp:mask=scratches.png --out restored/",
)
def restore(
    config: RestoreConfig,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, time one step, write nothing.")
    ] = False,
) -> None:
    """Restore a picture, or a folder of them, from a known degradation: simulated, or as measured.

    The same command on a folder again goes on where it was stopped.
    """
    from undiffuse.app.restore import Batch, Forecast, run

    for result in show(run(config, dry=dry_run)):
        if isinstance(result, Forecast):
            for line in result.lines():
                typer.echo(plain(line))
        elif isinstance(result, Batch):
            _summary_of_folder(result)
        else:
            _summary(result)


@app.command(epilog="Example: undiffuse demo --out out/demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and report.html.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated noise.")] = 0,
) -> None:
    """Restore the bundled photograph from three degradations."""
    from undiffuse.app.demo import demo as run_demo

    for results in show(run_demo(out, seed)):
        for result in results:
            _summary(result)


def _summary(result: Any) -> None:
    metrics = result.metrics
    quality = ""
    if "psnr" in metrics:
        before = metrics.get("psnr_degraded", metrics.get("psnr_pinv"))
        quality = (
            f"PSNR {metrics['psnr']:.2f} dB"
            + (f" (measured {before:.2f})" if before is not None else "")
            + ", "
        )
        quality += f"SSIM {metrics['ssim']:.3f}, " if "ssim" in metrics else ""
    typer.echo(f"{plain(f'{result.name}, {result.config.degrade}')}: {quality}{result.seconds:.1f} s")
    typer.echo(f"  {result.certificate}")


def _summary_of_folder(batch: Any) -> None:
    kept = f", {batch.kept} were there already" if batch.kept else ""
    typer.echo(plain(f"{batch.folder}: {batch.done} restored{kept}"))
    verdicts = Counter(row["verdict"] for row in batch.rows if row.get("verdict"))
    told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    typer.echo(f"  {told or 'no picture is restored, so that there is nothing to judge'}")
    if batch.failed:
        first = batch.failed[0]
        more = f" and {len(batch.failed) - 1} more" if len(batch.failed) > 1 else ""
        said = f"{len(batch.failed)} of {len(batch.rows)} pictures passed over: {first.name}{more}"
        fail(f"{said} ({first.error})", 2)
