"""The way from noise to pictures: as a GIF, as a strip of moments, as a film."""

import importlib.util
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from undiffuse.app.outputs import as_image, picture_bytes
from undiffuse.app.sample.plan import Plan
from undiffuse.core.images import replace_file, to_bytes
from undiffuse.core.state import State

SHOWN, PIXELS = 8, 500_000  # pictures, and their pixels together
FRAMES, MOMENTS = 40, 9  # of a GIF or film, of a strip
PAUSE, LAST = 80, 2000  # milliseconds of a frame
NAMES = {"gif": "path.gif", "strip": "path.png", "mp4": "path.mp4"}


def check_kind(kind: str | None) -> None:
    """ValueError if this kind needs a package that is not here."""
    if kind == "mp4" and importlib.util.find_spec("imageio_ffmpeg") is None:
        raise ValueError(
            "--path mp4 needs the package imageio-ffmpeg; run `pip install imageio-ffmpeg`, or use gif"
        )


def shown(plan: Plan) -> list[int]:
    """The pictures whose way is kept: the first ones."""
    return list(range(max(1, min(plan.config.n, SHOWN, PIXELS // (plan.shape[1] * plan.shape[2])))))


def moments(plan: Plan) -> set[int]:
    """Numbers of the states that are kept, from 0 to the number of steps."""
    steps = len(plan.sigmas) - 1
    count = min(steps + 1, MOMENTS if plan.config.path == "strip" else FRAMES)
    return {round(i * steps / (count - 1)) for i in range(count)}


def seen(state: State, rows: Sequence[int]) -> Tensor:
    """(len(rows), C, H, W): x / sqrt(1 + sigma^2), which is noise of deviation 1 at first and the picture at last."""
    return (state.x / (1 + state.sigma**2).sqrt())[list(rows)].half().cpu()


def write_path(plan: Plan, folder: Path, states: Sequence[Tensor]) -> Path:
    """states: (pictures, C, H, W) each, from noise to picture."""
    kind = plan.config.path
    assert kind is not None
    path, whole = folder / NAMES[kind], [state.float() for state in states]
    if kind == "strip":
        replace_file(path, picture_bytes(tiled(torch.stack(whole, 1).flatten(0, 1), len(whole))))
        return path
    frames = [tiled(state, math.ceil(len(state) ** 0.5)) for state in whole]
    if kind == "gif":
        first, *others = [as_image(frame) for frame in frames]
        with io.BytesIO() as out:
            times = [PAUSE] * len(others) + [LAST]
            first.save(out, "GIF", save_all=True, append_images=others, duration=times, loop=0)
            replace_file(path, out.getvalue())
        return path
    _film(path, frames)
    return path


def tiled(pictures: Tensor, columns: int) -> Tensor:
    """(C, H, W): pictures in rows, two white pixels apart."""
    pictures = torch.cat(
        [pictures, torch.ones_like(pictures[:1]).expand(-len(pictures) % columns, -1, -1, -1)]
    )
    padded = functional.pad(pictures, (0, 2, 0, 2), value=1.0)
    return torch.cat([torch.cat(list(row), 2) for row in padded.split(columns)], 1)


def _film(path: Path, frames: Sequence[Tensor]) -> None:
    """H.264 with even sides; the last frame stays for two seconds."""
    import imageio_ffmpeg  # pyright: ignore[reportMissingImports]

    height, width = (n + n % 2 for n in frames[0].shape[1:])
    temporary = path.with_name(".undiffuse-path.mp4")
    try:
        writer = imageio_ffmpeg.write_frames(
            str(temporary), (width, height), fps=1000 / PAUSE, macro_block_size=2, ffmpeg_log_level="error"
        )
        writer.send(None)
        for frame in _lasting(frames):
            grown = functional.pad(frame, (0, width - frame.shape[2], 0, height - frame.shape[1]), value=1.0)
            writer.send(to_bytes(grown if len(grown) == 3 else grown[:1].expand(3, -1, -1)).tobytes())
        writer.close()
        replace_file(path, temporary.read_bytes())
    except OSError as error:
        raise ValueError(f"'{path}' cannot be written ({error}); use --path gif") from None
    finally:
        temporary.unlink(missing_ok=True)


def _lasting(frames: Sequence[Tensor]) -> Iterator[Tensor]:
    yield from frames
    yield from [frames[-1]] * (LAST // PAUSE)
