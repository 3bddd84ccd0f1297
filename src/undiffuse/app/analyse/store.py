"""Trajectories and frames in files: safetensors with a header that says what they are, and nothing that is executed."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from undiffuse.analysis.embedding import Frame
from undiffuse.analysis.geometry import Geometry
from undiffuse.analysis.trajectory import Sketch, Trajectories
from undiffuse.core.tensors import write_tensors
from undiffuse.options import Options, explain

KEY = "undiffuse"  # of the header
MOST = 2**32  # bytes of a file of trajectories
WIDEST = 2**20  # of any axis
NAMES = (
    "states",
    "estimates",
    "path_steps",
    "path_turns",
    "path_chord",
    "guess_steps",
    "guess_turns",
    "guess_chord",
)

Count = Annotated[int, pydantic.Field(ge=1, le=WIDEST)]
Name = Annotated[str, pydantic.Field(max_length=1000)]


class Drawing(Options):
    """What trajectories depend on beside their prior: only those of one drawing can be compared."""

    shape: tuple[Count, Count, Count]
    n: Annotated[int, pydantic.Field(ge=2, le=WIDEST)]  # two have a distance
    seed: int
    sampler: Annotated[str, pydantic.Field(max_length=1000)]
    labels: Annotated[tuple[int | None, ...], pydantic.Field(min_length=1, max_length=WIDEST)]  # in turn
    guidance: float
    sketch: Count  # numbers that are kept of each picture
    sketch_seed: int

    def sketched(self) -> Sketch:
        """The map from pictures to what is kept."""
        return Sketch(self.shape, self.sketch, self.sketch_seed)


class Header(Options):
    """Of a file of trajectories."""

    kind: Literal["undiffuse trajectories"]
    version: Literal[1]
    drawing: Drawing
    priors: Annotated[tuple[Name, ...], pydantic.Field(min_length=1, max_length=1000)]  # in words, one each


class FrameHeader(Options):
    """Of a file with a frame."""

    kind: Literal["undiffuse frame"]
    version: Literal[1]
    of: Literal["estimates", "states"]
    shape: tuple[Count, Count, Count]
    sketch: Count
    sketch_seed: int
    total: Annotated[float, pydantic.Field(ge=0)]
    fitted_on: Name


def write_trajectories(path: Path, drawing: Drawing, found: Sequence[Trajectories]) -> None:
    """All in one file, whole or not at all."""
    header = Header(
        kind="undiffuse trajectories", version=1, drawing=drawing, priors=tuple(it.label for it in found)
    )
    tensors: dict[str, Tensor] = {}
    for number, it in enumerate(found):
        values = (it.states, it.estimates, *_parts(it.path), *_parts(it.guess))
        tensors |= {f"{number}.{name}": value for name, value in zip(NAMES, values, strict=True)}
        tensors |= {f"{number}.levels": it.levels, f"{number}.sigmas": it.sigmas}
    write_tensors(path, tensors, {KEY: header.model_dump_json()})


def read_trajectories(path: Path) -> tuple[Drawing, list[Trajectories]]:
    """As written. ValueError, in one line, for any other file, or one that is not what its header says."""
    with _opened(path) as file:
        header: Header = _header(path, file, Header)
        drawing, found = header.drawing, list[Trajectories]()
        total = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
        if 4 * total > MOST:
            raise ValueError(f"'{path}' would take {4 * total} bytes; expected at most {MOST}")
        for number, label in enumerate(header.priors):
            found.append(_read_one(path, file, number, label, drawing))
    return drawing, found


def _read_one(path: Path, file: Any, number: int, label: str, drawing: Drawing) -> Trajectories:
    levels, sigmas = (
        _tensor(path, file, f"{number}.{name}", (None,), torch.float64) for name in ("levels", "sigmas")
    )
    for grid in (levels, sigmas):
        if len(grid) < 2 or (grid.diff() >= 0).any() or grid[-1] != 0 or not torch.isin(grid, levels).all():
            raise ValueError(f"'{path}': the levels of '{label[:80]}' do not fall to 0")
    kept, all_of, n, k = len(sigmas), len(levels), drawing.n, drawing.sketch
    points = [_tensor(path, file, f"{number}.{name}", (kept, n, k), torch.float32) for name in NAMES[:2]]
    shapes = ((all_of - 1, n), (all_of - 2, n), (n,), (all_of - 2, n), (max(0, all_of - 3), n), (n,))
    parts = [
        _tensor(path, file, f"{number}.{name}", shape, torch.float64, finite="turns" not in name)
        for name, shape in zip(NAMES[2:], shapes, strict=True)
    ]
    return Trajectories(
        label, levels, sigmas, points[0], points[1], Geometry(*parts[:3]), Geometry(*parts[3:])
    )


def write_frame(path: Path, frame: Frame, of: str, sketch: Sketch, fitted_on: str) -> None:
    """The frame, whole or not at all."""
    told = {
        "kind": "undiffuse frame", "version": 1, "of": of, "shape": sketch.shape, "sketch": sketch.k,
        "sketch_seed": sketch.seed, "total": frame.total, "fitted_on": fitted_on[:1000],
    }  # fmt: skip
    header = FrameHeader.model_validate(told)
    tensors = {"mean": frame.mean, "axes": frame.axes, "variances": frame.variances}
    write_tensors(path, tensors, {KEY: header.model_dump_json()})


def check_frame(path: Path, of: str, dims: int) -> None:
    """ValueError for a file that is no frame of `of` with as many axes: what can be said before there are pictures."""
    with _opened(path) as file:
        header: FrameHeader = _header(path, file, FrameHeader)
        axes = len(_tensor(path, file, "variances", (None,), torch.float64))
    if header.of != of:
        raise ValueError(
            f"'{path}' is a frame of {header.of}; expected {of}: leave it out, or use --of {header.of}"
        )
    if axes < dims:
        raise ValueError(
            f"'{path}' has {axes} axes; expected {dims} or more: use --dims {axes}, or leave it out"
        )


def read_frame(path: Path, sketch: Sketch) -> tuple[Frame, str]:
    """The frame, and whom it was fitted on. ValueError for one of other pictures."""
    with _opened(path) as file:
        header: FrameHeader = _header(path, file, FrameHeader)
        mine = Sketch(header.shape, min(header.sketch, math.prod(header.shape)), header.sketch_seed)
        if mine != sketch:
            raise ValueError(
                f"'{path}' is a frame of {_size(mine)}; expected {_size(sketch)}: leave it out, or use as many "
                "pictures and steps as it was fitted on"
            )
        mean = _tensor(path, file, "mean", (sketch.k,), torch.float64)
        variances = _tensor(path, file, "variances", (None,), torch.float64)
        axes = _tensor(path, file, "axes", (len(variances), sketch.k), torch.float64)
    close = torch.allclose(
        axes @ axes.T, torch.eye(len(axes), dtype=axes.dtype), atol=1e-6
    )  # as pca makes them
    if not close or (variances < 0).any() or variances.sum() > header.total * (1 + 1e-6):
        raise ValueError(f"'{path}': its axes are not orthonormal, or show more variance than there is")
    return Frame(mean, axes, variances, header.total), header.fitted_on


def _size(sketch: Sketch) -> str:
    return "x".join(map(str, sketch.shape)) + ("" if sketch.exact else f" in {sketch.k} numbers")


def _parts(geometry: Geometry) -> tuple[Tensor, Tensor, Tensor]:
    return geometry.steps, geometry.turns, geometry.chord


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"'{path}' cannot be read as safetensors: {error}") from None


def _header(path: Path, file: Any, model: type[pydantic.BaseModel]) -> Any:
    told: Mapping[str, str] = file.metadata() or {}
    try:
        return model.model_validate_json(told.get(KEY, ""))
    except pydantic.ValidationError as error:
        kind = model.model_fields["kind"].annotation
        expected = getattr(kind, "__args__", ("",))[0]
        fault = explain(error, f"'{path}'", model)
        raise ValueError(
            f"'{path}' holds no {expected.removeprefix('undiffuse ')} of version 1: {fault}"
        ) from None


def _tensor(
    path: Path,
    file: Any,
    name: str,
    shape: tuple[int | None, ...],
    dtype: torch.dtype,
    *,
    finite: bool = True,
) -> Tensor:
    """One tensor of this shape, None being any length. ValueError for a missing, different or infinite one."""
    try:
        found = tuple(file.get_slice(name).get_shape())
    except SafetensorError:
        raise ValueError(f"'{path}': {name} is missing") from None
    fits = len(found) == len(shape) and all(a in (b, None) for a, b in zip(shape, found, strict=True))
    if not fits or any(length > WIDEST for length in found):
        raise ValueError(f"'{path}': {name} is of shape {found}; expected {shape}")
    value: Tensor = file.get_tensor(name)
    if (
        value.dtype != dtype
        or (finite and not value.isfinite().all())
        or (not finite and value.isinf().any())
    ):
        raise ValueError(f"'{path}': {name} is not of finite {dtype}")
    return value


def record(drawing: Drawing) -> dict[str, Any]:
    """For analysis.json."""
    return json.loads(drawing.model_dump_json())
