"""One analysis: computed, drawn, and written as a report into a folder that is free for it."""

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undiffuse.app import outputs
from undiffuse.app.analyse import report
from undiffuse.app.analyse.draw import check_drawing
from undiffuse.app.analyse.section import Section
from undiffuse.app.events import Done, Event, Saved
from undiffuse.config.analyse.common import ReportConfig
from undiffuse.config.said import command_line

PLACE = Path("out/analyse")  # of results, unless --out says where
ELSEWHERE = ("out", "batch", "device", "plugins")  # settings that change no result, but by rounding


@dataclass(frozen=True, slots=True)
class Analysed:
    """What came out."""

    folder: Path
    sections: tuple[Section, ...]


def run(name: str, config: ReportConfig) -> Iterator[Event]:
    """The analysis `name` and its report. ValueError for bad input, before anything is computed or written."""
    check_drawing()
    folder = free(name, config)
    section: Section | None = None
    for event in analysis(name)(config):
        if isinstance(event, Done):
            section = event.result
        else:
            yield event
    assert section is not None, f"{name} ended without a section"
    yield from written(name, config, folder, (section,))


def analysis(name: str) -> Callable[[Any], Iterator[Event]]:
    """`analyse(config)` of app/analyse/NAME.py: notes and progress, and at the end Done(Section)."""
    return importlib.import_module(f"undiffuse.app.analyse.{name}").analyse


def written(name: str, config: ReportConfig, folder: Path, sections: tuple[Section, ...]) -> Iterator[Event]:
    """The report of these sections, and Done(Analysed)."""
    line = command_line(config, "undiffuse", "analyse", name)
    for path in report.write(folder, sections, line, settings(name, config)):
        yield Saved(path)
    yield Done(Analysed(folder, sections))


def free(name: str, config: ReportConfig) -> Path:
    """The folder for the results: --out, or out/analyse/NAME, NAME-2, ... whichever holds no other results.

    The same settings again go where they went before. ValueError if --out holds something else, which is kept.
    """
    mine = settings(name, config)
    if config.out is not None:
        outputs.check_writable(config.out)
        if not _free(config.out, mine):
            raise ValueError(
                f"'{config.out}' holds other files, or another analysis; choose another folder with --out"
            )
        return config.out
    outputs.check_writable(PLACE)
    number = 1
    while not _free(found := PLACE / (name if number == 1 else f"{name}-{number}"), mine):
        number += 1
    return found


def _free(folder: Path, mine: dict[str, Any]) -> bool:
    """Whether nothing would be lost: no such folder, an empty one, or the same analysis."""
    if not folder.exists():
        return True
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        held = json.loads((folder / report.RECORD).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(held, dict) and held.get("settings") == mine


def settings(name: str, config: ReportConfig) -> dict[str, Any]:
    """All that decides the results, for JSON."""
    return {"analysis": name, **config.model_dump(mode="json", exclude=set(ELSEWHERE))}
