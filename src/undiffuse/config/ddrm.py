"""What `undiffuse ddrm` is told: the options of DDRM's main.py, and a few of ours."""

import re
from pathlib import Path
from typing import Annotated, Any

import pydantic

from undiffuse.config.said import Device, Level, OfNetwork, PriorOptions, Said, Share
from undiffuse.options import Options


class DdrmConfig(Options):
    """Everything that decides what is restored, and how."""

    config: Annotated[str, Said("A file, a name in configs/, or one of ours: imagenet_256, celeba_hq, ...")]
    deg: Annotated[str, Said("Degradation: sr4, deblur_uni, inp, cs4, color, deno, ...")]
    sigma_0: Annotated[Level, Said("Noise, white - black = 1.", names=("--sigma_0",))]
    timesteps: Annotated[int, pydantic.Field(ge=1, le=1000), Said("Steps.")] = 1000
    eta: Annotated[Share, Said("DDRM's eta.")] = 0.85
    eta_b: Annotated[Share, Said("DDRM's eta_b.", names=("--etaB",))] = 1.0
    image_folder: Annotated[
        str, Said("Folder of the results in EXP/image_samples.", names=("--image_folder", "-i"))
    ] = "images"
    exp: Annotated[Path, Said("Folder with logs/, datasets/ and image_samples/.")] = Path("exp")
    seed: Annotated[
        int, pydantic.Field(ge=0, lt=2**63), Said("Of noise, masks and the order of the pictures.")
    ] = 1234
    subset_start: Annotated[
        int, Said("First picture, with --subset_end [all].", names=("--subset_start",))
    ] = -1
    subset_end: Annotated[
        int, Said("One after the last picture, with --subset_start [all].", names=("--subset_end",))
    ] = -1
    compat: Annotated[
        bool,
        Said("The authors' operators, steps and start, bug for bug; each is named."),
    ] = False
    prior: Annotated[str | None, Said("In place of the config's: a name or a file.")] = None
    classifier: Annotated[str | None, Said("In place of the config's: a name or a file.")] = None
    prior_options: PriorOptions = None
    precision: OfNetwork = "fp32"
    label: Annotated[
        Annotated[int, pydantic.Field(ge=0)] | None, Said("Class of all pictures [the data's].")
    ] = None
    batch: Annotated[
        Annotated[int, pydantic.Field(ge=1)] | None, Said("Pictures at once [the config's].")
    ] = None
    device: Device = "auto"

    @pydantic.field_validator("image_folder")
    @classmethod
    def _below(cls, value: Any) -> Any:
        if not re.fullmatch(r"[\w][\w .=+,-]*(/[\w][\w .=+,-]*)*", str(value)):
            raise ValueError("expected a name below exp/image_samples, such as demo_sr4")
        return value

    @pydantic.model_validator(mode="after")
    def _both_ends(self) -> "DdrmConfig":
        if (self.subset_start >= 0) != (self.subset_end > 0):
            raise ValueError(
                f"--subset_start {self.subset_start} and --subset_end {self.subset_end}; expected both ends of a "
                "range, such as 0 and 100, or neither"
            )
        return self

    @property
    def out(self) -> Path:
        """The folder of the results."""
        return self.exp / "image_samples" / self.image_folder
