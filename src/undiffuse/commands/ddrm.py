"""`undiffuse ddrm`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from undiffuse.commands.given import Plugins, checked, load_plugins
from undiffuse.commands.shown import fail, plain, show

app = typer.Typer()
IGNORED = "Taken and ignored: it names a folder of logs that is not written."


@app.command(
    epilog="Example: undiffuse ddrm --ni --config imagenet_256.yml --doc imagenet --timesteps 20 --eta 0.85 --etaB 1 "
    "--deg sr4 --sigma_0 0.05 -i demo_sr4"
)
def ddrm(
    config: Annotated[
        str, typer.Option(help="A file, a name in configs/, or one of ours: imagenet_256, celeba_hq, ...")
    ],
    deg: Annotated[str, typer.Option(help="Degradation: sr4, deblur_uni, inp, cs4, color, deno, ...")],
    sigma_0: Annotated[float, typer.Option("--sigma_0", help="Noise, white - black = 1.")],
    doc: Annotated[str, typer.Option(help=IGNORED)] = "",
    timesteps: Annotated[int, typer.Option(help="Steps.")] = 1000,
    eta: Annotated[float, typer.Option(help="DDRM's eta.")] = 0.85,
    eta_b: Annotated[float, typer.Option("--etaB", help="DDRM's eta_b.")] = 1.0,
    image_folder: Annotated[
        str, typer.Option("-i", "--image_folder", help="Folder of the results in EXP/image_samples.")
    ] = "images",
    exp: Annotated[Path, typer.Option(help="Folder with logs/, datasets/ and image_samples/.")] = Path("exp"),
    seed: Annotated[int, typer.Option(help="Of noise, masks and the order of the pictures.")] = 1234,
    subset_start: Annotated[
        int, typer.Option("--subset_start", help="First picture, with --subset_end [all].")
    ] = -1,
    subset_end: Annotated[
        int, typer.Option("--subset_end", help="One after the last picture, with --subset_start [all].")
    ] = -1,
    ni: Annotated[
        bool, typer.Option("--ni", help="Do not ask: results of another run in that folder are overwritten.")
    ] = False,
    compat: Annotated[
        bool, typer.Option("--compat", help="The authors' operators and steps, bug for bug; each is named.")
    ] = False,
    prior: Annotated[str | None, typer.Option(help="In place of the config's: a name or a file.")] = None,
    classifier: Annotated[
        str | None, typer.Option(help="In place of the config's: a name or a file.")
    ] = None,
    prior_options: Annotated[
        str | None, typer.Option("--prior-options", help="What a file does not say: heads=4,schedule=linear.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    label: Annotated[int | None, typer.Option(help="Class of all pictures [the data's].")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures at once [the config's].")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    comment: Annotated[str, typer.Option(help="Taken and ignored.")] = "",
    verbose: Annotated[str, typer.Option(help="Taken and ignored: a level of logging.")] = "info",
    sample: Annotated[bool, typer.Option("--sample", help="Taken and ignored.")] = False,
    plugin: Plugins = [],  # noqa: B006
) -> None:
    """Restore as DDRM's main.py does: its options, folders and files, with corrected operators and steps.

    Weights are looked for in EXP/logs and among the pulled ones, pictures in EXP/datasets. The same command again
    goes on where it was stopped.
    """
    from undiffuse.app.ddrm import Asked, run

    load_plugins(plugin)
    given: dict[str, Any] = {
        "config": config, "deg": deg, "sigma_0": sigma_0, "timesteps": timesteps, "eta": eta, "eta_b": eta_b,
        "image_folder": image_folder, "exp": exp, "seed": seed, "subset_start": subset_start,
        "subset_end": subset_end, "compat": compat, "prior": prior, "classifier": classifier,
        "prior_options": prior_options, "precision": precision, "label": label, "batch": batch, "device": device,
    }  # fmt: skip
    ignored = {"--doc": doc, "--comment": comment, "--verbose": verbose != "info", "--sample": sample}
    if told := [name for name, value in ignored.items() if value]:
        typer.echo(f"ignored, as it changes nothing here: {', '.join(told)}", err=True)
    asked = checked(Asked, given, "ddrm")
    for result in show(run(asked, lambda question: ni or _ask(question))):
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
