"""`undiffuse analyse`: what priors do on their way from noise to a picture."""

from functools import partial
from typing import Any

import typer

from undiffuse.commands.from_model import command
from undiffuse.commands.shown import plain, show
from undiffuse.config.analyse.attention import AttentionConfig
from undiffuse.config.analyse.common import ReportConfig
from undiffuse.config.analyse.everything import AllConfig
from undiffuse.config.analyse.guidance import GuidanceConfig
from undiffuse.config.analyse.noise import NoiseConfig
from undiffuse.config.analyse.restore import RestoreAnalysisConfig
from undiffuse.config.analyse.sizes import SizesConfig
from undiffuse.config.analyse.trajectories import DeterminismConfig, TrajectoriesConfig

app = typer.Typer()
analyse = typer.Typer(invoke_without_command=True)
app.add_typer(analyse, name="analyse")
part = partial(command, analyse, of="analyse")


@analyse.callback()
def parts(context: typer.Context) -> None:
    """Analyse priors: trajectories, guidance, noise, attention, sizes; each as a report of figures and tables."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@part(TrajectoriesConfig, example="undiffuse analyse trajectories runs/teacher runs/student --embed pca,umap")
def trajectories(config: TrajectoriesConfig) -> None:
    """Follow priors from the same noise to pictures: shape of the paths, distance by noise level, embeddings."""
    _analyse("trajectories", config)


@part(DeterminismConfig, example="undiffuse analyse determinism runs/fashion_mnist --device cuda")
def determinism(config: DeterminismConfig) -> None:
    """Whether a seed draws the same picture again: once more, alone, in another order, with other threads."""
    _analyse("determinism", config)


@part(
    GuidanceConfig,
    example="undiffuse analyse guidance runs/fashion_mnist --scales 1,3,5,7 --against runs/student",
)
def guidance(config: GuidanceConfig) -> None:
    """The same noise at several scales of guidance: trajectories, pictures, saturation, diversity, class accuracy."""
    _analyse("guidance", config)


@part(
    SizesConfig,
    example="undiffuse analyse sizes runs/students/* --teacher runs/fashion_mnist --focus 0.1-0.5",
)
def sizes(config: SizesConfig) -> None:
    """What students of several sizes give for what they cost: parameters, FLOP, seconds."""
    _analyse("sizes", config)


@part(
    AttentionConfig,
    example="undiffuse analyse attention 256x256_diffusion_uncond --query 128:128,40:200 --n 1",
)
def attention(config: AttentionConfig) -> None:
    """Attention of a network over the picture, by layer, head and noise level, on the way from noise to a picture."""
    _analyse("attention", config)


@part(NoiseConfig, example="undiffuse analyse noise runs/fashion_mnist runs/student --n 128")
def noise(config: NoiseConfig) -> None:
    """Errors of what priors say of the noise, by its level: size, bias, calibration, spectrum, whiteness."""
    _analyse("noise", config)


@part(RestoreAnalysisConfig, example="undiffuse analyse restore out/photo --every step")
def restore(config: RestoreAnalysisConfig) -> None:
    """Follow a restoration: what the data did and what the prior did, step by step, by band of singular values."""
    _analyse("restore", config)


@part(
    AllConfig, name="all", example="undiffuse analyse all runs/fashion_mnist runs/students/* --skip attention"
)
def everything(config: AllConfig) -> None:
    """Every analysis that applies, in one report; a part that fails is told there, and the rest goes on."""
    from undiffuse.app.analyse.everything import run

    for result in show(run(config)):
        _print(result)
        if result.code:
            raise typer.Exit(result.code)


def _analyse(name: str, config: ReportConfig) -> None:
    from undiffuse.app.analyse.run import run

    for result in show(run(name, config)):
        _print(result)


def _print(result: Any) -> None:
    """Of each section what it found, and where the report is."""
    for section in result.sections:
        typer.echo(plain(f"{section.title}: {section.failed or section.summary}"))
        for note in section.notes:
            typer.echo(plain(f"  {note}"))
    typer.echo(plain(f"report: {result.folder / 'report.html'}"))
