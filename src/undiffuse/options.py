"""Options of registered factories, read from their signatures and checked.

In a registered factory what stands before `/` is a runtime object and what stands after `*` is an option.
`options` turns the options into a pydantic model: the command line, run files and the web form are drawn from
it. `validated` refuses a misspelt or out-of-range value in one line that names it and the choices, and `checked`
makes a factory refuse them whoever calls it.
"""

import difflib
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Protocol

import pydantic

Precision = Literal["fp32", "bf16", "fp16"]


class Options(pydantic.BaseModel):
    """What every options model is: frozen, without unknown keys, NaN or infinity."""

    model_config = pydantic.ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        defer_build=True,  # most models are not needed in a run
    )


class Entry(Protocol):
    """What is registered, as far as its options go."""

    @property
    def name(self) -> str: ...
    @property
    def factory(self) -> Callable[..., Any]: ...
    @property
    def preset(self) -> Mapping[str, Any]: ...


@functools.cache
def options(factory: Callable[..., Any], /) -> type[Options]:
    """The keyword-only parameters of `factory` as a pydantic model: names, types, ranges, defaults, order."""
    hinted = factory.__init__ if inspect.isclass(factory) else factory
    hints = typing.get_type_hints(hinted, include_extras=True)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if parameter.name not in hints:
            name = getattr(factory, "__name__", repr(factory))
            raise ValueError(
                f"option '{parameter.name}' of {name} has no type; annotate it, as in eta: float"
            )
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    return pydantic.create_model(getattr(factory, "__name__", "Options"), __base__=Options, **fields)


def validated(entry: Entry, given: Mapping[str, Any], /) -> dict[str, Any]:
    """All options of `entry`, with those in `given` over its preset and defaults, converted to their types.

    Strings are read as on a command line: '4', 'true', 'none' where None is allowed, '0+1+2' for a list.
    ValueError, in one line, for each unknown, missing or out-of-range option.
    """
    return _validated(entry.name, entry.factory, {**entry.preset, **given})


def checked(name: str, factory: Callable[..., Any], /) -> Callable[..., Any]:
    """The factory, with its options validated at every call. A class checks its own fields."""
    if inspect.isclass(factory):
        return factory

    @functools.wraps(factory)
    def call(*runtime: Any, **given: Any) -> Any:
        return factory(*runtime, **_validated(name, factory, given))

    return call


def _validated(owner: str, factory: Callable[..., Any], merged: dict[str, Any]) -> dict[str, Any]:
    model = options(factory)
    for name in merged.keys() & model.model_fields.keys():
        merged[name] = _read(merged[name], model.model_fields[name].annotation)
    try:
        checked = model(**merged)
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, f"'{owner}'", model)) from None
    return {name: getattr(checked, name) for name in model.model_fields}


PLAINER = {  # than pydantic has it
    "int_parsing": "expected a whole number",
    "float_parsing": "expected a number",
}
ALTERNATIVES = ("constrained-", "literal[")  # what pydantic calls the types of a choice


def explain(
    error: pydantic.ValidationError,
    owner: str,
    model: type[pydantic.BaseModel],
    /,
    flags: Mapping[str, str] | None = None,
) -> str:
    """A pydantic error as one line: each bad option, its value, what was expected, the choices.

    flags: how the options are given, where that is not name=value.
    """
    lines: dict[str, str] = {}
    items_named: set[str] = set()  # lists of which an item was told
    for fault in error.errors(include_url=False):
        name = ".".join(part for part in map(str, fault["loc"]) if not part.startswith(ALTERNATIVES))
        if name in lines:  # of a choice of types: what the first says, and the words that may stand, too
            if fault["type"] == "literal_error":
                lines[name] += f", or {fault['msg'].removeprefix('Input should be ')}"
        elif name in items_named:  # they say enough
            continue
        elif fault["type"] == "extra_forbidden":
            *sections, key = (str(part) for part in fault["loc"])
            known = _section(model, sections).model_fields
            lines[name] = f"{owner} has no option '{name}';{_choices(key, known)}"
        elif fault["type"] == "missing":
            lines[name] = f"{owner} needs the option '{name}'; write {name}=..."
        else:
            expected = PLAINER.get(fault["type"], fault["msg"].removeprefix("Value error, "))
            flag = (flags or {}).get(name.partition(".")[0])
            where = _where(fault, name, owner) if flag is None else f"{flag} {fault['input']}"
            lines[name] = f"{where}: {expected[:1].lower()}{expected[1:]}"
        items_named.add(name.rpartition(".")[0])
    return "; ".join(lines.values())


def _where(fault: Mapping[str, Any], name: str, owner: str) -> str:
    """What is wrong. Of options that do not go together the message says which: the input is all of a section."""
    if fault["type"] == "value_error" and isinstance(fault["input"], Mapping):
        return f"{name} of {owner}" if name else owner
    return f"option {name}={fault['input']!r} of {owner}"


def _section(model: type[pydantic.BaseModel], names: Iterable[str]) -> type[pydantic.BaseModel]:
    for name in names:
        inner = model.model_fields[name].annotation if name in model.model_fields else None
        if not (inspect.isclass(inner) and issubclass(inner, pydantic.BaseModel)):
            return model
        model = inner
    return model


def parse_term(text: str, /) -> tuple[str, str | None, dict[str, str]]:
    """`name[:value][,key=value...]` -> the name, the value without a key (first option's), the keyed ones.

    'blur:gaussian,std=2' -> ('blur', 'gaussian', {'std': '2'}). Values cannot hold a comma.
    """
    name, *rest = re.split(r"[:,]", text.strip(), maxsplit=1)
    if not name.strip():
        raise ValueError(f"no name in '{text}'; write name, name:value or name:key=value,key=value")
    first: str | None = None
    given: dict[str, str] = {}
    for position, item in enumerate(rest[0].split(",") if rest else []):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not key or (equals and not value):
            raise ValueError(f"'{item}' in '{text}' is not key=value")
        if equals and key in given:
            raise ValueError(f"option '{key}' is given twice in '{text}'")
        if equals:
            given[key] = value
        elif position == 0:
            first = key
        else:
            raise ValueError(
                f"'{item}' in '{text}' has no key; only the first value may stand alone, write key={key}"
            )
    return name.strip(), first, given


def from_term(entry: Entry, first: str | None, given: Mapping[str, str], /) -> dict[str, Any]:
    """The validated options of a parsed term: `first`, if any, goes to the factory's first option."""
    if first is None:
        return validated(entry, given)
    names = list(options(entry.factory).model_fields)
    if not names:
        raise ValueError(f"'{entry.name}' has no options, but got '{first}'")
    if names[0] in given:
        raise ValueError(
            f"option '{names[0]}' of '{entry.name}' is given twice: {first} and {given[names[0]]}"
        )
    return validated(entry, {names[0]: first, **given})


def _choices(name: str, known: Iterable[str]) -> str:
    known = list(known)
    if not known:
        return " it has none"
    near = difflib.get_close_matches(name, known, n=1)
    return (f" did you mean '{near[0]}'?" if near else "") + f" choose from {', '.join(known)}"


def _read(value: Any, annotation: Any) -> Any:
    """A string as what pydantic converts further: None, a number of a Literal, or a list split at '+' (not in 1e+3)."""
    if not isinstance(value, str):
        return value
    allowed = kinds(annotation)
    if types.NoneType in allowed and value.lower() == "none":
        return None
    if list in allowed and str not in allowed:
        return re.split(r"(?<!\d[eE])\+", value)
    return next((choice for choice in literals(annotation) if str(choice) == value), value)


def literals(annotation: Any) -> list[Any]:
    """All choices of the Literals in an annotation: `Annotated[Literal[1, 3] | None, ...]` -> [1, 3]."""
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [choice for part in typing.get_args(annotation) for choice in literals(part)]


def kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation allows: `list[int] | None` -> {list, NoneType}."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return kinds(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return set[Any]().union(*(kinds(part) for part in typing.get_args(annotation)))
    return {origin or annotation}


def describe(entry: Entry, /) -> list[str]:
    """One line for each option of a factory: name, default, range or choices, description."""
    lines: list[str] = []
    for name, field in options(entry.factory).model_fields.items():
        default = entry.preset.get(name, field.default)
        limits = [
            f"{sign} {getattr(rule, attribute)}"
            for rule in field.metadata
            for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
            if getattr(rule, attribute, None) is not None
        ]
        whole = typing.get_origin(field.annotation) is Literal
        choices = [str(choice) for choice in typing.get_args(field.annotation)] if whole else []
        allowed = " | ".join(choices) or ", ".join(limits)
        shown = "required" if field.is_required() else "..." if default is None else default
        lines.append(f"{name}={shown}  {field.description or ''}" + (f" ({allowed})" if allowed else ""))
    return lines
