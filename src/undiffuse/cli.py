"""The command line. Nothing heavy is imported before a command runs, so that --help is instant."""

import io
import os
import re
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from undiffuse import cli_bench

if TYPE_CHECKING:
    from undiffuse.app.events import Event

app = typer.Typer(
    name="undiffuse",
    help="Diffusion priors for pictures: restore photographs, check operators, list what there is.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
check_app = typer.Typer(help="Verify that something is what it says.", rich_markup_mode=None)
app.add_typer(check_app, name="check")

INTERRUPTED = 130  # exit code
LONGEST = 1200  # characters of an error
DRAWS = 8  # of a posterior

Plugins = Annotated[
    list[Path], typer.Option("--plugin", help="Python file that registers names of your own; it is run.")
]


@app.command(
    epilog="Examples: undiffuse restore photo.jpg --degrade sr4 --noise 0.02   |   "
    "undiffuse restore blurred.png --measured --degrade blur:kernel=k.png --noise auto   |   "
    "undiffuse restore old.png --measured --degrade blur:gaussian --blind --noise auto   |   "
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
        bool, typer.Option("--blind", help="Estimate the options of blur:gaussian or blur:motion.")
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
            help="A name of `undiffuse priors`, a .safetensors file, or a run's folder; auto: photo, or "
            "photo-gaussian for pictures that have not 3 channels."
        ),
    ] = "auto",
    label: Annotated[str | None, typer.Option(help="Class of a prior with classes: name or number.")] = None,
    guidance: Annotated[float, typer.Option(help="Towards that class; 1 = the conditional prior.")] = 1.0,
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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    plugin: Plugins = [],  # noqa: B006 (typer reads the default, nobody changes it)
) -> None:
    """Restore a picture, or a folder of them, from a known degradation: simulated, or as measured.

    The same command on a folder again goes on where it was stopped.
    """
    import pydantic

    from undiffuse.app.restore import Batch, run
    from undiffuse.config import RestoreConfig, explain

    _load_plugins(plugin)
    goal = goal or ("posterior" if draws is not None and draws > 1 else "psnr")
    if draws is None:
        draws = DRAWS if goal == "posterior" else 1
    given: dict[str, Any] = {
        "image": image, "degrade": degrade, "out": out, "measured": measured, "noise": _noise(noise, measured),
        "blind": blind, "reference": reference, "size": size, "prior": prior, "label": label, "guidance": guidance,
        "goal": goal, "preset": preset, "algorithm": algorithm, "steps": steps, "eta": eta, "eta_b": eta_b,
        "draws": draws, "seed": seed, "window": window, "lpips": lpips, "save": save and save.split(","),
        "batch": _batch(batch), "fleet": fleet, "workers": workers, "plugins": tuple(plugin), "device": device,
    }  # fmt: skip
    try:
        config = RestoreConfig(**given)
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, "restore", RestoreConfig)) from None
    for result in _show(run(config)):
        if isinstance(result, Batch):
            _summary_of_folder(result)
        else:
            _summary(result)


def _summary_of_folder(batch: Any) -> None:
    kept = f", {batch.kept} were there already" if batch.kept else ""
    typer.echo(_plain(f"{batch.folder}: {batch.done} restored{kept}"))
    verdicts = [row.get("verdict") for row in batch.rows]
    told = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts) if v)
    typer.echo(f"  {told}")
    if batch.failed:
        first = batch.failed[0]
        more = f" and {len(batch.failed) - 1} more" if len(batch.failed) > 1 else ""
        said = f"{len(batch.failed)} of {len(batch.rows)} pictures passed over: {first.name}{more}"
        _fail(f"{said} ({first.error})", 2)


def _batch(text: str) -> int | str:
    if text == "auto" or text.isdecimal():
        return text if text == "auto" else int(text)
    raise ValueError(f"--batch {text}; expected a whole number such as 16, or auto")


def _noise(text: str | None, measured: bool) -> float | str | None:
    if text is None:
        return "auto" if measured else None
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--noise {text}; expected a number such as 0.05, or auto") from None


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

    _load_plugins(plugin)
    asked = read_train(config, settings)
    place = out or Path("runs") / asked.name
    for folder in _show(run(asked, place, resume=resume, dry=dry_run, device=device)):
        if folder is not None:
            typer.echo(f"the run is in {folder}")


@app.command(
    epilog="Examples: undiffuse sample runs/fashion_mnist --label all --guidance 2 --n 64   |   "
    "undiffuse sample prior.safetensors --sampler ddim:eta=1 --steps 50 --grid timesteps --out out/ddpm"
)
def sample(
    prior: Annotated[str, typer.Argument(help="Run's folder, .safetensors file, or name of a prior.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the pictures [RUN/samples or samples/NAME].")
    ] = None,
    n: Annotated[int, typer.Option(help="How many; those that are there already are kept.")] = 16,
    label: Annotated[
        str | None, typer.Option(help="Class by name or number; several: 3,5; all in turn; none. [all]")
    ] = None,
    guidance: Annotated[float, typer.Option(help="Towards the class; 1 = the conditional prior.")] = 1.0,
    sampler: Annotated[
        str, typer.Option(help="Sampler, name:key=value,...; see `undiffuse samplers`.")
    ] = "dpmpp_2m",
    steps: Annotated[int, typer.Option(help="Noise levels.")] = 20,
    eta: Annotated[float | None, typer.Option(help="The sampler's eta.")] = None,
    grid: Annotated[
        str, typer.Option(help="karras, or timesteps: those of the prior's schedule.")
    ] = "karras",
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
    import pydantic

    from undiffuse.app.sample import run
    from undiffuse.config import SampleConfig, explain

    _load_plugins(plugin)
    given: dict[str, Any] = {
        "prior": prior, "out": out, "n": n, "label": label, "guidance": guidance, "sampler": sampler,
        "steps": steps, "eta": eta, "grid": grid, "clip": clip, "size": size, "low_res": low_res, "noise": noise,
        "seed": seed, "stretch": stretch, "npz": npz, "batch": _batch(batch), "device": device,
    }  # fmt: skip
    try:
        config = SampleConfig(**given)
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, "sample", SampleConfig)) from None
    for result in _show(run(config)):
        kept = f", {result.kept} kept" if result.kept else ""
        typer.echo(_plain(f"{result.folder}: {result.drawn} drawn in {result.seconds:.1f} s{kept}"))


@app.command(epilog="Example: undiffuse demo --out out/demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures and report.html.")] = Path("out/demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated noise.")] = 0,
) -> None:
    """Restore the bundled photograph from three degradations."""
    from undiffuse.app.demo import demo as run_demo

    for results in _show(run_demo(out, seed)):
        for result in results:
            _summary(result)


@app.command(epilog="Example: undiffuse degradations --plugin my_blur.py")
def degradations(plugin: Plugins = []) -> None:  # noqa: B006
    """List the degradations with their options, each with an example."""
    from undiffuse import operators  # noqa: F401 (fills the registry)
    from undiffuse.registry import OPERATORS

    _load_plugins(plugin)
    _listing(OPERATORS)


@app.command(epilog="Example: undiffuse algorithms")
def algorithms(plugin: Plugins = []) -> None:  # noqa: B006
    """List the restoration algorithms with their options."""
    from undiffuse import restore  # noqa: F401
    from undiffuse.registry import RESTORERS

    _load_plugins(plugin)
    _listing(RESTORERS)


@app.command(epilog="Example: undiffuse samplers")
def samplers(plugin: Plugins = []) -> None:  # noqa: B006
    """List the samplers with their options."""
    from undiffuse import samplers  # noqa: F401
    from undiffuse.registry import SAMPLERS

    _load_plugins(plugin)
    _listing(SAMPLERS)


@app.command(epilog="Example: undiffuse priors")
def priors(plugin: Plugins = []) -> None:  # noqa: B006
    """List the priors."""
    from undiffuse import checkpoints, priors  # noqa: F401
    from undiffuse.registry import PRIORS

    _load_plugins(plugin)
    _listing(PRIORS)


@app.command(epilog="Example: undiffuse doctor --prior photo --size 512x512")
def doctor(
    prior: Annotated[str, typer.Option(help="Prior to try: a name, a file or a run's folder.")] = "photo",
    size: Annotated[str | None, typer.Option(help="HxW or CxHxW to try it at.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Also try torch.compile: 20 seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Say what this machine has and measure what is slow on it; exit code 1 if something essential is broken."""
    import json
    from dataclasses import asdict

    try:
        from undiffuse.app.doctor import examine, table
    except (ImportError, OSError) as error:
        _fail(f"a package that everything needs cannot be imported: {error}; reinstall it", 1)

    _load_plugins(plugin)
    for findings in _show(examine(prior, size, full=full)):
        typer.echo(json.dumps([asdict(f) for f in findings], indent=1) if as_json else table(findings))
        if any(f.verdict == "broken" for f in findings):
            raise typer.Exit(1)


@check_app.command(epilog="Example: undiffuse check operator deblur_gauss --size 97x64")
def operator(
    degrade: Annotated[str, typer.Argument(help="Degradation, name:key=value,...")],
    size: Annotated[str, typer.Option(help="HxW or CxHxW of the test picture.")] = "97x64",
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Adjoint, SVD, pseudo-inverse, gain and direct comparison of a degradation; exit code 1 if one fails."""
    from undiffuse.app.check import check_operator, table

    _load_plugins(plugin)
    checks = check_operator(degrade, size)
    typer.echo(table(checks))
    if not all(check.passed for check in checks):
        raise typer.Exit(1)


cli_bench.register(app)


def _load_plugins(paths: Iterable[Path]) -> None:
    from undiffuse.registry import load_entry_points, load_plugin

    load_entry_points()
    for path in paths:
        try:
            load_plugin(path)
        except SystemExit as stop:
            raise ValueError(
                f"plugin '{path}' called exit({stop.code}); it may only register names"
            ) from None


def _listing(table: Any) -> None:
    """Every name with what it is, an example, and its options or the name whose options it fixes."""
    from undiffuse.config import describe

    for name in table:
        entry = table[name]
        typer.echo(f"{name}\n    {entry.summary}\n    example: {entry.example}")
        if entry.preset:
            base = next(other for other in table if table[other].factory is entry.factory)
            fixed = ", ".join(f"{key}={value}" for key, value in entry.preset.items())
            typer.echo(f"    is {base} with {fixed}; its other options can be given too")
            continue
        for line in describe(entry):
            typer.echo(f"        {line}")


def _show(events: "Iterable[Event]") -> "Iterable[Any]":
    """Print what happens; on a terminal a progress bar, if it takes more than a second. Yields results."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from undiffuse.app import events as kinds

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    columns += (TextColumn("left"), TimeRemainingColumn())
    bar, timer = None, None
    try:
        for event in events:
            if isinstance(event, kinds.Progress):
                if bar is None and console.is_terminal:
                    bar = Progress(*columns, console=console, transient=True)
                    bar.add_task(_plain(event.label), total=event.total)
                    timer = threading.Timer(1, bar.start)  # a step can be long: it does not wait for the next
                    timer.start()
                if bar is not None and event.done < event.total:
                    bar.update(bar.task_ids[0], completed=event.done, description=_plain(event.label))
                    continue
            if bar is not None and timer is not None:  # gone before the next line is written
                timer.cancel()
                timer.join()
                bar.stop()
                bar = None
            if isinstance(event, kinds.Note):
                console.print(_plain(event.text), markup=False, soft_wrap=True)
            elif isinstance(event, kinds.Saved):
                console.print(_plain(f"wrote {event.path}"), markup=False, soft_wrap=True)
            elif isinstance(event, kinds.Done):
                yield event.result
    finally:
        if bar is not None and timer is not None:
            timer.cancel()
            timer.join()
            bar.stop()


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
    typer.echo(f"{_plain(f'{result.name}, {result.config.degrade}')}: {quality}{result.seconds:.1f} s")
    typer.echo(f"  {result.certificate}")


def main() -> None:
    """Run; every error is one line, with exit code 2 for the user's mistakes and 1 for ours."""
    # Large tensors in large pages: a photograph of 12 megapixels takes half the time. Read when torch loads.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except typer.TyperException as error:  # usage: an unknown option, a missing argument
        context = getattr(error, "ctx", None)
        _fail(f"{error.format_message()} (see {context.command_path if context else 'undiffuse'} --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; files already written are complete", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (ValueError, OSError) as error:
        _fail(str(error), 2)
    except Exception as error:
        if os.environ.get("UNDIFFUSE_DEBUG"):
            raise
        if isinstance(error, MemoryError) or re.search("out of memory|can't allocate memory", str(error)):
            _fail("out of memory; use a smaller picture or fewer draws", 2)
        _fail(f"internal error: {type(error).__name__}: {error} (UNDIFFUSE_DEBUG=1 shows where)", 1)
    if code == INTERRUPTED:  # typer returns it for Ctrl-C, in silence
        _fail("interrupted; files already written are complete", INTERRUPTED)
    sys.exit(code or 0)


def _fail(message: str, code: int) -> NoReturn:
    text = _plain(message)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    sys.stderr.write(f"error: {text}\n")
    sys.exit(code)


def _plain(text: str) -> str:
    """One line without control characters: names of files can hold anything, also what moves the cursor."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


if __name__ == "__main__":
    main()
