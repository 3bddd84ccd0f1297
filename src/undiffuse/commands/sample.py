"""`undiffuse sample`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.commands.given import (
    Plugins,
    Precision,
    PriorOptions,
    batch_size,
    checked,
    interval,
    load_plugins,
    seed_or_seeds,
    two_ends,
)
from undiffuse.commands.groups import Grouped
from undiffuse.commands.shown import plain, show

app = typer.Typer()
START, GUIDANCE, STEPS, FILES = "Start", "Guidance", "Steps", "Files"


@app.command(
    cls=Grouped,
    epilog="Examples: undiffuse sample runs/fashion_mnist --label all --guidance 2 --n 64   |   "
    "undiffuse sample prior.safetensors --sampler ddim:eta=1 --steps 50 --grid timesteps --out out/ddpm",
)
def sample(
    prior: Annotated[str, typer.Argument(help="Run's folder, file of weights, or name of a prior.")],
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            "-n",  # torchrun takes --n for an option of its own, which it finds ambiguous
            help="How many; those that are there already are kept. [16, or as many as seeds]",
        ),
    ] = None,
    seed: Annotated[
        str, typer.Option(help="Same seed and number, same picture; 0-63: a seed for each picture.")
    ] = "0",
    size: Annotated[str | None, typer.Option(help="HxW [what the prior was trained on].")] = None,
    low_res: Annotated[
        Path | None, typer.Option("--low-res", help="Picture to enlarge, for super-resolution priors.")
    ] = None,
    noise: Annotated[float, typer.Option(help="Noise of that picture, white - black = 1.")] = 0.0,
    start: Annotated[
        Path | None, typer.Option(help="Picture to begin at, with noise added.", rich_help_panel=START)
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="Of that noise: 1 leaves nothing of the picture. [0.5]", rich_help_panel=START),
    ] = None,
    invert: Annotated[
        Path | None,
        typer.Option(help="Picture to bring back to its noise, and to draw again.", rich_help_panel=START),
    ] = None,
    interpolate: Annotated[
        str | None,
        typer.Option(help="A,B: two seeds, or two pictures, and a row between them.", rich_help_panel=START),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Class by name or number; several: 3,5; all in turn; none. [all]", rich_help_panel=GUIDANCE
        ),
    ] = None,
    guidance: Annotated[
        float, typer.Option(help="Towards the class; 1 = the conditional prior.", rich_help_panel=GUIDANCE)
    ] = 1.0,
    classifier: Annotated[
        str | None,
        typer.Option(
            help="Classifier of noisy pictures that guides towards the class: file or published name.",
            rich_help_panel=GUIDANCE,
        ),
    ] = None,
    classifier_scale: Annotated[
        float,
        typer.Option("--classifier-scale", help="How strongly; 1 = Bayes' rule.", rich_help_panel=GUIDANCE),
    ] = 1.0,
    guidance_interval: Annotated[
        str | None,
        typer.Option(help="LOW,HIGH: guided for sigma in between only.", rich_help_panel=GUIDANCE),
    ] = None,
    autoguidance: Annotated[
        str | None,
        typer.Option(
            help="A weaker prior (file, run or name) to be guided away from.", rich_help_panel=GUIDANCE
        ),
    ] = None,
    autoguidance_options: Annotated[
        str | None,
        typer.Option(help="Facts that its file does not tell: key=value,...", rich_help_panel=GUIDANCE),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="Sampler, name:key=value,...; see `undiffuse samplers`. [dpmpp_2m; heun to invert]",
            rich_help_panel=STEPS,
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Noise levels. [20]", rich_help_panel=STEPS)] = None,
    eta: Annotated[float | None, typer.Option(help="The sampler's eta.", rich_help_panel=STEPS)] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            help="karras, or of the prior's schedule: timesteps, leading, linspace. [the sampler's own]",
            rich_help_panel=STEPS,
        ),
    ] = None,
    preset: Annotated[
        Path | None,
        typer.Option(help="File of presets, as `undiffuse compare --presets` writes.", rich_help_panel=STEPS),
    ] = None,
    clip: Annotated[
        bool,
        typer.Option("--clip", help="Hold every estimate within black and white.", rich_help_panel=STEPS),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the pictures [RUN/samples or samples/NAME].", rich_help_panel=FILES),
    ] = None,
    stretch: Annotated[
        bool,
        typer.Option(
            "--stretch", help="Scale each picture's values to what can be seen.", rich_help_panel=FILES
        ),
    ] = False,
    npz: Annotated[
        bool,
        typer.Option(
            "--npz", help="Also samples.npz: arr_0 of uint8, arr_1 the labels.", rich_help_panel=FILES
        ),
    ] = False,
    path: Annotated[
        str | None,
        typer.Option(
            help="Also the way from noise to the first pictures: gif, strip or mp4.", rich_help_panel=FILES
        ),
    ] = None,
    batch: Annotated[
        str, typer.Option(help="Pictures at once, or auto: what half of the memory holds.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network first; on a CPU no faster.")
    ] = False,
    prior_options: PriorOptions = None,
    precision: Precision = "fp32",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Draw pictures from a prior. The same command again goes on where it was stopped.

    Several processes: torchrun --nproc-per-node 2 -m undiffuse sample RUN -n 50000, or accelerate launch; each
    draws its share.
    """
    from undiffuse.app.sample import run
    from undiffuse.config import SampleConfig

    load_plugins(plugin)
    given: dict[str, Any] = {
        "prior": prior, "prior_options": prior_options, "precision": precision,
        "out": out, "n": n, "label": label, "guidance": guidance,
        "guidance_interval": interval(guidance_interval), "autoguidance": autoguidance,
        "autoguidance_options": autoguidance_options, "classifier": classifier,
        "classifier_scale": classifier_scale, "sampler": sampler, "steps": steps, "eta": eta,
        "grid": grid, "preset": preset, "clip": clip, "size": size, "low_res": low_res,
        "start": start, "strength": strength, "invert": invert, "interpolate": two_ends(interpolate),
        "noise": noise, "seed": seed_or_seeds(seed), "stretch": stretch, "npz": npz, "path": path,
        "batch": batch_size(batch), "device": device, "compile": compile,
    }  # fmt: skip
    config = checked(SampleConfig, {k: v for k, v in given.items() if v is not None}, "sample")
    for result in show(run(config)):
        kept = f", {result.kept} kept" if result.kept else ""
        values = f"; values from {result.low:.3g} to {result.high:.3g}, black is -1 and white 1"
        typer.echo(plain(f"{result.folder}: {result.drawn} drawn in {result.seconds:.1f} s{kept}{values}"))
