"""What a file's tensors do not show: given by the user, else told by the table of known files, and always said."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from undiffuse.checkpoints.described import WIDEST
from undiffuse.checkpoints.known import Known
from undiffuse.checkpoints.native import Beta, Count, Schedule
from undiffuse.config import Options, explain

MISSING: Any = object()
HINTS = {
    "heads": "heads=4, or head_channels=64",
    "schedule": "schedule=linear, or cosine",
    "size": "size=256, or size=256x192",
    "low_res": "low_res=sr4, what made the small picture",
    "blocks": "blocks=2, residual blocks a level",
}


class Given(Options):
    """What `--prior-options` takes: facts about a file from outside."""

    heads: Count | None = None  # of attention
    head_channels: Count | None = None  # channels a head, in place of heads
    heads_up: Count | None = None  # in the expanding half, where it differs
    new_attention_order: bool | None = None
    groups: Count | None = None  # of the normalisation
    blocks: Count | None = None  # residual blocks a level
    channels: Count | None = None  # of the pictures
    null_class: bool | None = None  # the last label stands for no class
    size: tuple[Count, Count] | None = None  # height, width of the pictures it was trained on
    prediction: Literal["eps", "v", "x0"] | None = None
    schedule: Schedule | None = None
    timesteps: Annotated[int, pydantic.Field(ge=2, le=WIDEST)] | None = None
    beta_start: Beta | None = None
    beta_end: Beta | None = None
    time_scale: Annotated[float, pydantic.Field(gt=0)] | None = (
        None  # the network is told time_scale * timestep
    )
    low_res: str | None = None  # the degradation of the picture that an upsampler enlarges
    weights: Literal["ema", "raw"] | None = None  # of a file that holds both

    @pydantic.field_validator("size", mode="before")
    @classmethod
    def _sides(cls, value: Any) -> Any:
        if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", value)):
            return found[1], found[2] or found[1]
        return value


def parse_given(text: str | None) -> Given:
    """`heads=4,schedule=linear` -> Given. ValueError, in one line, for what it does not take."""
    pairs: dict[str, str] = {}
    for item in text.split(",") if text else []:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value) or key in pairs:
            raise ValueError(f"'{item}' in --prior-options {text}; expected key=value, each key once")
        pairs[key] = value
    try:
        return Given.model_validate(pairs)
    except pydantic.ValidationError as error:
        raise ValueError(explain(error, "--prior-options", Given)) from None


class Facts:
    """Facts taken one by one, each with where it comes from; what nobody tells is missing.

    alike: known files of the same shapes. Where they do not agree, they do not tell.
    """

    def __init__(self, given: Given, alike: Sequence[Known], path: Path = Path()):
        self.given, self.alike, self.path = given, alike, path
        self.lines: list[str] = []  # "heads: 4 (known file 128x128_diffusion)"
        self.missing: list[str] = []  # options, with an example
        self._asked = {"weights"}

    def show(self, name: str, value: Any) -> None:
        """A fact that the tensors themselves tell."""
        self.lines.append(f"{name}: {_text(value)}")

    def take(self, name: str, known: Callable[[Known], Any] | None = None, default: Any = MISSING) -> Any:
        """The fact, or None if it is missing. default: what holds for nearly all files; None says nothing."""
        self._asked.add(name)
        if (value := getattr(self.given, name)) is not None:
            return self._said(name, value, "given")
        if known is not None and self.alike:
            values = [known(file) for file in self.alike]
            if all(value == values[0] for value in values):
                return None if values[0] is None else self._said(name, values[0], self._source())
        if default is MISSING:
            self.missing.append(HINTS.get(name, f"{name}=..."))
            return None
        return default if default is None else self._said(name, default, "not told by the file; as usual")

    def check_all_used(self) -> None:
        """ValueError for options that mean nothing for this file."""
        for name in Given.model_fields:
            if getattr(self.given, name) is not None and name not in self._asked:
                raise ValueError(
                    f"--prior-options {name}: this file tells it itself, or has none; leave it out"
                )

    def _source(self) -> str:
        names = ", ".join(file.name for file in self.alike[:3]) + (", ..." if len(self.alike) > 3 else "")
        named = self.alike[0].is_named(self.path)
        return f"of the known file {names}" if named else f"as of {names}, which has the same shapes"

    def _said(self, name: str, value: Any, source: str) -> Any:
        self.lines.append(f"{name}: {_text(value)} ({source})")
        return value


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return " ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
