"""What a user sees: events, results and errors, as plain lines."""

import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from undiffuse.app.events import Event

LONGEST = 1200  # characters of an error


def show(events: "Iterable[Event]") -> "Iterable[Any]":
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
                    bar.add_task(plain(event.label), total=event.total)
                    timer = threading.Timer(1, bar.start)  # a step can be long: it does not wait for the next
                    timer.start()
                if bar is not None and event.done < event.total:
                    bar.update(bar.task_ids[0], completed=event.done, description=plain(event.label))
                    continue
            if bar is not None and timer is not None:  # gone before the next line is written
                timer.cancel()
                timer.join()
                bar.stop()
                bar = None
            if isinstance(event, kinds.Note):
                console.print(plain(event.text), markup=False, soft_wrap=True)
            elif isinstance(event, kinds.Saved):
                console.print(plain(f"wrote {event.path}"), markup=False, soft_wrap=True)
            elif isinstance(event, kinds.Done):
                yield event.result
    finally:
        if bar is not None and timer is not None:
            timer.cancel()
            timer.join()
            bar.stop()


def fail(message: str, code: int) -> NoReturn:
    """One line to stderr, and the end."""
    text = plain(message)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    sys.stderr.write(f"error: {text}\n")
    sys.exit(code)


def plain(text: str) -> str:
    """One line without control characters: names of files can hold anything, also what moves the cursor."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
