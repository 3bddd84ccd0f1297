"""The curves of a run for TensorBoard, where that is installed."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDER = "tensorboard"  # in the folder of a run: `tensorboard --logdir FOLDER` shows it
MISSING = "no curves for TensorBoard: it is not installed (pip install tensorboard)"


class Board:
    """Event files in the folder of a run. Without the package it does nothing, and `note` says so.

    `after`: the last step of the state that a run goes on from; what was written beyond it is of a lost stretch,
    and TensorBoard drops it.
    """

    def __init__(self, folder: Path, after: int | None = None):
        self.note: str | None = None
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.note = MISSING
            return
        self._writer = SummaryWriter(folder / FOLDER, purge_step=None if after is None else after + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Points of the curves of these names; a slash groups them: validation/eps."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def picture(self, step: int, png: bytes, name: str = "pictures") -> None:
        """A PNG, such as a sheet of samples."""
        if self._writer is not None:
            with Image.open(io.BytesIO(png)) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._writer.add_image(name, pixels, step, dataformats="HWC")
            self._writer.flush()

    def close(self) -> None:
        """Write what is left, and end the files."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
