"""What a user gives: plugins, numbers or words, and settings that a model checks."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

Plugins = Annotated[
    list[Path], typer.Option("--plugin", help="Python file that registers names of your own; it is run.")
]


PriorOptions = Annotated[
    str | None,
    typer.Option(
        "--prior-options",
        help="What a file from outside does not tell, such as heads=4,schedule=linear; see docs/checkpoints.md.",
    ),
]
Precision = Annotated[
    str, typer.Option(help="Of the prior's network: fp32, bf16 or fp16; half is slow on most CPUs.")
]


def checked(model: Any, given: dict[str, Any], command: str) -> Any:
    """The settings as a `model`; ValueError in one line for what is wrong with them."""
    import pydantic

    from undiffuse.config import explain

    try:
        return model(**given)
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, command, model)) from None


def load_plugins(paths: Iterable[Path]) -> None:
    """Run files that register names, after those of installed packages. ValueError for one that fails."""
    from undiffuse.registry import load_entry_points

    load_entry_points()
    load_files(paths)


def load_files(paths: Iterable[Path]) -> None:
    """Run files that register names. ValueError for one that fails."""
    from undiffuse.registry import load_plugin

    for path in paths:
        try:
            load_plugin(path)
        except SystemExit as stop:
            raise ValueError(
                f"plugin '{path}' called exit({stop.code}); it may only register names"
            ) from None


def batch_size(text: str) -> int | str:
    """A whole number, or auto."""
    if text == "auto" or (text.isdecimal() and text.strip("0")):
        return text if text == "auto" else int(text)
    raise ValueError(f"--batch {text[:80]}; expected a whole number such as 16, or auto")


def seed_or_seeds(text: str) -> int | tuple[int, int]:
    """A whole number, or the first and the last of a range."""
    first, dash, last = text.partition("-")
    if text.removeprefix("-").isdecimal():
        return int(text)
    if first.isdecimal() and dash and last.isdecimal():
        if int(last) >= 2**63:
            raise ValueError(f"--seed {text[:80]}; expected seeds below 2^63 of a range")
        if int(last) < int(first):
            raise ValueError(f"--seed {text[:80]}; expected a range that rises, such as 0-63")
        return int(first), int(last)
    raise ValueError(f"--seed {text[:80]}; expected a whole number, or a range such as 0-63")


def interval(text: str | None) -> tuple[float, float] | None:
    """Two numbers with a comma between them."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--guidance-interval {text[:80]}; expected LOW,HIGH such as 0.3,5") from None
    return low, high


def two_ends(text: str | None) -> tuple[str, str] | None:
    """Two seeds, or the names of two files."""
    if text is None:
        return None
    first, comma, last = text.partition(",")
    if not first or not last or "," in last:
        raise ValueError(f"--interpolate {text[:80]}; expected two seeds such as 3,8, or two pictures")
    return first, last


def noise_level(text: str | None, measured: bool) -> float | str | None:
    """A number, or auto, which is what a measured picture has if nothing is said."""
    if text is None:
        return "auto" if measured else None
    if text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--noise {text}; expected a number such as 0.05, or auto") from None
