"""A folder of pictures: which there are, what decides their results, and what is told of each."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from undiffuse.app.measurement import files
from undiffuse.app.presets import builtin
from undiffuse.app.restore.result import Restored, number, versions
from undiffuse.config import RestoreConfig

MANIFEST = "manifest.jsonl"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".npy")
OTHERS = (".avif", ".bmp", ".gif", ".heic", ".jp2", ".jxl", ".ppm")  # pictures all the same
# What decides the pixels; a picture that was done with the same is not done again.
DECIDES = (
    "degrade", "measured", "blind", "noise", "size", "prior", "label", "guidance", "algorithm", "steps", "eta", "eta_b",
    "goal", "preset", "draws", "seed", "window", "save",
)  # fmt: skip


def pictures(root: Path, out: Path) -> tuple[list[str], tuple[str, ...]]:
    """Names of the pictures below a folder, sorted, and what was left out: hidden files, links that lead out of it.

    Linked folders are not entered, nor is `out`. ValueError if there is no picture.
    """
    top, avoid, left = root.resolve(), out.resolve(), Counter[str]()
    found: list[str] = []
    for at, folders, names in os.walk(root, onerror=_refuse):
        here = Path(at)
        left["linked folder(s)"] += sum((here / name).is_symlink() for name in folders)
        folders[:] = [n for n in folders if not n.startswith(".") and (here / n).resolve() != avoid]
        results = [n for n in folders if (here / n / MANIFEST).exists()]
        left["folder(s) of results"] += len(results)
        folders[:] = [n for n in folders if n not in results]
        for name in names:
            path = here / name
            if not encodable(name):
                left["name(s) that are not UTF-8"] += 1
            elif name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                other = path.suffix.lower() in OTHERS and not name.startswith(".")
                left[
                    f"{path.suffix.lower()} file(s), which are not read,"
                    if other
                    else "other or hidden file(s)"
                ] += 1
            elif path.is_symlink() and not path.resolve().is_relative_to(top):
                left["link(s) that lead out of the folder"] += 1
            elif path.exists() and not path.is_file():  # opening a pipe would wait for ever
                left["pipe(s) or device(s)"] += 1
            else:
                found.append(path.relative_to(root).as_posix())
    if not found:
        raise ValueError(
            f"'{root}' holds no picture; expected files in {' '.join(SUFFIXES)}; check the folder"
        )
    return sorted(found), tuple(f"{count} {what} left out" for what, count in left.items() if count)


def encodable(name: str) -> bool:
    """Whether a report can hold it."""
    return "\ufffd" not in os.fsencode(name).decode(errors="replace")


def _refuse(error: OSError) -> None:
    raise ValueError(f"'{error.filename}' cannot be listed ({error.strerror}); check its rights")


def settings(config: RestoreConfig, weights: Mapping[str, str | None], lpips: str | None) -> str:
    """A hash of all that decides the pixels beside the picture: settings, presets, files named, weights, version.

    lpips: a hash of the weights that decide that number; None for none.
    """
    told = {name: value for name, value in config.model_dump(mode="json").items() if name in DECIDES}
    named = [*files(config.degrade), *([config.preset] if config.preset else []), *config.plugins]
    told["compared"] = config.reference is not None
    told["lpips"] = None if config.measured and config.reference is None else lpips
    told["files"] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in named]
    told |= {
        "weights": dict(weights),
        "presets": hashlib.sha256(repr(builtin()).encode()).hexdigest(),
        **versions(),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def operator_hash(config: RestoreConfig, shape: tuple[int, ...]) -> str:
    """Of the degradation as text, the files it reads, and the picture's shape."""
    digest = hashlib.sha256(f"{config.degrade} {shape}".encode())
    for path in files(config.degrade):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def fingerprint(path: Path) -> dict[str, Any]:
    """Of an input: size, time of change and content."""
    status = path.stat()
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": content}


def unchanged(path: Path, before: Mapping[str, Any]) -> bool:
    """Whether a file has the fingerprint of before; its content is read if its time has changed."""
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) == (before["bytes"], before["mtime_ns"]):
        return True
    return fingerprint(path)["sha256"] == before["sha256"]


def stamp(path: Path) -> list[int]:
    """Size and time of change, which tell whether somebody wrote to it since."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def entry(
    result: Restored, row: dict[str, Any], paths: list[Path], seen: dict[str, Any], settings: str, out: Path
) -> dict[str, Any]:
    """The line of a restored picture; `seen`: fingerprints of input and reference before they were read."""
    told = {key: number(value, 6) if isinstance(value, float) else value for key, value in row.items()}
    return {
        **told,
        "status": "done",
        "image_seed": result.task.seed(0),
        "calls": result.method.calls,
        "widened": result.method.widen,
        "options": {key: str(value) for key, value in result.method.options.items()},
        "weights": result.prior.sha256,
        "operator": operator_hash(result.config, result.task.problem.A.in_shape),
        "versions": versions(),
        "notes": list(result.measurement.notes),
        "files": [path.relative_to(out).as_posix() for path in paths],
        "stamps": [stamp(path) for path in paths],
        **seen,
        "settings": settings,
    }
