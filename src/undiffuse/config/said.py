"""How the settings of a command are said on the command line, and the line that says them again."""

import inspect
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from undiffuse.options import Options, Precision

Count = Annotated[int, pydantic.Field(ge=1, le=100_000)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Scale = Annotated[float, pydantic.Field(ge=0, le=100)]  # of guidance
Level = Annotated[float, pydantic.Field(ge=0, le=10)]  # of noise, white - black = 1


@dataclass(frozen=True, slots=True)
class Said:
    """Beside the type of a field: what `--help` says of it, and how it is given.

    names: in place of --the-name-of-the-field; argument: without a name; many: of a list, once for each item;
    between: of a list that is said at once; always: even where it is the default, which depends on what else is said.
    """

    help: str
    names: tuple[str, ...] = ()
    argument: bool = False
    many: bool = False
    between: str = ","
    always: bool = False
    group: str | None = None  # of the help


def settings(model: type[Options]) -> dict[str, Said]:
    """The fields that are said, those of the model itself before what it shares with others."""
    own = [name for kind in model.__mro__ for name in inspect.get_annotations(kind)]
    fields = {name: model.model_fields[name] for name in own if name in model.model_fields}
    return {name: it for name, field in fields.items() for it in field.metadata if isinstance(it, Said)}


def flag(name: str, said: Said) -> str:
    """--as-it-is-said."""
    return said.names[0] if said.names else "--" + name.replace("_", "-")


def written(value: Any, said: Said) -> str:
    """A value as the command line has it; a list of nothing is `none`."""
    return said.between.join(map(_text, value)) or "none" if isinstance(value, tuple) else _text(value)


def _text(value: Any) -> str:
    """The shortest that is read as the same."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def command_line(config: Options, *words: str) -> str:
    """One line for a POSIX shell that asks for the same again; only what differs from the defaults is said."""
    told, options = list(words), list[str]()
    for name, said in settings(type(config)).items():
        value: Any = getattr(config, name)
        items = value if isinstance(value, tuple) else (value,)
        if value is None or (value == type(config).model_fields[name].default and not said.always):
            continue
        if said.argument:
            told += [f"./{item}" if str(item).startswith("-") else str(item) for item in items]
        elif isinstance(value, bool):
            options.append(flag(name, said) if value else "--no-" + flag(name, said)[2:])
        elif said.many:
            options += [word for item in items for word in (flag(name, said), _text(item))]
        else:
            options += [flag(name, said), written(value, said)]
    return shlex.join(told + options)


def read(parse: Callable[[str], Any]) -> pydantic.BeforeValidator:
    """Text is parsed first; what is no text is taken as it is."""
    return pydantic.BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def split_words(text: str) -> tuple[str, ...]:
    """`pca,tsne` -> its words."""
    return tuple(word.strip() for word in text.split(","))


def words_or_none(text: str) -> tuple[str, ...]:
    """The same; no words for `none`."""
    return () if text.strip() == "none" else split_words(text)


def split_terms(text: str) -> tuple[str, ...]:
    """`sr4,inp:random,missing=0.5;deno` -> the three terms: at ';', and at ',' unless key=value follows."""
    terms: list[str] = []
    for part in text.split(";"):
        for number, item in enumerate(part.split(",")):
            if number and re.match(r"\s*\w+\s*=", item):
                terms[-1] += f",{item.strip()}"
            else:
                terms.append(item.strip())
    if not all(terms):
        raise ValueError("there is an empty name; write names with ; between them, as in dpir;ddrm")
    return tuple(dict.fromkeys(terms))


def numbers(value: Any, checked: Callable[[Any], tuple[Any, ...]]) -> tuple[Any, ...]:
    """`0,0.05,5e-2` -> what pydantic makes of its parts, each number once; what is no text is taken as it is."""
    if not isinstance(value, str):
        return checked(value)
    return tuple(dict.fromkeys(checked(tuple(part.strip() for part in re.split("[,;]", value)))))


def at_once(text: str) -> int | str:
    """A whole number, or auto."""
    if text == "auto" or (text.isdecimal() and text.strip("0")):
        return text if text == "auto" else int(text)
    raise ValueError("expected a whole number such as 16, or auto")


Words = read(split_words)
WordsOrNone = read(words_or_none)
Terms = read(split_terms)
Numbers = pydantic.WrapValidator(numbers)
AtOnce = Annotated[Count | Literal["auto"], read(at_once)]  # of a batch

# Settings that many commands share.
PRIOR = Said("Run's folder, file of weights, or name of a prior.", argument=True)
OPTIONS = Said(
    "What a file from outside does not tell, such as heads=4,schedule=linear; see docs/checkpoints.md."
)
PriorOptions = Annotated[str | None, OPTIONS]
OfNetwork = Annotated[Precision, Said("Of the prior's network; half is slow on most CPUs.")]
Batch = Annotated[AtOnce, Said("Pictures at once, or auto.")]
Device = Annotated[str, Said("auto, cpu, cuda, cuda:1, mps.")]
PLUGINS = Said("Python file that registers names of your own; it is run.", names=("--plugin",), many=True)
Plugins = Annotated[tuple[Path, ...], PLUGINS]
