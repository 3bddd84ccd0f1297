"""`undiffuse analyse all`: every analysis that applies, in one report. What fails is told, and the rest goes on."""

import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from undiffuse.app import machine
from undiffuse.app.analyse.draw import check_drawing
from undiffuse.app.analyse.parts import PARTS, Part
from undiffuse.app.analyse.run import Analysed, analysis, free, written
from undiffuse.app.analyse.section import Cell, Section, Table
from undiffuse.app.analyse.subjects import open_subjects
from undiffuse.app.events import Done, Event, Note, Progress
from undiffuse.config.analyse.everything import AllConfig

OURS, THEIRS = 1, 2  # exit codes: our mistake, and what the user can set right
SHARE = 1000  # units of progress of a part


@dataclass(frozen=True, slots=True)
class Everything(Analysed):
    """What came out of all parts."""

    code: int  # 0, or the exit code of the worst part that failed


@dataclass(slots=True)
class Outcome:
    """How a part ended."""

    part: Part
    state: str = "done"
    said: str = ""
    code: int = 0
    seconds: float = 0.0
    section: Section | None = None


def run(config: AllConfig) -> Iterator[Event]:
    """Notes, progress over all parts, files, Done(Everything). ValueError for priors that cannot be opened together."""
    check_drawing()
    folder = free("all", config)
    chosen = yield from _applying(config)
    working = [outcome for outcome in chosen if outcome.state == "done"]
    for number, outcome in enumerate(working):
        yield from _part(config, outcome, number, len(working))
    yield Note("writing the report")
    sections = (overview(config, chosen), *(it.section for it in chosen if it.section is not None))
    for event in written("all", config, folder, sections):
        yield event if not isinstance(event, Done) else Done(Everything(folder, sections, _code(chosen)))


def _applying(config: AllConfig) -> Generator[Event, None, list[Outcome]]:
    """All parts; those that are skipped, or do not apply, say why."""
    subjects = yield from open_subjects(config, (config.run, *config.students))
    found: list[Outcome] = []
    for part in PARTS:
        why = "" if part.name in config.skip else part.why_not(config, subjects)
        state = "skipped" if part.name in config.skip else "does not apply" if why else "done"
        found.append(Outcome(part, state, why))
        if why:
            yield Note(f"{part.name} does not apply: {why}")
    return found


def _part(config: AllConfig, outcome: Outcome, number: int, count: int) -> Iterator[Event]:
    """One part, with its progress as a share of the whole. What goes wrong becomes its section."""
    part, began, before = outcome.part, time.perf_counter(), 0
    try:
        for event in analysis(part.name)(part.config(config)):
            if isinstance(event, Done):
                outcome.section = event.result
            elif isinstance(event, Progress):
                before = max(before, SHARE * event.done // max(1, event.total))
                yield Progress(number * SHARE + before, count * SHARE, f"{part.name}: {event.label}")
            elif isinstance(event, Note):
                yield Note(f"{part.name}: {event.text}")
            else:
                yield event
    except (ValueError, OSError) as error:
        _failed(outcome, str(error), THEIRS)
    except Exception as error:
        if os.environ.get("UNDIFFUSE_DEBUG"):
            raise
        if machine.out_of_memory(error):
            _failed(outcome, "out of memory; use a smaller --batch or --n", THEIRS)
        else:
            _failed(
                outcome,
                f"internal error: {type(error).__name__}: {error} (UNDIFFUSE_DEBUG=1 shows where)",
                OURS,
            )
    outcome.seconds = time.perf_counter() - began
    if outcome.code:
        yield Note(f"{part.name} failed: {outcome.said}; going on")


def _failed(outcome: Outcome, said: str, code: int) -> None:
    outcome.state, outcome.said, outcome.code = "failed", " ".join(said.split()), code
    outcome.section = Section(outcome.part.name, outcome.part.name.capitalize(), "", failed=outcome.said)


def _code(outcomes: list[Outcome]) -> int:
    """Our mistakes before the user's."""
    codes = {outcome.code for outcome in outcomes}
    return OURS if OURS in codes else THEIRS if THEIRS in codes else 0


def overview(config: AllConfig, outcomes: list[Outcome]) -> Section:
    """What was done, and what each part found."""
    rows: list[tuple[Cell, ...]] = []
    for it in outcomes:
        said = it.said or (it.section.summary if it.section is not None else "")
        rows.append((it.part.name, it.state, round(it.seconds, 1) if it.seconds else None, said))
    failed = [it.part.name for it in outcomes if it.code]
    told = f"{sum(it.state == 'done' for it in outcomes)} analyses of {config.run}"
    told += f" and {len(config.students)} students" if config.students else ""
    told += f"; failed: {', '.join(failed)}" if failed else ""
    table = Table(
        "parts",
        "Parts",
        ("part", "state", "seconds", "what it found"),
        rows,
        "each part has a section of its own below, with its figures. A part that does not apply says why; one that "
        "failed says what went wrong, and can be run alone: undiffuse analyse NAME.",
    )
    facts = {"parts": {it.part.name: it.state for it in outcomes}}
    return Section("overview", "Overview", told + ".", (), (table,), (), facts)
