"""Pictures in and out: the only place that knows 255. Inside the package an image is (C, H, W) in [-1, 1]."""

import os
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from undiffuse.core.decode import KINDS, Limits, Raster, Refused, decode
from undiffuse.core.jpeg import Rounding, flips, rounding
from undiffuse.core.replacing import replacing

PathLike = str | os.PathLike[str]

LONGEST_PROFILE = 2**20  # bytes; Pillow reads no longer one from a PNG
_HUGE = 1e9  # no measurement of something in [0, 1]; its products and doubles still fit float32


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as it was read, and what was done to it."""

    pixels: Tensor  # (C, H, W) in [-1, 1], float32
    levels: int | None  # 255, 65535, less for fewer bits; None for float input
    notes: tuple[str, ...] = ()  # in words that a user reads
    jpeg: Rounding | None = None  # of a JPEG that was read as measured
    profile: bytes | None = (
        None  # ICC: which colours the numbers mean, for `write`; nothing here is converted
    )

    @property
    def quantum(self) -> float:
        """The step between neighbouring values, in units of [-1, 1]; 0.0 for floats."""
        return 0.0 if self.levels is None else 2 / self.levels


def to_unit(x: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (x + 1) / 2


def from_unit(x: Tensor) -> Tensor:
    """[0, 1] -> [-1, 1]."""
    return 2 * x - 1


def read(path: PathLike, *, max_pixels: int = 300_000_000, measured: bool = False) -> Picture:
    """A PNG, JPEG, WebP, TIFF or .npy file, known by its first bytes. Of several frames or pages, the first.

    Integers go from 0..max to [-1, 1]. Floats must be in [0, 1]; with `measured`, finite ones beyond it are
    kept, as noisy measurements overshoot, and it is found what a JPEG's rounding did. Grey stays one channel;
    palettes and CMYK become RGB (no colour profile is used); alpha is composited over white, on the stored
    values; EXIF orientation is applied. Each of these leaves a note.

    .npy: (H, W), (H, W, C), or (C, H, W) where the first axis is at most 4 and the last longer than 4; bool,
    uint8, uint16 or float.

    At most 64 channels, and four values for each of max_pixels, checked before anything is decoded.
    ValueError, in one line with the path, for whatever cannot be read.
    """
    try:
        return _picture(_decoded(path, Limits(max_pixels)), measured)
    except Refused as error:
        raise ValueError(_one_line(f"{path}: {error}")) from error


def _decoded(path: PathLike, limits: Limits) -> Raster:
    if os.path.isdir(path):
        raise Refused(f"is a folder; expected a file, {KINDS}; name one of the files in it")
    if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would wait for ever
        raise Refused(f"is not a regular file; expected {KINDS}; copy it to one")
    try:
        with open(path, "rb") as file:
            return _guarded(file, limits)
    except Refused:
        raise
    except (OSError, ValueError) as error:
        what = f"cannot be opened ({error}); expected a readable file"
        raise Refused(f"{what}; check its name and its rights") from error


def _guarded(file: BinaryIO, limits: Limits) -> Raster:
    try:
        return decode(file, limits)
    except Refused:
        raise
    except Exception as error:  # decoders raise anything on bytes that nobody vouches for
        what = f"cannot be decoded ({type(error).__name__}: {error}); expected a whole and valid {KINDS}"
        raise Refused(f"{what}; copy or export it again") from error


def _picture(raster: Raster, measured: bool) -> Picture:
    notes = raster.notes
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused below
        values = raster.values.astype(np.float32)  # (H, W, C), in [0, 1] from here
    if raster.levels is not None:
        values /= raster.levels
    else:
        notes += _check_floats(values, measured)
    alpha = None
    if raster.alpha is not None:
        values, alpha = values[..., :-1], values[..., -1:]
    if raster.cmyk:
        notes += ("CMYK converted to RGB, without its colour profile",)
        values = np.concatenate([(1 - values[..., :3]) * (1 - values[..., 3:4]), values[..., 4:]], axis=2)
    if alpha is not None and (alpha == 1).all():
        notes += ("fully opaque alpha channel dropped",)
    elif alpha is not None:
        notes += ("alpha channel composited over white",)
        values = (values * alpha if raster.alpha == "straight" else values) + (1 - alpha)
    if 2 <= raster.orientation <= 8:
        notes += ("turned by its EXIF orientation",)
        values = _turned(values, raster.orientation)
    pixels = torch.as_tensor(np.ascontiguousarray(np.moveaxis(values, 2, 0)))
    profile = raster.profile if _of_channels(raster.profile) == len(pixels) else None
    rounded_by = _rounding(raster) if measured else None
    return Picture(pixels.mul_(2).sub_(1), raster.levels, notes, rounded_by, profile)


def _of_channels(profile: bytes | None) -> int | None:
    """How many channels a profile is for, by its header (ICC.1:2022, 7.2.6). None for others than grey and RGB."""
    kinds = {b"RGB ": 3, b"GRAY": 1}
    return None if profile is None or len(profile) > LONGEST_PROFILE else kinds.get(profile[16:20])


def _rounding(raster: Raster) -> Rounding | None:
    if raster.jpeg is None:
        return None
    orientation = raster.orientation if 2 <= raster.orientation <= 8 else 1
    found = rounding(raster.values, replace(raster.jpeg, orientation=orientation))
    return replace(found, left=found.left.T) if found is not None and orientation >= 5 else found


def _check_floats(values: NDArray[np.float32], measured: bool) -> tuple[str, ...]:
    if not (np.abs(values) <= _HUGE).all():  # also false for NaN
        raise Refused("holds NaN, infinite or huge values; expected numbers in [0, 1]; replace them")
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return ()
    reach = f"values from {low:.4g} to {high:.4g}"
    if not measured:
        raise Refused(f"holds {reach}; expected floats in [0, 1]; rescale them, or read it as a measurement")
    return (f"{reach}, beyond [0, 1], kept as measured",)


def _turned(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, C) as it is meant to be seen (EXIF 2.32, tag 274)."""
    if orientation >= 5:
        values = values.transpose(1, 0, 2)
    rows, columns = (-1 if turned else 1 for turned in flips(orientation))
    return values[::rows, ::columns]


def write(pixels: Tensor, path: PathLike, *, levels: int | None = 255, profile: bytes | None = None) -> None:
    """Write (C, H, W) in [-1, 1] in the format of the suffix: .png .jpg .jpeg .webp .tif .tiff .npy.

    Values are clamped and rounded half up to `levels`: 255, or 65535 for PNG and TIFF. None stores float32 in
    [0, 1] without clamping, in TIFF. .npy is always that, as (H, W, C), whatever the levels. JPEG has quality
    95 and 4:4:4. WebP is lossless, and has no grey: one channel comes back as three. profile: the ICC profile that the
    numbers were read with; left out where it is for other channels, and in .npy.

    An existing file is replaced, in one move when the new one is complete; if that fails, it stays as it was.
    ValueError for a suffix, number of channels or levels that the format cannot hold, for NaN, and for a
    folder that cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _ENCODERS:
        raise ValueError(_one_line(f"{path}: unknown suffix '{suffix}'; choose from {', '.join(_ENCODERS)}"))
    try:
        _check_pixels(pixels, suffix, levels)
        profile = profile if _of_channels(profile) == pixels.shape[0] else None
        data = _ENCODERS[suffix](pixels.detach().cpu(), levels, profile)
    except Exception as error:  # encoders have limits of their own: WebP ends at 16383 pixels
        shape = tuple(pixels.shape)
        raise ValueError(_one_line(f"{path}: cannot write an image of shape {shape}: {error}")) from error
    replace_file(path, data)


def to_bytes(pixels: Tensor) -> NDArray[np.uint8]:
    """(C, H, W) in [-1, 1] -> (H, W, C), clamped and rounded half up: for previews."""
    return _quantised(pixels.detach().cpu(), 255).astype(np.uint8, copy=False)


def rounded(x: Tensor) -> Tensor:
    """What `write` and `read` make of x with 8 bits, without a file: any shape in [-1, 1], clamped, same dtype."""
    levels = (to_unit(x.double().clamp(-1, 1)) * 255 + 0.5).floor()
    return from_unit(levels / 255).to(x.dtype)


def _check_pixels(pixels: Tensor, suffix: str, levels: int | None) -> None:
    if pixels.ndim != 3 or 0 in pixels.shape or not pixels.is_floating_point():
        raise ValueError(
            f"expected floats of shape (C, H, W), got {pixels.dtype}; write one image of a batch at a time"
        )
    allowed = {".png": (255, 65535), ".tif": (255, 65535, None), ".npy": (255, 65535, None)}
    allowed[".tiff"] = allowed[".tif"]
    if levels not in allowed.get(suffix, (255,)):
        raise ValueError(f"{suffix} cannot hold levels={levels}; choose from {allowed.get(suffix, (255,))}")
    if suffix not in (".tif", ".tiff", ".npy") and pixels.shape[0] not in (1, 3):
        raise ValueError(f"{suffix} holds 1 or 3 channels, not {pixels.shape[0]}; use .tif or .npy")
    if not pixels.isfinite().all():
        raise ValueError("expected finite numbers, found NaN or infinity; look at what made them")


def _quantised(pixels: Tensor, levels: int) -> NDArray[Any]:
    """(H, W, C) of uint8 or uint16."""
    channels, height, width = pixels.shape
    values = np.empty((height, width, channels), np.uint8 if levels == 255 else np.uint16)
    for channel, plane in enumerate(pixels):  # one at a time: in float64, where half a level is exact
        unit = to_unit(plane.to(torch.float64).clamp(-1, 1))
        values[..., channel] = (unit * levels + 0.5).floor().numpy()
    return values


def _floats(pixels: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(to_unit(pixels.to(torch.float64)).float().permute(1, 2, 0).numpy())


def _png(pixels: Tensor, levels: int | None, profile: bytes | None) -> bytes:
    if levels == 255:
        return _pillow_bytes(_quantised(pixels, 255), "PNG", icc_profile=profile)
    from imagecodecs import png_encode  # Pillow cannot write 16 bits of RGB

    data = bytes(png_encode(_quantised(pixels, 65535)))
    if profile is None:
        return data
    chunk = b"iCCPICC\0\0" + zlib.compress(profile)  # a name and a method before it (PNG 1.2, 4.2.2.4)
    head = len(b"\x89PNG\r\n\x1a\n") + 25  # signature and IHDR, which it has to follow
    length, check = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return data[:head] + length + chunk + check + data[head:]


def _jpeg(pixels: Tensor, levels: int | None, profile: bytes | None) -> bytes:
    return _pillow_bytes(_quantised(pixels, 255), "JPEG", quality=95, subsampling=0, icc_profile=profile)


def _webp(pixels: Tensor, levels: int | None, profile: bytes | None) -> bytes:
    kept = profile if pixels.shape[0] == 3 else None  # grey becomes three channels
    return _pillow_bytes(_quantised(pixels, 255), "WEBP", lossless=True, icc_profile=kept)


def _pillow_bytes(values: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    with BytesIO() as out:
        image.save(out, kind, **{name: value for name, value in options.items() if value is not None})
        return out.getvalue()


def _tiff(pixels: Tensor, levels: int | None, profile: bytes | None) -> bytes:
    from tifffile import imwrite

    values = _floats(pixels) if levels is None else _quantised(pixels, levels)
    photometric = "rgb" if values.shape[2] == 3 else "minisblack"
    with BytesIO() as out:
        values = values[..., 0] if values.shape[2] == 1 else values
        planar = None if values.ndim == 2 else "contig"
        imwrite(
            out, values, photometric=photometric, planarconfig=planar, metadata=None, compression="deflate",
            iccprofile=profile,
        )  # fmt: skip
        return out.getvalue()


def _npy(pixels: Tensor, levels: int | None, profile: bytes | None) -> bytes:
    return _npy_bytes(_floats(pixels))


def _npy_bytes(values: NDArray[Any]) -> bytes:
    with BytesIO() as out:
        np.save(out, values, allow_pickle=False)
        return out.getvalue()


_ENCODERS: dict[str, Callable[[Tensor, int | None, bytes | None], bytes]] = {
    ".png": _png,
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".webp": _webp,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".npy": _npy,
}


def replace_file(path: PathLike, data: bytes | Iterable[bytes]) -> None:
    """Beside it first, then over it: `path` never holds half a file, and no temporary stays behind.

    data: whole or in parts, one after another; they may be read from `path`. ValueError where nothing can be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines([data] if isinstance(data, bytes) else data)


def _one_line(message: str) -> str:
    return " ".join(message.splitlines())
