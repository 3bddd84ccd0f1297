"""Where pictures begin, other than in noise of their own: at a picture, or between two noises."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse.app.events import Event, Progress
from undiffuse.config import SampleConfig
from undiffuse.core.images import read
from undiffuse.core.noise import SeededNoise, image_seed, slerp
from undiffuse.core.state import Denoise, Step
from undiffuse.registry import Entry
from undiffuse.samplers.inversion import REVERSIBLE, invert

STRENGTH = 0.5  # unless said


@dataclass(frozen=True, slots=True)
class Start:
    """What `--start`, `--invert` or `--interpolate` names."""

    option: str  # of the three
    files: tuple[Path, ...] = ()
    marks: tuple[str, ...] = ()  # sha256 of the files, or the seeds
    pictures: Tensor | None = None  # (1 or 2, C, H, W) in [-1, 1]
    seeds: tuple[int, ...] = ()
    strength: float | None = None

    @property
    def inverted(self) -> bool:
        """Whether its pictures are brought back to noise first."""
        return self.pictures is not None and self.option != "start"

    def settings(self, n: int) -> dict[str, Any]:
        """For the record. What lies between two pictures depends on how many there are."""
        more = {"n": n} if self.option == "interpolate" else {"strength": self.strength}
        return {"option": self.option, "of": list(self.marks), **more}

    def check(self, shape: tuple[int, ...], labels: int, entry: Entry, options: dict[str, Any]) -> None:
        """ValueError for pictures of another shape, several classes, and samplers that cannot do it."""
        if self.pictures is not None and self.pictures.shape[1:] != shape:
            sizes = ["x".join(str(n) for n in s) for s in (self.pictures.shape[1:], shape)]
            raise ValueError(
                f"'{self.files[0]}' is {sizes[0]}, and what is drawn {sizes[1]} (channels, height, width); "
                "convert or crop the picture, or say its size with --size HxW"
            )
        if self.option == "start":
            return
        if labels > 1:
            raise ValueError(f"--{self.option} with {labels} classes in turn; give one of them with --label")
        if self.inverted and (entry.factory not in REVERSIBLE or options.get("eta")):
            known = "ddim, euler or heun, without eta"
            raise ValueError(
                f"--{self.option} of pictures with {entry.name}, which does not go back; use {known}"
            )
        if entry.facts.get("stochastic") or options.get("eta"):
            raise ValueError(
                f"--interpolate with {entry.name}, which adds noise of its own; use dpmpp_2m or heun"
            )

    def between(self, ends: Tensor, members: list[int], n: int) -> Tensor:
        """(len(members), C, H, W): noises on the arc from the first end to the last, of n in all."""
        if len(ends) == 1:
            return ends.expand(len(members), -1, -1, -1)
        return torch.stack([slerp(ends[0], ends[1], i / (n - 1)) for i in members])

    def ends(
        self, step: Step, denoise: Denoise, sigmas: Tensor, shape: tuple[int, ...], device: torch.device
    ) -> Iterator[Event | Tensor]:
        """(1 or 2, C, H, W) with deviation 1, after progress: of the seeds, or what the pictures are drawn from."""
        if self.pictures is None:
            noise = SeededNoise(image_seed(seed, "sample/0") for seed in self.seeds)
            yield noise(torch.empty(len(self.seeds), *shape))
            return
        x, steps = self.pictures.to(device), len(sigmas) - 2
        for done, state in enumerate(invert(step, denoise, x, sigmas)):
            yield Progress(done, steps, "inverting")
            x = state.x
        yield x.cpu() / sigmas[0].item()


def read_start(config: SampleConfig) -> Start | None:
    """None if pictures begin in noise of their own. ValueError for files that cannot be read."""
    if config.start is not None:
        strength = STRENGTH if config.strength is None else config.strength
        return _of_files("start", (config.start,), strength)
    if config.invert is not None:
        return _of_files("invert", (config.invert,))
    if config.interpolate is None:
        return None
    ends = config.interpolate
    if all(text.isdecimal() and len(text) < 19 for text in ends):
        return Start("interpolate", marks=ends, seeds=tuple(int(text) for text in ends))
    return _of_files("interpolate", tuple(Path(text) for text in ends))


def _of_files(option: str, files: tuple[Path, ...], strength: float | None = None) -> Start:
    pictures = [read(file).pixels for file in files]
    if len({picture.shape for picture in pictures}) > 1:
        sizes = " and ".join("x".join(str(n) for n in picture.shape) for picture in pictures)
        raise ValueError(f"--{option}: the pictures are {sizes}; crop them to one size")
    marks = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return Start(option, files, marks, torch.stack(pictures), strength=strength)
