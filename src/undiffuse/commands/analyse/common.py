"""Options that the parts of `undiffuse analyse` share, and what is printed at the end."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from undiffuse.commands.given import checked
from undiffuse.commands.shown import plain, show

if TYPE_CHECKING:
    from undiffuse.app.events import Event

Pictures = Annotated[int, typer.Option("--n", "-n", help="Pictures of each prior.")]
Seed = Annotated[int, typer.Option(help="Of the noise, as in `undiffuse sample`.")]
Steps = Annotated[int, typer.Option(help="Noise levels, the same for all priors.")]
Sampler = Annotated[str, typer.Option(help="Sampler, name:key=value,...; see `undiffuse samplers`.")]
Label = Annotated[
    str | None, typer.Option(help="Class by name or number; several: 3,5; none: no class. [all in turn]")
]
Guidance = Annotated[float, typer.Option(help="Towards the class; 1 = the conditional prior.")]
Size = Annotated[str | None, typer.Option(help="HxW [what the first prior was trained on].")]
Out = Annotated[Path | None, typer.Option(help="Folder [out/analyse/NAME, or the next free NAME-2].")]
Batch = Annotated[str, typer.Option(help="Pictures at once, or auto.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]


def words(text: str) -> tuple[str, ...]:
    """`pca,tsne` -> its words; none for 'none'."""
    return () if text.strip() == "none" else tuple(word.strip() for word in text.split(","))


def numbers(option: str, text: str) -> tuple[int, ...]:
    """`2,3` -> whole numbers."""
    if not all(word.isdecimal() and word.isascii() for word in words(text)):
        raise ValueError(f"--{option} {text[:80]}; expected whole numbers with commas, such as 2,3")
    return tuple(int(word) for word in words(text))


def analysed(name: str, model: Any, given: dict[str, Any]) -> None:
    """Check the settings, run the analysis `name` and say what it found."""
    from undiffuse.app.analyse.run import run

    config = checked(model, {k: v for k, v in given.items() if v is not None}, f"analyse {name}")
    say(run(name, config))


def say(events: "Iterable[Event]") -> None:
    """What happens, and of each section what it found."""
    for result in show(events):
        for section in result.sections:
            typer.echo(plain(f"{section.title}: {section.failed or section.summary}"))
            for note in section.notes:
                typer.echo(plain(f"  {note}"))
        typer.echo(plain(f"report: {result.folder / 'report.html'}"))
