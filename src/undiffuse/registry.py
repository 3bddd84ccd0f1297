"""Names for what users choose from: degradations, samplers, restorers, priors, networks.

A factory is registered with `@TABLE.register(name, ...)`. In its signature, what stands before `/` is a
runtime object, what stands after `*` is an option: the command line, configurations and reports read the
options from there (`options`), and a call from Python is held to the same ranges and choices.
"""

import difflib
import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

from undiffuse.options import checked

PLUGIN_GROUP = "undiffuse.plugins"


@dataclass(frozen=True)
class Entry:
    """One registered factory. `preset` holds option values that a short name fixes: `sr4` is `pool` with factor 4."""

    name: str
    factory: Callable[..., Any]
    summary: str
    example: str
    preset: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(
        default_factory=dict
    )  # what else the table wants to know, e.g. `start` of a restorer

    def __call__(self, *runtime: Any, **options: Any) -> Any:
        return self.factory(*runtime, **{**self.preset, **options})


class Registry:
    """A table of named factories that refuses unknown names with the choices, and double names.

    A factory that is defined again, as by a plugin that is loaded twice or a cell of a notebook, takes its own place.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, *, summary: str, example: str, **facts: Any) -> Callable[[Any], Any]:
        """Decorator: enter a factory under `name`. `summary` is a line for lists, `example` what a user types."""

        def enter(factory: Any) -> Any:
            factory = checked(name, factory)
            self._add(Entry(name, factory, summary, example, facts=facts))
            return factory

        return enter

    def preset(
        self,
        name: str,
        base: str,
        *,
        summary: str,
        example: str,
        facts: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """A short name for `base` with some options fixed; they can still be overridden by the user.

        facts: what is otherwise known of it than of `base`.
        """
        entry, known = self[base], facts or {}
        preset = {**entry.preset, **options}
        self._add(Entry(name, entry.factory, summary, example, preset, {**entry.facts, **known}))

    def _add(self, entry: Entry) -> None:
        before = self._entries.get(entry.name)
        if before is not None and before != entry and not _redefined(before.factory, entry.factory):
            raise ValueError(f"there is already a {self.kind} named '{entry.name}'; choose another name")
        self._entries[entry.name] = entry

    def __getitem__(self, name: str) -> Entry:
        """The entry; ValueError with the nearest name and all choices if there is none."""
        if name in self._entries:
            return self._entries[name]
        near = difflib.get_close_matches(name, self._entries, n=1)
        hint = f" did you mean '{near[0]}'?" if near else ""
        raise ValueError(
            f"no {self.kind} named '{name}';{hint} choose from {', '.join(sorted(self._entries))}"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)


def _redefined(before: Any, now: Any) -> bool:
    """Whether a factory is another one by the same name in the same module."""
    names = [(getattr(one, "__module__", None), getattr(one, "__qualname__", None)) for one in (before, now)]
    return before is not now and names[0] == names[1] and None not in names[0]


DATASETS = Registry("dataset")
OPERATORS = Registry("degradation")
PRIORS = Registry("prior")
NETWORKS = Registry("network")  # of configurations; their build() gives the network
SAMPLERS = Registry("sampler")
RESTORERS = Registry("algorithm")


def load_plugin(path: str | Path) -> ModuleType:
    """Run a Python file that registers degradations, samplers, restorers or priors of the user's own.

    The file is code and runs with the user's rights: it is never loaded unless asked for by name.
    The same file again takes the place of what it registered before. ValueError if the file is missing or fails,
    with its own error in the message.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no plugin file '{path}'; --plugin takes the path of a Python file")
    place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]  # files of one name stay apart
    name = f"undiffuse_plugin_{path.stem}_{place}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"plugin '{path}' is not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"plugin '{path}' failed: {type(error).__name__}: {error}") from error
    return module


def load_entry_points() -> list[str]:
    """Import every installed plugin (entry-point group `undiffuse.plugins`); returns their names.

    ValueError as of `load_entry_point`. Commands do so themselves; a program in Python calls it once.
    """
    return [load_entry_point(point) for point in entry_points()]


def entry_points() -> list[EntryPoint]:
    """The installed plugins, not imported yet."""
    return list(importlib.metadata.entry_points(group=PLUGIN_GROUP))


def load_entry_point(point: EntryPoint) -> str:
    """Import one installed plugin; returns its name. ValueError, with its package, if it fails."""
    try:
        point.load()
    except (Exception, SystemExit) as error:
        owner, remedy = "", f"repair {point.value}"
        if point.dist is not None:
            owner = f" of the package '{point.dist.name}'"
            remedy += f", or uninstall it: pip uninstall {point.dist.name}"
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"the installed plugin '{point.name}'{owner} failed: {said}; {remedy}") from error
    return point.name
