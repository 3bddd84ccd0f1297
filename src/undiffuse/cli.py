"""The command line. Nothing heavy is imported before a command runs, so that --help is instant."""

import io
import os
import re
import sys
from typing import Annotated

import typer

from undiffuse.commands import (
    analyse,
    bench,
    check,
    compare,
    ddrm,
    distil,
    evaluate,
    lists,
    pareto,
    priors,
    restore,
    sample,
    train,
)
from undiffuse.commands.shown import fail

app = typer.Typer(
    name="undiffuse",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for room in (
    restore,
    ddrm,
    train,
    distil,
    sample,
    evaluate,
    compare,
    pareto,
    analyse,
    bench,
    check,
    priors,
    lists,
):
    app.add_typer(room.app)

INTERRUPTED = 130  # exit code


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"undiffuse {version('undiffuse')}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Diffusion priors for pictures: restore photographs, train and sample priors, compare algorithms."""


def main() -> None:
    """Run; every error is one line, with exit code 2 for the user's mistakes and 1 for ours."""
    # Large tensors in large pages: a photograph of 12 megapixels takes half the time. Read when torch loads.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    given = sys.argv[1:]
    empty = [not one or (one.startswith("--") and one.endswith("=")) for one in given]
    if any(empty):  # of a variable that is not set; as a path it would be the current folder
        before = " ".join(["undiffuse", *given[: empty.index(True)], given[empty.index(True)]]).strip()
        fail(f"an empty argument after '{before}'; say what is meant, such as . for the current folder", 2)
    try:
        code = app(given or ["--help"], standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except typer.TyperException as error:  # usage: an unknown option, a missing argument
        context = getattr(error, "ctx", None)
        fail(f"{error.format_message()} (see {context.command_path if context else 'undiffuse'} --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted; files already written are complete", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (ValueError, OSError) as error:
        fail(str(error), 2)
    except Exception as error:
        if os.environ.get("UNDIFFUSE_DEBUG"):
            raise
        if isinstance(error, MemoryError) or re.search("out of memory|can't allocate memory", str(error)):
            fail("out of memory; use a smaller picture or fewer draws", 2)
        fail(f"internal error: {type(error).__name__}: {error} (UNDIFFUSE_DEBUG=1 shows where)", 1)
    if code == INTERRUPTED:  # typer returns it for Ctrl-C, in silence
        fail("interrupted; files already written are complete", INTERRUPTED)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
