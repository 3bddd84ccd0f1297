"""Image files under a folder, found or named by a list."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from undiffuse.data.dataset import Dataset, Item, Unusable
from undiffuse.data.encoded import from_file
from undiffuse.data.kept import kept
from undiffuse.data.table import LARGEST_LABEL, numbered
from undiffuse.registry import DATASETS

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".npy")
_RECORD = "sample.json"  # marks a folder of `undiffuse sample`: numbered pictures, and grid.png is none
_SAMPLE = re.compile(r"\d{5,}\.(png|npy)")
_LONGEST_LIST = 2**30  # bytes


@dataclass(frozen=True)
class Files:
    """Images in files, by their names under `root`."""

    root: Path
    names: Sequence[str]  # POSIX, relative to root
    labels: Sequence[int] | None = None
    classes: tuple[str, ...] | None = None
    channels: int = 3
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int, /) -> Item:
        label = None if self.labels is None else self.labels[i]
        return Item(from_file(self.root / self.names[i], self.channels), label)

    def name(self, i: int, /) -> str:
        return self.names[i]

    def digest(self, i: int, /) -> bytes:
        path = self.root / self.names[i]
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise Unusable(f"{path}: is not a regular file; expected an image; remove it")
        try:
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise Unusable(f"{path}: cannot be opened ({error}); check its rights, or remove it") from error


@DATASETS.register(
    "folder", summary="image files in a folder and its sub-folders", example="folder:classes=true"
)
def folder(
    path: str | os.PathLike[str],
    /,
    *,
    classes: Annotated[bool, Field(description="each sub-folder is a class")] = False,
    list_file: Annotated[Path | None, Field(description="lines of `name` or `name label`: use these")] = None,
    channels: Annotated[Literal[1, 3], Field(description="others are converted")] = 3,
    keep_mb: Annotated[int, Field(ge=0, description="memory for decoded images, in MB")] = 0,
) -> Dataset:
    """Every image below `path`, in the order of their names; hidden files and linked folders are left out.

    `list_file` (ImageNet's validation list: `ILSVRC2012_val_00000293.JPEG 0`) names the images instead, in its
    order; names stay inside `path`. Images are read when asked for, so a damaged one shows up only then.
    """
    root = checked_folder(path)
    labels: list[int] | None = None
    known: tuple[str, ...] | None = None
    if list_file is None:
        names, notes = found(root)
    else:
        names, labels = read_list(list_file)
        known = None if labels is None else numbered(labels)
        check_present(root, names, list_file)
        notes = (f"{len(names)} images named by {list_file}",)
    if classes and labels is not None:
        raise ValueError(f"{list_file}: gives labels, and classes=true does too; expected one; drop either")
    if classes:
        labels, known = classes_of(root, names)
    return kept(Files(root, names, labels, known, channels, notes), keep_mb)


def checked_folder(path: str | os.PathLike[str]) -> Path:
    """`path` if it is a folder."""
    if not os.path.isdir(path):
        raise ValueError(f"{path}: no such folder; expected a folder of images; check its name")
    return Path(path)


def found(root: Path) -> tuple[list[str], tuple[str, ...]]:
    """Names of all images under a folder, of samples the numbered ones, sorted, and what was left out."""
    names: list[str] = []
    left = Counter[str]()
    for at, folders, files in os.walk(root, onerror=_refuse):
        left["linked folder(s)"] += sum(os.path.islink(os.path.join(at, name)) for name in folders)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith(".") or not name.lower().endswith(SUFFIXES):
                left["other or hidden file(s)"] += 1
            else:
                names.append((Path(at) / name).relative_to(root).as_posix())
    if (root / _RECORD).is_file() and (samples := [name for name in names if _SAMPLE.fullmatch(name)]):
        left["picture(s) beside the samples"] += len(names) - len(samples)
        names = samples
    if not names:
        raise ValueError(f"{root}: holds no image; expected files in {' '.join(SUFFIXES)}; check the folder")
    notes = tuple(f"{count} {what} left out" for what, count in left.items() if count)
    return sorted(names), (f"{len(names)} images found", *notes)


def _refuse(error: OSError) -> None:
    raise ValueError(
        f"{error.filename}: cannot be listed ({error}); expected a readable folder; check its rights"
    )


def classes_of(root: Path, names: Sequence[str]) -> tuple[list[int], tuple[str, ...]]:
    """Labels by the first folder in each name, and the names of the classes, sorted."""
    stray = [name for name in names if "/" not in name]
    if stray:
        raise ValueError(
            f"{root}: {len(stray)} images are in no sub-folder ({', '.join(stray[:3])}); expected one sub-folder "
            "for each class; move them, or set classes=false"
        )
    firsts = [name.split("/", 1)[0] for name in names]
    known = tuple(sorted(set(firsts)))
    if odd := [name for name in known if not _is_text(name)]:
        raise ValueError(
            f"{root}: the sub-folder {odd[0]!r} is no text in UTF-8; expected names of classes that weights can hold; "
            "rename it"
        )
    label = {name: i for i, name in enumerate(known)}
    return [label[name] for name in firsts], known


def _is_text(name: str) -> bool:
    """False for the bytes of a file system that are no UTF-8."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def read_list(path: Path) -> tuple[list[str], list[int] | None]:
    """Names and labels: all lines end in an integer, or none does. Names that leave their folder are refused."""
    names: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        if labelled := re.fullmatch(r"(.*\S)\s+([0-9]{1,9})", name):
            name = labelled[1]
            labels.append(int(labelled[2]))
            if labels[-1] > LARGEST_LABEL:
                raise ValueError(
                    f"{path}, line {number}: the label {labels[-1]}; expected 0 to {LARGEST_LABEL}; renumber them"
                )
        names.append(inside(name, f"{path}, line {number}"))
    if not names:
        raise ValueError(f"{path}: an empty list; expected lines of `name` or `name label`; fill it")
    if labels and len(labels) != len(names):
        raise ValueError(
            f"{path}: {len(labels)} of {len(names)} lines end in a label; expected all or none; complete it"
        )
    return names, labels or None


def inside(name: str, where: str) -> str:
    """A relative name that stays in its folder; ValueError for any other."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or name[1:2] == ":" or "\0" in name:
        raise ValueError(
            f"{where}: the name {name!r} leads out of the data folder; expected one inside; correct it"
        )
    return name


def check_present(root: Path, names: Sequence[str], list_file: Path) -> None:
    """ValueError, with the first few, if files of a list are missing."""
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise ValueError(
            f"{root}: {len(missing)} of {len(names)} images named by {list_file} are missing "
            f"({', '.join(missing[:3])}); expected all; complete the folder or shorten the list"
        )


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LONGEST_LIST:
            raise ValueError(f"longer than {_LONGEST_LIST} bytes")
        return path.read_text(encoding="utf-8-sig")  # Windows begins a text with a mark
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); expected a list of names as UTF-8 text; check it"
        ) from error
