"""The pictures of an experiment in DDRM's folders, in its order, at the prior's size."""

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from undiffuse.app.ddrm.setup import Data, Fit
from undiffuse.core.images import to_bytes
from undiffuse.data import Dataset, Subset, Unusable, celeba, folder, lsun, subrange, transforms
from undiffuse.data.folder import Files, checked_folder, inside, read_list

ENDINGS = ("", ".jpeg", ".JPEG", ".jpg", ".png")  # that a name of the list may lack
SPLIT_SEED, TRAINED = 2019, 0.9  # of CelebA-HQ: which nine tenths are not tested
CLASSES = 1000
Loaded = tuple[Tensor, int | None]  # a picture and its class


@dataclass(frozen=True, slots=True)
class Pictures:
    """A dataset, ready for use."""

    found: Dataset
    data: Data
    size: int

    def __len__(self) -> int:
        return len(self.found)

    def name(self, i: int) -> str:
        """Of the i-th picture."""
        return self.found.name(i)

    def __getitem__(self, i: int) -> Loaded:
        """(3, size, size) in [-1, 1], and the class if the layout knows it. Unusable if it cannot be read."""
        item = self.found[i]
        pixels = item.image if item.image.dtype == torch.uint8 else _bytes(item.image)
        fitted = fit(pixels, self.data.fit, self.size)
        if self.data.dequantise:
            return transforms.dequantised(fitted, transforms.item_generator(0, 0, i)), item.label
        return transforms.signed(fitted), item.label

    def first(self) -> Loaded:
        """The first that can be read. ValueError if there is none."""
        said = ""
        for i in range(len(self)):
            try:
                return self[i]
            except Unusable as error:
                said = said or str(error)
        raise ValueError(f"none of {len(self)} pictures can be read; the first: {said}")


def open_pictures(data: Data, exp: Path, size: int) -> Pictures:
    """What the config names, below `exp`. ValueError, with the folder, if it is not there."""
    root = exp / data.path
    match data.layout:
        case "folder":
            found: Dataset = _in_order(folder(root))
        case "list":
            found = _listed(root, exp / (data.list or ""))
        case "lsun":
            found = lsun(root)
        case "celeba":
            found = celeba(root / "celeba" if (root / "celeba").is_dir() else root, split="test")
        case "celeba_hq":
            found = _held_out(_in_order(folder(root)))
        case "imagenet":
            found = _validation(root)
    return Pictures(found, data, size)


def some(pictures: Pictures, start: int, end: int) -> Pictures:
    """--subset_start and --subset_end: all of them unless start >= 0 and end > 0, as the authors have it."""
    if start < 0 or end <= 0:
        return pictures
    return replace(pictures, found=subrange(pictures.found, start, end))


def shuffled(count: int, seed: int) -> list[int]:
    """The order in which DDRM works and numbers: that of torch's DataLoader with shuffle and a generator.

    The loader draws a seed for its workers from the same generator first.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.empty((), dtype=torch.int64).random_(generator=generator)
    return torch.randperm(count, generator=generator).tolist()


def _in_order(found: Dataset) -> Dataset:
    """Files by class, folder and name, each as a whole: 'a/x' before 'a-b/x'."""

    def key(i: int) -> tuple[str, str, str]:
        path = PurePosixPath(found.name(i))
        return path.parts[0], str(path.parent), path.name

    return Subset(found, sorted(range(len(found)), key=key), found.notes)


def _held_out(found: Dataset) -> Dataset:
    """The last tenth of a shuffle by numpy's generator of old."""
    order = list(range(len(found)))
    np.random.RandomState(SPLIT_SEED).shuffle(order)
    test = order[int(len(found) * TRAINED) :]
    if not test:
        raise ValueError(f"a tenth of {len(found)} pictures is tested, which is none; add pictures")
    return Subset(found, test, found.notes)


def _listed(root: Path, path: Path) -> Dataset:
    """Names of a list, which may lack their ending."""
    checked_folder(root)
    names, labels = read_list(path)
    found = [next((name + end for end in ENDINGS if (root / (name + end)).is_file()), None) for name in names]
    missing = [name for name, file in zip(names, found, strict=True) if file is None]
    if missing:
        raise ValueError(
            f"{root}: {len(missing)} of {len(names)} pictures named by {path} are missing ({missing[0]}, ...)"
        )
    return Files(root, [inside(str(name), str(path)) for name in found], labels)


def _validation(root: Path) -> Dataset:
    """val/n01440764/*.JPEG: the class is the place of its folder among all thousand."""
    at = root / "val" if (root / "val").is_dir() else root
    found = _in_order(folder(at, classes=True))
    classes = found.classes or ()
    if len(classes) == CLASSES and all(re.fullmatch(r"n\d{8}", name) for name in classes):
        return found
    return _in_order(folder(at))  # some are not there: which class a picture is of is not known


def fit(pixels: Tensor, how: Fit, size: int) -> Tensor:
    """(3, H, W) uint8 -> (3, size, size) uint8, resized by Pillow as the authors' pictures are."""
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    match how:
        case "stretch":
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        case "centre":
            picture = _adm(picture, size)
        case "shorter":
            picture = _middle(_shorter_to(picture, size), size)
        case "square":
            picture = _middle(picture, min(picture.size)).resize((size, size), Image.Resampling.BILINEAR)
        case "celeba":
            picture = picture.crop((25, 57, 153, 185)).resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def _shorter_to(picture: Image.Image, size: int) -> Image.Image:
    short = min(picture.size)
    return picture.resize(
        [size if n == short else size * n // short for n in picture.size], Image.Resampling.BILINEAR
    )


def _middle(picture: Image.Image, side: int) -> Image.Image:
    left, top = (round((n - side) / 2) for n in picture.size)
    return picture.crop((left, top, left + side, top + side))


def _adm(picture: Image.Image, size: int) -> Image.Image:
    """guided-diffusion's crop: halved by means while twice too large, then bicubic, then the middle."""
    while min(picture.size) >= 2 * size:
        picture = picture.resize([n // 2 for n in picture.size], Image.Resampling.BOX)
    scale = size / min(picture.size)
    picture = picture.resize([round(n * scale) for n in picture.size], Image.Resampling.BICUBIC)
    left, top = ((n - size) // 2 for n in picture.size)
    return picture.crop((left, top, left + size, top + size))


def _bytes(image: Tensor) -> Tensor:
    return torch.from_numpy(to_bytes(image)).permute(2, 0, 1).contiguous()
