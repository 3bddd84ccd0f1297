"""Published face sets in the folders in which they are distributed."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from undiffuse.data.dataset import Dataset
from undiffuse.data.folder import Files, check_present, checked_folder, found, inside
from undiffuse.data.kept import kept
from undiffuse.registry import DATASETS

_PARTS = {"train": 0, "validation": 1, "test": 2}
Keep = Annotated[int, Field(ge=0, description="memory for decoded images, in MB")]


@DATASETS.register("celeba", summary="CelebA, aligned, with its own split", example="celeba:split=train")
def celeba(
    path: str | os.PathLike[str],
    /,
    *,
    split: Annotated[
        Literal["train", "validation", "test", "all"], Field(description="by list_eval_partition")
    ] = "train",
    keep_mb: Keep = 0,
) -> Dataset:
    """CelebA (Liu et al. 2015): img_align_celeba/ beside list_eval_partition.txt (or .csv), 178x218 JPEG."""
    root = checked_folder(path)
    files = next(
        (
            at
            for at in (root / "img_align_celeba" / "img_align_celeba", root / "img_align_celeba")
            if at.is_dir()
        ),
        None,
    )
    if files is None:
        raise ValueError(
            f"{root}: no folder img_align_celeba; expected it, with the images; unpack CelebA here"
        )
    if split == "all":
        names, notes = found(files)
        return kept(Files(files, names, notes=notes), keep_mb)
    lists = [root / f"list_eval_partition.{suffix}" for suffix in ("txt", "csv")]
    partition = next((at for at in lists if at.is_file()), None)
    if partition is None:
        raise ValueError(
            f"{root}: no list_eval_partition.txt; expected CelebA's own split; add it, or set split=all"
        )
    names = _partition(partition, _PARTS[split])
    check_present(files, names, partition)
    return kept(Files(files, names, notes=(f"{len(names)} images, {split} by {partition}",)), keep_mb)


def _partition(path: Path, part: int) -> list[str]:
    names: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        fields = re.split(r"[,\s]+", line.strip())
        if fields in ([""], ["image_id", "partition"]):
            continue
        if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r}; expected `000001.jpg 0`; download it again"
            )
        if int(fields[1]) == part:
            names.append(inside(fields[0], f"{path}, line {number}"))
    if not names:
        raise ValueError(f"{path}: no image of part {part}; expected parts 0, 1 and 2; download it again")
    return names


@DATASETS.register("celeba_hq", summary="CelebA-HQ, 30000 faces", example="celeba_hq")
def celeba_hq(path: str | os.PathLike[str], /, *, keep_mb: Keep = 0) -> Dataset:
    """CelebA-HQ (Karras et al. 2018): CelebAMask-HQ's folders, or any folder that holds its images."""
    root = _first(checked_folder(path), "CelebAMask-HQ/CelebA-HQ-img", "CelebA-HQ-img")
    names, notes = found(root)
    return kept(Files(root, names, notes=notes + _count(names, 30_000)), keep_mb)


@DATASETS.register("ffhq", summary="FFHQ, 70000 faces", example="ffhq:split=validation")
def ffhq(
    path: str | os.PathLike[str],
    /,
    *,
    split: Annotated[
        Literal["train", "validation", "all"], Field(description="train: numbers below 60000")
    ] = "all",
    keep_mb: Keep = 0,
) -> Dataset:
    """FFHQ (Karras et al. 2019): images1024x1024/, thumbnails128x128/, or a folder of 00000.png to 69999.png."""
    root = _first(checked_folder(path), "images1024x1024", "thumbnails128x128")
    names, notes = found(root)
    if split != "all":
        names = [name for name in names if (_number(root, name) < 60_000) == (split == "train")]
        if not names:
            raise ValueError(
                f"{root}: no image of the {split} split; expected 00000.png to 69999.png; set split=all"
            )
        return kept(Files(root, names, notes=(f"{len(names)} images of the {split} split",)), keep_mb)
    return kept(Files(root, names, notes=notes + _count(names, 70_000)), keep_mb)


def _number(root: Path, name: str) -> int:
    stem = Path(name).stem
    if not re.fullmatch(r"[0-9]{1,9}", stem):
        raise ValueError(
            f"{root / name}: is not named by a number; expected 00000.png; remove it, or set split=all"
        )
    return int(stem)


def _first(root: Path, *names: str) -> Path:
    return next((root / name for name in names if (root / name).is_dir()), root)


def _count(names: list[str], whole: int) -> tuple[str, ...]:
    return () if len(names) == whole else (f"{len(names)} images where the published set has {whole}",)
