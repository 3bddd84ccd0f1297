"""`undiffuse ddrm`."""

import sys
from typing import Annotated

import typer

from undiffuse.commands.from_model import command
from undiffuse.commands.shown import fail, plain, show
from undiffuse.config.ddrm import DdrmConfig

app = typer.Typer()
IGNORED = "Taken and ignored: it names a folder of logs that is not written."


@command(
    app,
    DdrmConfig,
    example="undiffuse ddrm --ni --config imagenet_256.yml --doc imagenet --timesteps 20 --eta 0.85 --etaB 1 "
    "--deg sr4 --sigma_0 0.05 -i demo_sr4",
)
def ddrm(
    config: DdrmConfig,
    ni: Annotated[
        bool, typer.Option("--ni", help="Do not ask: results of another run in that folder are overwritten.")
    ] = False,
    doc: Annotated[str, typer.Option(help=IGNORED)] = "",
    comment: Annotated[str, typer.Option(help="Taken and ignored.")] = "",
    verbose: Annotated[str, typer.Option(help="Taken and ignored: a level of logging.")] = "info",
    sample: Annotated[bool, typer.Option("--sample", help="Taken and ignored.")] = False,
) -> None:
    """Restore as DDRM's main.py does: its options, folders and files, with corrected operators and steps.

    Weights are looked for in EXP/logs and among the pulled ones, pictures in EXP/datasets. The same command again
    goes on where it was stopped.
    """
    from undiffuse.app.ddrm import run

    ignored = {"--doc": doc, "--comment": comment, "--verbose": verbose != "info", "--sample": sample}
    if told := [name for name, value in ignored.items() if value]:
        typer.echo(f"ignored, as it changes nothing here: {', '.join(told)}", err=True)
    for result in show(run(config, lambda question: ni or _ask(question))):
        kept = f", {result.kept} of them there already" if result.kept else ""
        typer.echo(plain(f"results in {result.out}{kept}"))
        typer.echo(f"Total Average PSNR: {result.psnr:.2f}")
        typer.echo(f"Number of samples: {result.count}")
        if bad := result.failed:
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            fail(f"{len(bad)} of {result.count + len(bad)} pictures passed over: {bad[0]}{more}", 2)


def _ask(question: str) -> bool:
    """On a terminal; elsewhere nobody answers, and that is no consent."""
    return sys.stdin.isatty() and typer.confirm(question, default=False)
