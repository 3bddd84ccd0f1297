"""`undiffuse restore` and `undiffuse demo`."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.commands.given import (
    Plugins,
    Precision,
    PriorOptions,
    batch_size,
    checked,
    load_plugins,
    noise_level,
)
from undiffuse.commands.shown import fail, plain, show

app = typer.Typer()
DRAWS = 8  # of a posterior


@app.command(
    epilog="Examples: undiffuse restore photo.jpg --degrade sr4 --noise 0.02   |   "
    "undiffuse restore blurred.png --measured --degrade blur:kernel=k.png --noise auto   |   "
    "undiffuse restore old.png --measured --degrade blur --blind --noise auto   |   "
    "undiffuse restore scans/ --measured --degrade inp:mask=scratches.png --out restored/"
)
def restore(
    image: Annotated[
        Path, typer.Argument(help="Picture (PNG, JPEG, WebP, TIFF or .npy), or a folder of them.")
    ],
    degrade: Annotated[
        str, typer.Option(help="Degradation, name:key=value,...; see `undiffuse degradations`.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out"),
    measured: Annotated[
        bool, typer.Option("--measured", help="The picture is the bad one; no clean one is needed.")
    ] = False,
    noise: Annotated[
        str | None, typer.Option(help="Noise level, white - black = 1; or auto (default with --measured).")
    ] = None,
    blind: Annotated[
        bool,
        typer.Option(
            "--blind", help="Estimate the blur: blur of any kind, or blur:gaussian, :disk, :motion."
        ),
    ] = False,
    reference: Annotated[
        Path | None, typer.Option(help="Clean picture (or folder of them) to compare with, for --measured.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="HxW or CxHxW of the clean picture, for --measured.")
    ] = None,
    prior: Annotated[
        str,
        typer.Option(
            help="A name of `undiffuse priors`, a file of weights, or a run's folder; auto: photo, photo-fast "
            "where it is as good, photo-gaussian for pictures that have not 3 channels."
        ),
    ] = "auto",
    prior_options: PriorOptions = None,
    precision: Precision = "fp32",
    label: Annotated[str | None, typer.Option(help="Class of a prior with classes: name or number.")] = None,
    guidance: Annotated[float, typer.Option(help="Towards that class; 1 = the conditional prior.")] = 1.0,
    classifier: Annotated[
        str | None,
        typer.Option(
            help="Classifier of noisy pictures that guides towards the class: file or published name."
        ),
    ] = None,
    classifier_scale: Annotated[
        float, typer.Option("--classifier-scale", help="How strongly; 1 = Bayes' rule.")
    ] = 1.0,
    goal: Annotated[
        str | None,
        typer.Option(
            help="psnr: closest to the truth; perceptual: natural detail; posterior: draws and an error bar "
            "[psnr, or posterior with --draws]."
        ),
    ] = None,
    preset: Annotated[Path | None, typer.Option(help="File of presets, as `undiffuse tune` writes.")] = None,
    algorithm: Annotated[
        str,
        typer.Option(help="Algorithm, name:key=value,...; see `undiffuse algorithms`; auto: by the goal."),
    ] = "auto",
    steps: Annotated[
        int | None, typer.Option(help="Noise levels [20; 1 where the posterior mean is closed].")
    ] = None,
    eta: Annotated[float | None, typer.Option(help="The algorithm's eta.")] = None,
    eta_b: Annotated[float | None, typer.Option("--eta-b", help="DDRM's eta_b.")] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            help="Posterior draws; above 1: mean, deviation and quantiles [1; 8 for --goal posterior]."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed and file name, same pixels.")] = 0,
    window: Annotated[
        int | None,
        typer.Option(help="Side of the windows the prior sees [by its kind and the picture's size]."),
    ] = None,
    lpips: Annotated[
        str | None, typer.Option(help="Weights of LPIPS: AlexNet's .pth and the heads', FILE,FILE.")
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            help="Files to write, such as restored,deviation,draws [all but draws; of a folder the answers only]."
        ),
    ] = None,
    batch: Annotated[str, typer.Option(help="Draws and pictures at once, or auto.")] = "auto",
    fleet: Annotated[
        str | None, typer.Option(help="Of a folder: the address of a Ray cluster, or local.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Of the fleet [one a GPU, or one a core].")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, time one step, write nothing.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    plugin: Plugins = [],  # noqa: B006 (typer reads the default, nobody changes it)
) -> None:
    """Restore a picture, or a folder of them, from a known degradation: simulated, or as measured.

    The same command on a folder again goes on where it was stopped.
    """
    from undiffuse.app.restore import Batch, Forecast, run
    from undiffuse.config import RestoreConfig

    load_plugins(plugin)
    goal = goal or ("posterior" if draws is not None and draws > 1 else "psnr")
    if draws is None:
        draws = DRAWS if goal == "posterior" else 1
    given: dict[str, Any] = {
        "image": image, "degrade": degrade, "out": out, "measured": measured, "noise": noise_level(noise, measured),
        "blind": blind, "reference": reference, "size": size, "prior": prior,
        "prior_options": prior_options, "precision": precision, "label": label, "guidance": guidance,
        "classifier": classifier, "classifier_scale": classifier_scale, "goal": goal, "preset": preset,
        "algorithm": algorithm, "steps": steps, "eta": eta, "eta_b": eta_b, "draws": draws, "seed": seed,
        "window": window, "lpips": lpips, "save": save and save.split(","), "batch": batch_size(batch),
        "fleet": fleet, "workers": workers, "plugins": tuple(plugin), "device": device,
    }  # fmt: skip
    config = checked(RestoreConfig, given, "restore")
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
