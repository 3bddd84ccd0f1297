"""The files of one result."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from undiffuse.app.measurement import files
from undiffuse.app.outputs import check_writable, save_bytes
from undiffuse.app.restore.folder import MANIFEST, SUFFIXES
from undiffuse.app.restore.result import Restored, record
from undiffuse.app.restore.sheet import heat, sheet
from undiffuse.app.restore.table import TABLE, read_table
from undiffuse.config import RestoreConfig
from undiffuse.core.images import write

ALL = ("restored", "degraded", "original", "deviation", "q05", "q50", "q95", "y", "sheet", "record", "draws")
ALONE = ALL[:-1]  # of one picture, unless asked otherwise
AMONG_OTHERS = ("restored", "deviation", "q05", "q50", "q95")  # of each picture in a folder
REPORT = "report.html"
LONGEST = 255  # bytes of a file name, on the file systems of today


def check_folder(out: Path, name: str, inputs: Iterable[Path]) -> None:
    """ValueError if `out` cannot hold the results of a picture `name`, or if they would replace an input.

    Makes nothing, as `check_writable`.
    """
    check_writable(out)
    if len(os.fsencode(f"{name}_deviation.png")) > LONGEST:
        raise ValueError(f"the name of '{name}' is too long for names such as NAME_deviation.png; shorten it")
    names = {f"{name}_{kind}{suffix}" for kind in ALL[:-2] for suffix in (".png", ".tif", ".npy")}
    names |= {f"{name}.json", TABLE, REPORT}
    for path in inputs:
        if path.name in names and path.parent.resolve() == out.resolve():
            raise ValueError(f"the results would replace '{path}'; choose another output folder with --out")
    read_table(out / TABLE)


def check_one(config: RestoreConfig, name: str) -> None:
    """ValueError if the output folder of a picture holds what its results do not go with, or would replace."""
    inputs = [config.image, *files(config.degrade)] + ([config.reference] if config.reference else [])
    check_folder(config.out, name, inputs)
    if (config.out / MANIFEST).exists():
        raise ValueError(f"'{config.out}' holds the results of a folder; choose another folder with --out")
    other = _other(config.out, config.image)
    if other is not None:
        raise ValueError(
            f"'{config.out}' holds the results of '{other}', which those of '{config.image}' would replace; choose "
            "another folder with --out"
        )


def _other(out: Path, image: Path) -> Path | None:
    """Another picture whose results have the names that those of `image` would have; None if there is none."""
    for row in read_table(out / TABLE):
        before = Path(row["image"])
        if before.stem == image.stem and before.suffix.lower() in SUFFIXES and before.name != image.name:
            return before
    record = out / f"{image.stem}.json"
    if not record.exists():
        return None
    try:
        before = Path(json.loads(record.read_bytes())["config"]["image"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"'{record}' is no record of undiffuse; choose another folder with --out") from None
    if before.name != image.name:
        return before
    return before if before.exists() and not before.samefile(image) else None  # None: it may have been moved


def save(result: Restored, stem: Path, kinds: tuple[str, ...]) -> Iterator[Path]:
    """Write STEM_restored.png and what else there is of `kinds`; each file is whole or not there."""
    depth = result.measurement.levels
    levels = 65535 if depth is None or depth > 255 else 255
    colours = result.measurement.profile
    for kind, pixels in _pictures(result).items():
        if kind.startswith("draw") and "draws" in kinds or kind in kinds:
            yield _written(
                pixels,
                stem.with_name(f"{stem.name}_{kind}"),
                levels,
                None if kind == "deviation" else colours,
            )
    if "y" in kinds:
        shape = (*[1] * (3 - result.y.ndim), *result.y.shape)  # what is no picture, as one of one channel
        yield _written(result.y.reshape(shape), stem.with_name(f"{stem.name}_y"), None)
    if "sheet" in kinds:
        yield save_bytes(stem.with_name(f"{stem.name}_sheet.png"), sheet(result))
    if "record" in kinds:
        text = json.dumps(record(result), indent=2)
        yield save_bytes(stem.with_name(f"{stem.name}.json"), text.encode())


def _pictures(result: Restored) -> dict[str, Tensor]:
    pictures: dict[str, Tensor] = {"restored": result.restored, "degraded": result.degraded}
    if result.reference is not None:
        pictures["original"] = result.reference
    if result.posterior is not None:
        pictures |= {
            "deviation": heat(result.posterior.deviation[0]),
            "q05": result.posterior.low[0],
            "q50": result.posterior.median[0],
            "q95": result.posterior.high[0],
        }
    return pictures | {f"draw{number:03}": draw for number, draw in enumerate(result.draws)}


def _written(pixels: Tensor, stem: Path, levels: int | None, profile: bytes | None = None) -> Path:
    """PNG where it can hold the picture, else TIFF; .npy for measurements, which are not clamped."""
    suffix = ".npy" if levels is None else ".png" if pixels.shape[0] in (1, 3) else ".tif"
    path = stem.with_name(stem.name + suffix)
    write(pixels, path, levels=levels or 255, profile=profile)
    return path
