"""From files and options to a Problem: simulate a degradation, or take the picture as measured."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from undiffuse.app.blind import told, unblind
from undiffuse.config import RestoreConfig, from_term, parse_term
from undiffuse.core.images import Picture, read
from undiffuse.core.noise import SeededNoise, image_seed
from undiffuse.operators.base import LinearOperator, Operator, Shape
from undiffuse.operators.build import build, parse
from undiffuse.operators.jpeg import Jpeg, as_text
from undiffuse.registry import OPERATORS, RESTORERS
from undiffuse.restore import BlurEstimate, Problem, diagnose, estimate_sigma, measure

MAX_PIXELS, MAX_CHANNELS = 100_000_000, 64  # of a clean picture: a slip of the pen must not fill the memory
LEAST_NOISE = 1e-6  # ten roundings of a float32 picture
HALF = 0.5  # of a picture: a mask that keeps less may be the wrong way round
DECODED = 0.25  # relative error of that of a decoder: 0.08 on photographs to quality 75, more from 90 on
LEAST_SIDE = 16  # of a measurement that is looked at
OF_DRAWS = {"deviation", "q05", "q50", "q95"}  # files that there are of two draws or more
SIMULATED = "--noise auto estimates the noise of a --measured picture; a simulation needs a number"
MEASUREMENT = -1  # the `draw` whose noise makes y; restorations are drawn with 0, 1, ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """A problem for one picture, and what is known about it."""

    problem: Problem
    reference: Tensor | None  # (1, C, H, W), the clean picture if there is one
    sigma_error: float  # relative error of the noise level
    levels: int | None  # of the input file: results are written in the same depth
    notes: tuple[str, ...]
    config: RestoreConfig  # as asked for, with an estimated blur and its noise filled in
    blind: BlurEstimate | None = None
    profile: bytes | None = None  # ICC, of the input file: results are written with it


class Build(Protocol):
    """(degradation, (C, H, W), dtype) -> the operator."""

    def __call__(self, text: str, shape: Shape, dtype: torch.dtype, /) -> Operator: ...


def operator(text: str, shape: Shape, dtype: torch.dtype, /) -> Operator:
    """`build`, in the precision of the picture."""
    return build(text, shape).to(dtype)


def open_measurement(config: RestoreConfig, make: Build = operator) -> Measurement:
    """Read and check everything that a restoration needs. ValueError in one line for whatever is wrong."""
    check_given(config)
    return _measured(config, make) if config.measured else _simulated(config, make)


def check_given(config: RestoreConfig) -> None:
    """ValueError for settings that do not go together."""
    if isinstance(config.noise, float) and 0 < config.noise < LEAST_NOISE:
        raise ValueError(f"--noise {config.noise:g} is less than rounding; use 0 for noise-free data")
    if config.save is not None and config.draws == 1 and set(config.save) <= OF_DRAWS:
        raise ValueError(f"--save {','.join(config.save)} is of several draws; give --draws 2 or more")
    if config.preset is not None and config.algorithm != "auto":
        raise ValueError(
            f"--preset '{config.preset}' chooses the algorithm, and --algorithm {config.algorithm} is another; leave "
            "one of them out"
        )
    if not config.measured:
        if config.noise == "auto":
            raise ValueError(SIMULATED)
        if config.reference is not None:
            raise ValueError(
                "--reference goes with --measured; a simulation compares with the picture itself"
            )
        if config.blind:
            raise ValueError(
                "--blind estimates the blur of a --measured picture; a simulation has to be told it"
            )


def check_terms(config: RestoreConfig) -> None:
    """ValueError for what is wrong with any picture: names and options that do not exist, files that are missing."""
    for term in parse(config.degrade):
        for name, value in term.options.items():
            named = isinstance(value, str) and re.search(r"\.(png|npy|tiff?|jpe?g|webp)$", value, re.I)
            if named and not Path(value).is_file():
                raise ValueError(f"no file '{value}', the {name} of '{term.name}'; check its name")
    name, first, given = parse_term(config.algorithm)
    if name != "auto":
        given |= {n: str(v) for n in ("eta", "eta_b") if (v := getattr(config, n)) is not None}
        from_term(RESTORERS[name], first, given)
    check_given(config)


def _simulated(config: RestoreConfig, make: Build) -> Measurement:
    picture = read(config.image)
    x = picture.pixels[None]
    if config.size is not None and parse_size(config.size, x.shape[1]) != x.shape[1:]:
        raise ValueError(f"--size {config.size} is not the size of '{config.image}'; it goes with --measured")
    A = make(config.degrade, tuple(x.shape[1:]), x.dtype)
    assert config.noise != "auto"  # refused above
    sigma_y = 2 * (config.noise or 0.0)  # quoted in [0, 1], used in [-1, 1]
    noise = SeededNoise([image_seed(config.seed, config.image.stem, MEASUREMENT)])
    y = measure(A, x, sigma_y, noise)
    return Measurement(
        Problem(A, y, sigma_y), x, 0.0, picture.levels, picture.notes, config, None, picture.profile
    )


def _measured(config: RestoreConfig, make: Build) -> Measurement:
    picture = read(config.image, measured=True)
    y = picture.pixels[None]
    notes, estimate, told_noise = list(picture.notes), None, isinstance(config.noise, float)
    if config.blind:
        config, estimate = _unblinded(config, picture)
        notes.append(told(estimate))
    stored = _as_stored(config, picture)
    if stored.degrade != config.degrade:
        notes.append(f"compressed as by {stored.degrade.split(' . ')[0]}, which is undone")
    config = stored
    shape = clean_shape(config.degrade, config.size, y)
    A = make(config.degrade, tuple(shape), y.dtype)
    if len(A.out_shape) < 3 and y.shape[1:] == (*[1] * (3 - len(A.out_shape)), *A.out_shape):
        y = y.reshape(1, *A.out_shape)  # coefficients, not a picture
    if y.shape[1:] != A.out_shape:
        of_colours = len(A.out_shape) == 3 and y.shape[2:] == A.out_shape[1:]
        do = "give one of so many channels" if of_colours else "say the size of the clean picture with --size"
        raise ValueError(
            f"'{config.image}' is {_times(y.shape[1:])}, but '{config.degrade}' gives {_times(A.out_shape)} from "
            f"a picture of {_times(shape)}; {do}"
        )
    if A.support is not None:
        y = y * A.support
        if (share := float(A.support.expand(A.out_shape).mean())) < HALF:
            notes.append(
                f"only {100 * share:.2g} % of the picture is kept: in a mask white is kept, black is missing"
            )
        elif share == 1:
            notes.append("nothing is missing: in a mask white is kept, black is missing")
    sigma, error, rounding = _noise_level(config, A, y, picture, notes)
    if rounding > 0.1 * sigma:
        levels = round(2 / (rounding * math.sqrt(12))) + 1
        notes.append(f"rounding to {levels} levels counted as noise of {rounding / 2:.2g}")
    sigma_y = math.hypot(sigma, rounding)
    reference = None
    if config.reference is not None:
        reference = read(config.reference).pixels[None]
        if reference.shape[1:] != shape:
            raise ValueError(
                f"reference '{config.reference}' is {_times(reference.shape[1:])}, the restored picture "
                f"{_times(shape)}; they must be of one size"
            )
    if estimate is not None and not told_noise:
        low, high = estimate.sigma_interval
        error = max(error, (high - low) / (2 * sigma)) if sigma > 0 else error
    told_of = tuple(notes)
    problem, profile = Problem(A, y, sigma_y), picture.profile
    return Measurement(problem, reference, error, picture.levels, told_of, config, estimate, profile)


def _unblinded(config: RestoreConfig, picture: Picture) -> tuple[RestoreConfig, BlurEstimate]:
    """The same with the blur, and with the noise if that was to be estimated, too."""
    known = 2 * config.noise if isinstance(config.noise, float) else None
    if picture.jpeg is None:
        degrade, estimate = unblind(config.degrade, picture.pixels, known)
    else:  # its rounding adds noise of its own where the picture is looked at
        left = torch.from_numpy(picture.jpeg.left)
        degrade, estimate = unblind(config.degrade, picture.pixels, None, left)
    noise = config.noise if known is not None else estimate.sigma_y / 2
    return config.model_copy(update={"degrade": degrade, "noise": noise, "blind": False}), estimate


def _as_stored(config: RestoreConfig, picture: Picture) -> RestoreConfig:
    """The same with the compression of the file where `jpeg` came last and nothing is said of it."""
    text, *before = config.degrade.split(" . ")
    last = parse(text)[0]
    if last.name != "jpeg" or any(value is not None for value in last.options.values()):
        return config
    if picture.jpeg is None:
        raise ValueError(
            f"'{config.image}' does not tell how it was compressed; expected a JPEG, grey or Y Cb Cr; say how, as in "
            "jpeg:quality=75,subsampling=420"
        )
    told = as_text(picture.jpeg.tables)
    named = "," not in str(config.image) and " . " not in str(config.image)
    if told is None and not named:
        raise ValueError(
            f"'{config.image}' is named by what is undone, jpeg:like=FILE; rename it without commas"
        )
    if told is None or (named and picture.jpeg.tables.whole is not None):  # which the file alone tells
        told = f"jpeg:like={config.image}"
    return config.model_copy(update={"degrade": " . ".join([told, *before])})


def files(degrade: str) -> list[Path]:
    """The kernels, masks and matrices that a degradation reads."""
    values = [value for term in parse(degrade) for value in term.options.values()]
    return [Path(value) for value in values if isinstance(value, str) and Path(value).is_file()]


def _noise_level(
    config: RestoreConfig, A: Operator, y: Tensor, picture: Picture, notes: list[str]
) -> tuple[float, float, float]:
    """sigma in [-1, 1] units, its relative error, and the deviation of the rounding, which may be part of sigma."""
    given = 2 * config.noise if isinstance(config.noise, float) else None
    undone = parse(config.degrade)[0].name == "jpeg"  # what it made of noise is in the picture
    if y.ndim != 4 or min(y.shape[2:]) < LEAST_SIDE:  # coefficients, or too small to look at
        if given is None:
            given = 0.0 if undone else estimate_sigma(y[0])  # which says why not
        return given, 0.05, picture.quantum / math.sqrt(12)
    support = None if A.support is None else A.support.expand(A.out_shape)
    after = 0.0 if undone and given is None else given
    found = diagnose(y[0], quantum=picture.quantum, sigma=after, support=support)
    notes += found.lines()
    if undone and given is None:  # a decoder rounds more than R, G and B; floats it did not round at all
        stored = build(config.degrade.split(" . ")[0], tuple(y.shape[1:])).to(y.dtype)
        assert isinstance(stored, Jpeg)
        decoder = stored.rounding(y) if found.rounding > 0 else 0.0
        return math.sqrt(max(decoder**2 - found.rounding**2, 0)), DECODED, found.rounding
    lost = picture.jpeg.level if picture.jpeg is not None and not undone else 0.0
    if given is not None:
        if lost > 2 * given:
            notes.append(
                f"JPEG's rounding left noise of {lost / 2:.2g}, more than the level of {given / 2:.2g}: it is taken "
                "for picture; --noise auto counts it as noise"
            )
        return given, 0.05, found.rounding
    notes.append(
        f"noise estimated at {found.effective / 2:.4f} (give --noise to set it; in units where white - black = 1)"
    )
    if lost > 0.1 * found.effective:
        notes.append(f"JPEG's rounding counted as noise of {lost / 2:.2g}")
    sigma = math.hypot(found.effective, lost)
    # The error is the worst of twelve Kodak images at 0.02 to 0.1 (benchmarks/results/noise_level.json); JPEG's noise
    # is not white, and over a whole blurred picture half of what it is where something is left.
    return sigma, math.hypot(0.25 * found.effective, 0.5 * lost) / max(sigma, 1e-12), found.rounding


def clean_shape(degrade: str, size: str | None, y: Tensor) -> tuple[int, ...]:
    """The clean picture's (C, H, W): from --size, else what the degradation's factors make of the measurement's."""
    channels, height, width = y.shape[1:]
    for term in parse(degrade):
        factor = term.options.get("factor", 1)
        height, width = height * factor, width * factor
        if OPERATORS[term.name].factory is OPERATORS["color"].factory:
            channels = 3
    if size is not None:
        return parse_size(size, channels)
    return _sized((channels, height, width), f"a clean picture of {channels}x{height}x{width}")


def parse_size(text: str, channels: int) -> tuple[int, ...]:
    """HxW or CxHxW as (C, H, W)."""
    if not re.fullmatch(r"([0-9]{1,9}x)?[0-9]{1,9}x[0-9]{1,9}", text):
        raise ValueError(f"size '{text}'; write HEIGHTxWIDTH or CHANNELSxHEIGHTxWIDTH, as in 480x640")
    numbers = [int(part) for part in text.split("x")]
    return _sized(tuple(numbers) if len(numbers) == 3 else (channels, *numbers), f"size '{text}'")


def _sized(shape: tuple[int, ...], what: str) -> tuple[int, ...]:
    channels, height, width = shape
    if min(shape) < 1 or channels > MAX_CHANNELS or height * width > MAX_PIXELS:
        raise ValueError(f"{what}; 1 to {MAX_CHANNELS} channels and 1 to {MAX_PIXELS} pixels are possible")
    return shape


def _times(shape: tuple[int, ...] | torch.Size) -> str:
    return "x".join(str(n) for n in shape)


def view(problem: Problem) -> Tensor:
    """The measurement as a picture (1, C, H, W): itself with missing pixels black, else its pseudo-inverse."""
    A, y = problem.A, problem.y
    if len(A.out_shape) == 3 and A.out_shape[0] in (1, A.in_shape[0]) and _image_like(A):
        return y if A.support is None else y + (A.support - 1)
    return A.pinv(y) if isinstance(A, LinearOperator) else y


def _image_like(A: Operator) -> bool:
    """Whether y is laid out in rows and columns as x is, up to a factor."""
    (_, h, w), (_, height, width) = A.out_shape, A.in_shape
    return h > 1 and abs(height / h - width / w) < 0.05 * height / h + 1e-9
