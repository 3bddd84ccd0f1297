"""The folder of samples: numbered pictures, and sample.json, which says what made them."""

import importlib.metadata
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undiffuse.app.events import Event, Progress, Saved
from undiffuse.app.outputs import picture_bytes
from undiffuse.app.sample.path import tiled
from undiffuse.app.sample.plan import Plan
from undiffuse.config.train import changed
from undiffuse.core.images import read, replace_file, to_bytes, write
from undiffuse.core.replacing import replacing
from undiffuse.metrics.pixel import psnr

RECORD, GRID, ARRAYS, LATENTS = "sample.json", "grid.png", "samples.npz", "latents.npy"
END_OF_PNG = b"IEND\xaeB`\x82"
BEYOND = 1.05  # values beyond +-1.05 are counted
NOTHING = {"pictures": 0, "low": 0.0, "high": 0.0, "outside": 0.0}
COLUMNS, MOST_PIXELS = 16, 40_000_000  # of the grid


def picture_path(folder: Path, index: int, channels: int) -> Path:
    """00000.png, or .npy where PNG cannot hold the channels."""
    return folder / f"{index:05}{'.png' if channels in (1, 3) else '.npy'}"


def begun(plan: Plan, folder: Path) -> dict[str, Any]:
    """The record of the folder, empty if there is none. ValueError if the folder holds other pictures."""
    path = folder / RECORD
    other = "choose another folder with --out"
    if not path.exists():
        if any(picture_path(folder, i, plan.shape[0]).exists() for i in range(plan.config.n)):
            raise ValueError(f"'{folder}' holds pictures and no {RECORD} that says what made them; {other}")
        return {}
    try:
        record = json.loads(path.read_bytes())
        settings, values = record["settings"], record["values"]
        counts = [record["seconds"], *(values[key] for key in NOTHING)]
        if not isinstance(settings, dict) or not all(isinstance(v, int | float) for v in counts):
            raise ValueError("not as written")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"'{path}' is no record of samples ({error}); {other}") from None
    if differences := changed(settings, plan.settings()):
        told = "; ".join(differences[:5])
        raise ValueError(f"'{folder}' holds samples with other settings ({told}); set them back, or {other}")
    return record


def missing(plan: Plan, folder: Path) -> list[int]:
    """Numbers of the pictures that are not there, or not whole."""
    numbers = range(plan.config.n)
    return [i for i in numbers if not is_complete(picture_path(folder, i, plan.shape[0]))]


def is_complete(path: Path) -> bool:
    """A picture that was written to its end."""
    try:
        with path.open("rb") as file:
            file.seek(-len(END_OF_PNG), os.SEEK_END)
            return path.suffix != ".png" or file.read() == END_OF_PNG
    except OSError:
        return False


def write_record(plan: Plan, folder: Path, values: Mapping[str, float], seconds: float) -> None:
    """sample.json, as far as the folder has come."""
    record = {
        "undiffuse": importlib.metadata.version("undiffuse"),
        "torch": torch.__version__,
        "config": plan.config.model_dump(mode="json"),
        "settings": plan.settings(),
        "prior": plan.opened.record(),
        "sigmas": plan.sigmas.tolist(),
        "values": dict(values),
        "seconds": round(seconds, 3),
    }
    replace_file(folder / RECORD, json.dumps(record, indent=2).encode())


def counted(before: Mapping[str, float], pictures: Tensor) -> dict[str, float]:
    """Range of the values before clamping, and the share beyond +-1.05, over all pictures so far."""
    now = {
        "pictures": len(pictures),
        "low": pictures.min().item(),
        "high": pictures.max().item(),
        "outside": (pictures.abs() > BEYOND).double().mean().item(),
    }
    return _joined(before, now)


def _joined(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    if not a["pictures"] or not b["pictures"]:
        return dict(a if a["pictures"] else b)
    total = a["pictures"] + b["pictures"]
    outside = (a["outside"] * a["pictures"] + b["outside"] * b["pictures"]) / total
    low, high = min(a["low"], b["low"]), max(a["high"], b["high"])
    return {"pictures": total, "low": low, "high": high, "outside": outside}


def write_share(folder: Path, rank: int, values: Mapping[str, float]) -> None:
    """What one of several processes counted, until the first one gathers it."""
    replace_file(folder / f"sample.{rank}.json", json.dumps(dict(values)).encode())


def gathered(folder: Path, values: Mapping[str, float]) -> dict[str, float]:
    """`values`, with what other processes counted; their files are gone then. Of no use while they work."""
    found = dict(values)
    for path in sorted(folder.glob("sample.*.json")):
        if not re.fullmatch(r"sample\.[0-9]{1,6}\.json", path.name):
            continue
        try:
            share = json.loads(path.read_bytes())
            found = _joined(found, {key: float(share[key]) for key in NOTHING})
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"'{path}' is no count of samples ({error}); remove it") from None
        path.unlink()
    return found


def stretched(picture: Tensor) -> Tensor:
    """(C, H, W) with its 0.5 % and 99.5 % quantiles at -1 and 1, by itself: as much as can be seen."""
    low, high = np.quantile(picture.double().numpy(), (0.005, 0.995))
    return (picture - (low + high) / 2) * (2 / max(high - low, 1e-6))


def write_pictures(plan: Plan, folder: Path, members: Sequence[int], pictures: Tensor) -> None:
    """Each whole or not at all."""
    for index, picture in zip(members, pictures, strict=True):
        shown = stretched(picture) if plan.config.stretch else picture
        write(shown, picture_path(folder, index, plan.shape[0]))


def write_grid(plan: Plan, folder: Path) -> Path:
    """The first pictures as one: 16 a row at most, a column a class where there are several."""
    _, height, width = plan.shape
    shown = min(plan.config.n, COLUMNS**2, max(1, MOST_PIXELS // (height * width)))
    classes = len(plan.labels)
    row = plan.config.interpolate is not None and shown <= COLUMNS
    columns = (
        shown
        if row
        else classes
        if 1 < classes <= min(COLUMNS, shown)
        else min(COLUMNS, math.ceil(shown**0.5))
    )
    pictures = [_stored(plan, folder, i) for i in range(shown)]
    replace_file(folder / GRID, picture_bytes(tiled(torch.stack(pictures), columns)))
    return folder / GRID


def write_npz(plan: Plan, folder: Path) -> Iterator[Event]:
    """arr_0, (n, H, W, C) of uint8, and arr_1, the labels, if there are any: as guided diffusion's evaluator reads.

    One picture is in memory at a time.
    """
    path, null = folder / ARRAYS, plan.opened.num_classes
    n, (channels, height, width) = plan.config.n, plan.shape
    header = {"descr": "|u1", "fortran_order": False, "shape": (n, height, width, channels)}
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for index in range(n):
                yield Progress(index, n, "packing")
                file.write(to_bytes(_stored(plan, folder, index)).tobytes())
        if null is not None:
            labels = [plan.label(i) for i in range(n)]
            with archive.open("arr_1.npy", "w") as file:
                np.lib.format.write_array(file, np.array([null if c is None else c for c in labels]))
    yield Saved(path)


def write_latents(folder: Path, ends: Tensor) -> Path:
    """The noises of inverted pictures, (1 or 2, C, H, W) float32 with deviation 1."""
    with io.BytesIO() as out:
        np.save(out, ends.numpy(), allow_pickle=False)
        replace_file(folder / LATENTS, out.getvalue())
    return folder / LATENTS


def round_trip(plan: Plan, folder: Path) -> list[float]:
    """PSNR of the pictures that were inverted and drawn again, as they are stored: first, and last if there are two."""
    assert plan.start is not None and plan.start.pictures is not None
    found = [_stored(plan, folder, index) for index in (0, plan.config.n - 1)]
    pairs = zip(found, plan.start.pictures, strict=False)
    return [psnr(back[None], picture[None]).item() for back, picture in pairs]


def _stored(plan: Plan, folder: Path, index: int) -> Tensor:
    """A picture as it lies there. ValueError for one of another shape, which somebody else put in its place."""
    path = picture_path(folder, index, plan.shape[0])
    pixels = read(path, measured=True).pixels
    if pixels.shape != plan.shape:
        sizes = ["x".join(map(str, shape)) for shape in (pixels.shape, plan.shape)]
        raise ValueError(
            f"'{path}' is {sizes[0]}, and {sizes[1]} was drawn there (channels, height, width); remove it, and the "
            "same command draws it again"
        )
    return pixels
