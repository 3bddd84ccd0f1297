"""What `undiffuse priors convert` is told."""

from pathlib import Path
from typing import Annotated, Literal

from undiffuse.config.said import PriorOptions, Said
from undiffuse.options import Options, Precision


class ConvertConfig(Options):
    """Which file is to become what."""

    file: Annotated[
        str, Said("File of weights, run's folder, folder of diffusers, or a prior's name.", argument=True)
    ]
    out: Annotated[
        Path,
        Said(
            "New file (.safetensors) or a folder for it; for diffusers a new or empty folder.", argument=True
        ),
    ]
    to: Annotated[
        Literal["undiffuse", "diffusers"], Said("undiffuse: one file that says all; or diffusers: a folder.")
    ] = "undiffuse"
    prior_options: PriorOptions = None
    precision: Annotated[Precision, Said("To store in.")] = "fp32"
