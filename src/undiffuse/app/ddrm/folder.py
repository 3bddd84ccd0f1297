"""The folder of the results: orig_I.png, y0_I.png, I_-1.png, and ddrm.jsonl, by which a run goes on."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from undiffuse.app.outputs import append_lines, check_writable, make_folder
from undiffuse.core.images import write

RECORD = "ddrm.jsonl"
OURS = re.compile(r"(orig|y0)_\d+\.png|\d+_-1\.png|ddrm\.jsonl")
Consent = Callable[[str], bool]


def mark(settings: Mapping[str, Any]) -> str:
    """A hash of what decides the pixels."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


class Results:
    """The folder, and what it holds of a run with these settings.

    With other settings its files are in the way: `consent` decides whether they go. Only files that such a run
    writes are ever removed.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], consent: Consent):
        self.out, self._mark = out, mark(settings)
        check_writable(out)
        present = sorted(path for path in out.iterdir() if OURS.fullmatch(path.name)) if out.is_dir() else []
        lines = _lines(out / RECORD)
        self.lines: dict[int, dict[str, Any]] = {}
        if lines and lines[0].get("settings") == self._mark:
            self.lines = {line["index"]: line for line in lines[1:] if isinstance(line.get("index"), int)}
        elif present:
            question = f"'{out}' holds {len(present)} results of another run; overwrite them?"
            if not consent(question):
                raise ValueError(
                    f"'{out}' holds results of another run; nothing was changed; choose another -i"
                )
            for path in present:
                path.unlink()
        make_folder(out)
        if not self.lines:
            (out / RECORD).write_text(json.dumps({"settings": self._mark, **settings}) + "\n")

    def kept(self, index: int, name: str) -> float | None:
        """The PSNR of a picture that is there already; None for one that is to be made."""
        line = self.lines.get(index)
        if line is None or line.get("picture") != name or "psnr" not in line:
            return None
        value = math.inf if line["psnr"] is None else line["psnr"]
        known = isinstance(value, float) and all((self.out / file).is_file() for file in files(index))
        return value if known else None

    def save(
        self, indices: Sequence[int], pictures: tuple[Tensor, Tensor, Tensor], about: Sequence[dict[str, Any]]
    ) -> None:
        """Originals, y0 and answers, (B, C, H, W) in [-1, 1], and a line of the record each."""
        for row, index in enumerate(indices):
            for path, pixels in zip(files(index), (found[row] for found in pictures), strict=True):
                write(pixels.float().clamp(-1, 1), self.out / path)
        coded: list[str] = []
        for index, line in zip(indices, about, strict=True):
            psnr = None if line["psnr"] == math.inf else line["psnr"]  # JSON has no infinity
            coded.append(json.dumps({"index": index, **line, "psnr": psnr}) + "\n")
        append_lines(self.out / RECORD, "".join(coded).encode())


def files(index: int) -> tuple[str, str, str]:
    """Names of one picture's files, as DDRM gives them."""
    return f"orig_{index}.png", f"y0_{index}.png", f"{index}_-1.png"


def _lines(path: Path) -> list[dict[str, Any]]:
    """Objects of a record; what was cut off by a kill is left out."""
    found: list[dict[str, Any]] = []
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except (OSError, ValueError):
        return []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
