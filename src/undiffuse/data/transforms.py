"""From a stored image (C, H, W) to the x that a network sees: pure functions, randomness as an argument.

uint8 stays uint8 until `signed` or `dequantised`, so that these know what they were given.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from undiffuse.core.images import from_unit
from undiffuse.core.noise import image_seed
from undiffuse.data.dataset import Unusable

Transform = Callable[[Tensor, Generator], Tensor]  # (C, H, W) as stored -> (C, H, W) float in [-1, 1]
Crop = Literal["none", "centre", "random", "textured"]

_TOP = 255  # of uint8


def item_generator(seed: int, epoch: int, index: int) -> Generator:
    """The only randomness of one item in one epoch: order, workers and a resume cannot change it."""
    return Generator().manual_seed(image_seed(seed, f"item {index}", epoch))


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """Bicubic, antialiased, half-pixel centres; clamped to the range, and rounded if it was uint8."""
    if image.shape[1:] == (height, width):
        return image
    low, high = (-1, 1) if image.is_floating_point() else (0, _TOP)
    out = interpolate(image[None].float(), (height, width), mode="bicubic", antialias=True)[0].clamp_(
        low, high
    )
    return out if image.is_floating_point() else out.round_().to(torch.uint8)


def shorter_to(image: Tensor, size: int) -> Tensor:
    """Resized so that its shorter side is `size`, with its aspect."""
    height, width = image.shape[1:]
    scale = size / min(height, width)
    return resized(image, max(size, round(height * scale)), max(size, round(width * scale)))


def centre_crop(image: Tensor, size: int) -> Tensor:
    """The middle `size` x `size`; where there is no exact middle, one pixel nearer the top left."""
    height, width = _room(image, size)
    return _cut(image, height // 2, width // 2, size)


def random_crop(image: Tensor, size: int, generator: Generator) -> Tensor:
    """A square of `size`, each place as likely."""
    height, width = _room(image, size)
    top = int(torch.randint(height + 1, (), generator=generator))
    left = int(torch.randint(width + 1, (), generator=generator))
    return _cut(image, top, left, size)


def textured_crop(image: Tensor, size: int, generator: Generator, *, tries: int = 4) -> Tensor:
    """Of `tries` random crops the one with the largest mean step between neighbours; 1 is `random_crop`.

    Smooth sky fills much of a photograph and teaches little. The prior learned so is one of crops chosen so.
    """
    crops = [random_crop(image, size, generator) for _ in range(tries)]
    return max(crops, key=texture)  # the first of equals


def texture(image: Tensor) -> float:
    """Mean absolute step between neighbours, along both axes; 0 for a single pixel."""
    values = image.float()
    steps = [values.diff(dim=axis).abs() for axis in (1, 2)]
    return sum(float(step.mean()) for step in steps if step.numel())


def flipped(image: Tensor, generator: Generator) -> Tensor:
    """Left and right exchanged, every second time."""
    return image.flip(2) if int(torch.randint(2, (), generator=generator)) else image


def signed(image: Tensor) -> Tensor:
    """uint8 0..255 to [-1, 1], ends included; floats are there already."""
    return image if image.is_floating_point() else from_unit(image.float() / _TOP)


def dequantised(image: Tensor, generator: Generator) -> Tensor:
    """uint8 v to v + u of [0, 256), brought to [-1, 1) (Theis et al. 2016, sec. 3.1): a density, not 256 spikes."""
    if image.is_floating_point():
        raise Unusable(
            "has no 8 bits; dequantisation needs them: convert it, or set data.dequantise to false"
        )
    # u in steps of 2^-16: v + u then takes 24 bits, exact in float32, and never rounds into the next bin
    noise = torch.randint(2**16, image.shape, generator=generator) / 2**16
    return from_unit((image.float() + noise) / (_TOP + 1))


def prepare(
    size: int,
    /,
    *,
    window: int | None = None,
    shorter: int | None = None,
    crop: Crop = "centre",
    tries: int = 4,
    flip: bool = False,
    dequantise: bool = False,
) -> Transform:
    """A middle `window` (CelebA: 140), then the shorter side to `shorter`, a crop of `size`, a flip, [-1, 1].

    `shorter` defaults to `size` for a centre crop, and to no resizing for the random ones. "none" stretches
    the image to `size` x `size`. An image smaller than a crop is Unusable, as enlarging would teach blur.
    """
    for name, value in {"size": size, "window": window, "shorter": shorter, "tries": tries}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}; expected at least 1; correct it")
    if shorter is not None and (shorter < size or crop == "none"):
        raise ValueError(
            f"shorter={shorter} with size={size} and crop={crop}; expected shorter >= size and a crop"
        )
    shorter = size if shorter is None and crop == "centre" else shorter

    def transform(image: Tensor, generator: Generator) -> Tensor:
        image = image if window is None else centre_crop(image, window)
        image = image if shorter is None else shorter_to(_large_enough(image, shorter), shorter)
        image = _cropped(image, size, crop, tries, generator)
        image = flipped(image, generator) if flip else image
        return (dequantised(image, generator) if dequantise else signed(image)).contiguous()

    return transform


def _cropped(image: Tensor, size: int, crop: Crop, tries: int, generator: Generator) -> Tensor:
    match crop:
        case "none":
            return resized(image, size, size)
        case "centre":
            return centre_crop(image, size)
        case "random":
            return random_crop(image, size, generator)
        case "textured":
            return textured_crop(image, size, generator, tries=tries)
    raise ValueError(f"crop={crop!r}; choose from none, centre, random, textured")


def _large_enough(image: Tensor, size: int) -> Tensor:
    _room(image, size)
    return image


def _room(image: Tensor, size: int) -> tuple[int, int]:
    height, width = (n - size for n in image.shape[1:])
    if height < 0 or width < 0:
        have = f"{image.shape[1]} x {image.shape[2]}"
        raise Unusable(
            f"is {have} pixels; expected at least {size} x {size}; remove it, resize it first, or stretch all with "
            "crop none"
        )
    return height, width


def _cut(image: Tensor, top: int, left: int, size: int) -> Tensor:
    return image[:, top : top + size, left : left + size]
