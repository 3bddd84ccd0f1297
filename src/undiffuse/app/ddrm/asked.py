"""What `undiffuse ddrm` is told: the options of DDRM's main.py, and a few of ours."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from undiffuse.config import Options

Share = Annotated[float, pydantic.Field(ge=0, le=1)]


class Asked(Options):
    """Everything that decides what is restored, and how."""

    config: str
    deg: str
    sigma_0: Annotated[float, pydantic.Field(ge=0, le=10)]  # white - black = 1
    timesteps: Annotated[int, pydantic.Field(ge=1, le=1000)] = 1000
    eta: Share = 0.85
    eta_b: Share = 1.0
    image_folder: str = "images"
    exp: Path = Path("exp")
    seed: Annotated[int, pydantic.Field(ge=0, lt=2**63)] = 1234
    subset_start: int = -1
    subset_end: int = -1
    compat: bool = False  # the authors' operators, steps and start, bug for bug
    prior: str | None = None  # in place of the config's
    classifier: str | None = None
    prior_options: str | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    label: Annotated[int, pydantic.Field(ge=0)] | None = None  # of all pictures, in place of the data's
    batch: Annotated[int, pydantic.Field(ge=1)] | None = None
    device: str = "auto"

    @pydantic.field_validator("image_folder")
    @classmethod
    def _below(cls, value: Any) -> Any:
        if not re.fullmatch(r"[\w][\w .=+,-]*(/[\w][\w .=+,-]*)*", str(value)):
            raise ValueError("expected a name below exp/image_samples, such as demo_sr4")
        return value

    @pydantic.model_validator(mode="after")
    def _both_ends(self) -> "Asked":
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
