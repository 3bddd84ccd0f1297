"""What sizes a network accepts: refused where the configuration is written, not deep inside a convolution."""

import math
from collections.abc import Sequence

from torch import Tensor


def positive(**sizes: int) -> None:
    """Whole numbers of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} = {size!r}; expected a whole number of at least 1")


def probability(**values: float) -> None:
    """Numbers in [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} = {value}; expected 0 <= {name} < 1, and 0 switches it off")


def levels(widths: Sequence[int], groups: int, attention: Sequence[int] = ()) -> None:
    """Widths that the normalisation can split, and levels of attention that exist."""
    if not widths:
        raise ValueError("no level; expected at least one, for instance (1, 2, 2)")
    for width in widths:
        if width < 1 or width % groups:
            fits = math.gcd(groups, *(w for w in widths if w > 0))
            raise ValueError(
                f"a level of {width} channels cannot be split into {groups} groups; "
                f"set groups to {fits}, or the widths to multiples of {groups}"
            )
    for level in attention:
        if not 0 <= level < len(widths):
            raise ValueError(f"attention at level {level}; expected 0 (the finest) to {len(widths) - 1}")


def classes(num_classes: int | None, null_class: bool) -> None:
    """At least one class, and a null class only beside others."""
    if num_classes is not None:
        positive(num_classes=num_classes)
    elif null_class:
        raise ValueError("null_class without classes; set num_classes, or null_class to False")


def heads(width: int, count: int, of: int | None) -> int:
    """How many heads attend over `width` channels: width / of where `of` is given, else `count`."""
    if of is not None and width % of:
        raise ValueError(
            f"head_channels = {of} does not divide a level of {width} channels; choose a divisor"
        )
    if of is None and width % count:
        raise ValueError(f"{count} heads do not divide a level of {width} channels; choose a divisor")
    return count if of is None else width // of


def image(x: Tensor, noise: Tensor, channels: int, multiple: int) -> None:
    """x (B, channels, H, W) with sides that `multiple` divides, and one level of noise an image."""
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"x of shape {tuple(x.shape)}; this network takes (B, {channels}, H, W)")
    if x.shape[2] % multiple or x.shape[3] % multiple or not x.shape[2] * x.shape[3]:
        raise ValueError(
            f"x of {x.shape[2]} x {x.shape[3]} pixels; expected sides that {multiple} divides: pad the image"
        )
    if noise.shape != (len(x),):
        raise ValueError(f"noise of shape {tuple(noise.shape)}; expected one level an image, ({len(x)},)")
