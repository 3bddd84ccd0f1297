"""Which pictures a prior takes, by their size and channels; windows for those that it does not."""

from collections.abc import Sequence

from undiffuse.app.priors import Opened
from undiffuse.core.state import Denoise
from undiffuse.networks import Photo
from undiffuse.priors import Prior, windowed
from undiffuse.priors.windows import line

WHOLE = 2**20  # pixels up to which a convolutional network sees the picture at once: 2.4 GB with gradients
WINDOW = 512  # side of its windows beyond that
OVERLAP = 64  # of windows, in pixels, or a quarter of their shorter side if that is less


def check_shape(opened: Opened, shape: Sequence[int]) -> None:
    """ValueError if the prior cannot be called on a whole picture of (C, H, W).

    For callers that have no windows. `in_windows` serves any size and checks the channels itself.
    """
    prior, (_, height, width) = opened.prior, shape
    check_channels(opened, shape)
    multiple = 1 if prior is None else multiple_of(prior)
    if height % multiple or width % multiple:
        down, right = -height % multiple, -width % multiple
        raise ValueError(
            f"the picture is {height}x{width} and the prior '{opened.name}' takes sides that {multiple} divides; "
            f"pad it to {height + down}x{width + right}, crop it, or choose another --prior"
        )


def check_channels(opened: Opened, shape: Sequence[int]) -> None:
    """ValueError if the prior does not take pictures of C channels; shape is (C, H, W)."""
    prior, channels = opened.prior, shape[0]
    if prior is not None and channels != prior.channels:
        raise ValueError(
            f"the picture has {channels} channel{'s' if channels > 1 else ''} and the prior '{opened.name}' "
            f"takes {prior.channels}; convert the picture, or choose another --prior"
        )


def in_windows(
    opened: Opened, denoise: Denoise, shape: Sequence[int], window: int | None = None
) -> tuple[Denoise, str | None]:
    """`denoise` (of this prior, with its label) for pictures (C, H, W) of any size, and what was done, in words.

    Decided by the shape and the prior alone, so that all machines give the same pixels. A convolutional network
    sees up to WHOLE pixels at once and larger pictures in windows; one that was made for a size sees windows of
    that size; one that only wants sides that a number divides, the picture continued to such sides; a prior in
    closed form, the picture. window: side of square windows, instead, unless one covers the picture. ValueError for
    other channels than the prior's, and for a window that the prior cannot have.
    """
    check_channels(opened, shape)
    _, height, width = shape
    size = _window(opened, height, width) if window is None else _asked_window(opened, window, height, width)
    if opened.guide is not None:
        opened.guide.check_size(*(size or (height, width)))
    if size is None or size == (height, width):
        larger = window is not None and window > max(height, width)
        return denoise, f"the prior sees the whole picture: --window {window} is larger" if larger else None
    overlap = max(1, min(OVERLAP, min(size) // 4))
    rows, columns = (
        len(line(max(n, s), s, overlap, 0.0).starts) for n, s in zip((height, width), size, strict=True)
    )
    count = f"{rows * columns} windows" if rows * columns > 1 else "one window"
    return windowed(denoise, size=size, overlap=overlap), f"the prior sees {count} of {size[0]}x{size[1]}"


def _window(opened: Opened, height: int, width: int) -> tuple[int, int] | None:
    """(height, width) of its windows for this picture; None if it takes it as it is."""
    prior = opened.prior
    if prior is None:
        return None
    if isinstance(prior.net, Photo):
        return None if height * width <= WHOLE else (WINDOW, WINDOW)
    if prior.size is not None:
        return prior.size
    multiple = multiple_of(prior)
    return height + -height % multiple, width + -width % multiple


def _asked_window(opened: Opened, window: int, height: int, width: int) -> tuple[int, int]:
    """Square; where that covers the picture, no more of it than the prior needs."""
    prior = opened.prior
    if prior is None:
        raise ValueError(
            f"--window {window}; the prior '{opened.name}' takes any picture whole: leave it out"
        )
    multiple = unit_of(prior)
    if window < 2 or window % multiple:
        raise ValueError(
            f"--window {window}; the prior '{opened.name}' takes a multiple of {multiple}: choose "
            f"{max(-(-window // multiple), -(-2 // multiple)) * multiple}"
        )
    each, (least_down, least_right) = multiple_of(prior), prior.size or (0, 0)
    whole = max(height + -height % each, least_down), max(width + -width % each, least_right)
    covered = max(whole) <= window and opened.guide is None  # a classifier may see one size alone
    return whole if covered else (window, window)


def any_size(prior: Prior) -> bool:
    """Whether it was made for pictures of any size, or does not say for which."""
    return prior.size is None or isinstance(prior.net, Photo)


def multiple_of(prior: Prior) -> int:
    """What height and width have to be multiples of; a network that pads by itself takes any."""
    return 1 if isinstance(prior.net, Photo) else unit_of(prior)


def unit_of(prior: Prior) -> int:
    """What sides the network works on are multiples of, its own padding included."""
    return getattr(getattr(prior.net, "config", None), "multiple", 1)
