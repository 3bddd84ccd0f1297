"""`undiffuse train` and `undiffuse sample`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.commands.given import Plugins, Precision, PriorOptions, batch_size, checked, load_plugins
from undiffuse.commands.shown import plain, show

app = typer.Typer()


@app.command(
    epilog="Examples: undiffuse train configs/train/fashion_mnist.yaml   |   "
    "undiffuse train configs/train/photos64.yaml --set train.steps=50000 --resume"
)
def train(
    config: Annotated[Path, typer.Argument(help="YAML file; the ready ones are in configs/train/.")],
    settings: Annotated[
        list[str], typer.Option("--set", help="section.key=value over the file; may be given several times.")
    ] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder of the run [runs/NAME].")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in that folder.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, time a few steps, write nothing.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto or cpu.")] = "auto",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Train a prior. Several processes: accelerate launch -m undiffuse train CONFIG, or torchrun."""
    from undiffuse.app.train import run
    from undiffuse.config.train import read_train

    load_plugins(plugin)
    asked = read_train(config, settings)
    place = out or Path("runs") / asked.name
    for folder in show(run(asked, place, resume=resume, dry=dry_run, device=device)):
        if folder is not None:
            typer.echo(f"the run is in {folder}")


@app.command(
    epilog="Examples: undiffuse sample runs/fashion_mnist --label all --guidance 2 --n 64   |   "
    "undiffuse sample prior.safetensors --sampler ddim:eta=1 --steps 50 --grid timesteps --out out/ddpm"
)
def sample(
    prior: Annotated[str, typer.Argument(help="Run's folder, file of weights, or name of a prior.")],
    prior_options: PriorOptions = None,
    precision: Precision = "fp32",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the pictures [RUN/samples or samples/NAME].")
    ] = None,
    n: Annotated[int, typer.Option(help="How many; those that are there already are kept.")] = 16,
    label: Annotated[
        str | None, typer.Option(help="Class by name or number; several: 3,5; all in turn; none. [all]")
    ] = None,
    guidance: Annotated[float, typer.Option(help="Towards the class; 1 = the conditional prior.")] = 1.0,
    sampler: Annotated[
        str | None,
        typer.Option(help="Sampler, name:key=value,...; see `undiffuse samplers`. [dpmpp_2m]"),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Noise levels [20]; with --preset the calls of the one to use.")
    ] = None,
    eta: Annotated[float | None, typer.Option(help="The sampler's eta.")] = None,
    grid: Annotated[
        str | None,
        typer.Option(help="karras, or of the prior's schedule: timesteps, leading, linspace. [karras]"),
    ] = None,
    preset: Annotated[
        Path | None, typer.Option(help="Sampler and levels from a file of `undiffuse compare --presets`.")
    ] = None,
    clip: Annotated[bool, typer.Option("--clip", help="Hold every estimate within black and white.")] = False,
    size: Annotated[str | None, typer.Option(help="HxW [what the prior was trained on].")] = None,
    low_res: Annotated[
        Path | None, typer.Option("--low-res", help="Picture to enlarge, for super-resolution priors.")
    ] = None,
    noise: Annotated[float, typer.Option(help="Noise of that picture, white - black = 1.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Same seed and number, same picture.")] = 0,
    stretch: Annotated[
        bool, typer.Option("--stretch", help="Scale each picture's values to what can be seen.")
    ] = False,
    npz: Annotated[bool, typer.Option("--npz", help="Also samples.npz: arr_0 of uint8, labels.")] = False,
    batch: Annotated[
        str, typer.Option(help="Pictures at once, or auto: what half of the memory holds.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Draw pictures from a prior. The same command again goes on where it was stopped."""
    from undiffuse.app.sample import run
    from undiffuse.config import SampleConfig

    load_plugins(plugin)
    given: dict[str, Any] = {
        "prior": prior, "prior_options": prior_options, "precision": precision,
        "out": out, "n": n, "label": label, "guidance": guidance, "sampler": sampler,
        "steps": steps, "eta": eta, "grid": grid, "preset": preset, "clip": clip, "size": size, "low_res": low_res,
        "noise": noise, "seed": seed, "stretch": stretch, "npz": npz, "batch": batch_size(batch), "device": device,
    }  # fmt: skip
    config = checked(SampleConfig, given, "sample")
    for result in show(run(config)):
        kept = f", {result.kept} kept" if result.kept else ""
        typer.echo(plain(f"{result.folder}: {result.drawn} drawn in {result.seconds:.1f} s{kept}"))
