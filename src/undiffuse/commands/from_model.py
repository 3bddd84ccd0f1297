"""A command from a model of settings: its arguments and options are the model's fields."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any

import pydantic
import typer
from pydantic.fields import FieldInfo

from undiffuse.commands.plugins import load_plugins
from undiffuse.config.said import PLUGINS, Said, flag, settings, written
from undiffuse.options import Options, explain, kinds, literals

PLAIN = (bool, Path)  # what typer reads; everything else is text, which the model reads
SEVERAL = "   |   "  # stands between examples
Function = Callable[..., None]


def command(
    app: typer.Typer, model: type[Options], *, example: str, of: str = "", **how: Any
) -> Callable[[Function], Function]:
    """Make `function(config, ...)` a command of `app`: it is told the settings, and what it asks for beside them.

    of: the command that this is a part of; how: what else `app.command` takes. The model is handed only what is
    said: the defaults are its own.
    """

    def register(function: Function) -> Function:
        title = f"{of} {how.get('name') or function.__name__}".strip()
        app.command(epilog=f"Example{'s' * (SEVERAL in example)}: {example}", **how)(
            _typed(function, model, title)
        )
        return function

    return register


def _typed(function: Function, model: type[Options], title: str) -> Function:
    """What typer calls, with a signature that it can read."""
    fields = settings(model)
    _, *own = inspect.signature(function, eval_str=True).parameters.values()
    beside = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
    parameters = [_parameter(model, name, said) for name, said in fields.items()] + beside
    if "plugins" not in fields:
        parameters.append(_keyword("plugins", list[str], typer.Option("--plugin", help=PLUGINS.help)))

    def call(**given: Any) -> None:
        load_plugins(map(Path, given.get("plugins") or ()))
        told = {name: given[name] for name in fields if given[name] is not None}
        try:
            config = model(**told)
        except pydantic.ValidationError as error:
            flags = {name: name if it.argument else flag(name, it) for name, it in fields.items()}
            raise ValueError(explain(error, title, model, flags)) from None
        function(config, **{one.name: given[one.name] for one in beside})

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    call.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return call


def _parameter(model: type[Options], name: str, said: Said) -> inspect.Parameter:
    """The field for typer: None where nothing is said. Its default is in the help."""
    field = model.model_fields[name]
    allowed = kinds(field.annotation) - {NoneType}
    several = said.many or (said.argument and tuple in allowed)
    read = list[str] if several else next((one for one in PLAIN if allowed == {one}), str)
    shown = said.help + _default(field, said)
    if said.argument:
        return _keyword(name, read, typer.Argument(help=shown), required=field.is_required())
    metavar = _metavar(field.annotation, allowed) if read is str else None
    off = f"/--no-{flag(name, said)[2:]}" if field.default is True else ""
    option = typer.Option(
        *(said.names or (flag(name, said) + off,)), help=shown, metavar=metavar, rich_help_panel=said.group
    )
    return _keyword(name, read, option, required=field.is_required())


def _default(field: FieldInfo, said: Said) -> str:
    """In brackets after the help, unless there is none, or the help ends in what stands for it."""
    plain = isinstance(field.default, bool) or field.default in (None, ())
    told = field.is_required() or plain or said.help.endswith(("]", "]."))
    return "" if told else f"  [default: {written(field.default, said)}]"


def _keyword(name: str, read: Any, info: Any, *, required: bool = False) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=inspect.Parameter.empty if required else None,
        annotation=Annotated[read if required else read | None, info],
    )  # fmt: skip


def _metavar(annotation: Any, allowed: set[Any]) -> str:
    """`<int>`, `<psnr|perceptual|posterior>`, `<float|auto>`."""
    if tuple in allowed:
        return "<str>"
    names = [kind.__name__ for kind in (int, float, str) if kind in allowed]
    return f"<{'|'.join([*names, *map(str, literals(annotation))])}>"
