"""Files of weights where DDRM's authors keep them, or where they were pulled to."""

from pathlib import Path

from undiffuse.app.pull import at, source_of
from undiffuse.checkpoints.known import Known, known


def place(file: Known, exp: Path) -> Path:
    """Where the authors' code looks for a published file."""
    if file.format == "adm":
        return exp / "logs" / "imagenet" / file.files[0]
    folder = "celeba" if file.name == "celeba_hq" else "diffusion_models_converted"
    return exp / "logs" / folder / file.files[0]


def weights(name: str, exp: Path, option: str) -> str:
    """The file of a published name; any other name as it is. ValueError that says where the file was looked for.

    Nothing is downloaded: that is asked for with `undiffuse priors pull`.
    """
    if name not in known():
        return name
    file = known()[name]
    theirs, ours = place(file, exp), at(source_of(file))
    for path in (theirs, ours):
        if path.is_file():
            return str(path)
    raise ValueError(
        f"'{name}' is neither at '{theirs}' nor pulled: run undiffuse priors pull {name}, or give a file with "
        f"{option}"
    )
