"""`undiffuse likelihood`: bits per dimension of 8-bit pictures under a prior."""

import importlib.metadata
import json
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from undiffuse import data  # noqa: F401 (fills the registry)
from undiffuse.analysis import dequantised, log_density
from undiffuse.app import machine, outputs
from undiffuse.app.bench.summary import interval
from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.measurement import parse_size
from undiffuse.app.priors import Opened, announced, label_of, levels, open_prior
from undiffuse.app.sample.plan import HIGHEST
from undiffuse.app.series import evenly
from undiffuse.app.sizes import check_shape
from undiffuse.config import from_term, parse_term
from undiffuse.config.compare import LikelihoodConfig
from undiffuse.core.devices import moved
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.core.state import Denoise
from undiffuse.data import transforms
from undiffuse.data.dataset import Dataset
from undiffuse.data.encoded import as_channels
from undiffuse.priors import DiscreteSchedule
from undiffuse.registry import DATASETS
from undiffuse.training.variational import bound, start_term

BATCH = 8
EXACT = 32  # numbers of a picture up to which `auto` takes the exact trace


@dataclass(frozen=True, slots=True)
class Measured:
    """Bits per dimension of each picture, and what is uncertain in their mean."""

    config: LikelihoodConfig
    names: tuple[str, ...]
    bits: tuple[float, ...]
    probes: float | None  # deviation of the mean by the probes alone; None where one probe does not tell
    quadrature: float  # mean error of the integral
    bounds: tuple[float, ...]  # variational; empty if not asked for

    def lines(self) -> list[str]:
        """What a user reads."""
        said = [f"{_interval(self.bits)} bits per dimension: {self._how()}"]
        if self.bounds:
            said.append(f"{_interval(self.bounds)} bits per dimension: variational bound, learned variance")
        return said

    def _how(self) -> str:
        config = self.config
        probes = "" if self.probes is None else f", {self.probes:.2g} of it by the probes"
        return (
            f"{len(self.bits)} pictures, {config.dequantise} dequantisation, {config.steps} steps (integral to "
            f"{self.quadrature:.1g}){probes}"
        )


def _interval(values: tuple[float, ...]) -> str:
    found = interval(values)
    assert found is not None
    return f"{found.mean:.4f}" + (f" +- {found.half:.4f} (95 %)" if found.n > 1 else "")


@dataclass(frozen=True, slots=True)
class _Pictures:
    """Which pictures, ready for the prior."""

    dataset: Dataset
    indices: list[int]
    shape: tuple[int, ...]

    def values(self, i: int) -> Tensor:
        """(C, H, W) uint8: the shorter side resized, the centre cut out. ValueError for what has not 8 bits."""
        image = self.dataset[i].image
        if image.dtype != torch.uint8:
            raise ValueError(
                f"'{self.dataset.name(i)}' has no 8 bits; bits per dimension are of 8-bit pictures"
            )
        image = as_channels(image, self.shape[0], self.dataset.name(i))
        if image.shape[1:] == self.shape[1:]:
            return image
        if any(have < want for have, want in zip(image.shape[1:], self.shape[1:], strict=True)):
            sizes = " to ".join("x".join(map(str, shape[1:])) for shape in (image.shape, self.shape))
            raise ValueError(
                f"'{self.dataset.name(i)}' would be enlarged, {sizes}; use larger pictures, or --size"
            )
        if self.shape[1] != self.shape[2]:
            return transforms.resized(image, *self.shape[1:])
        return transforms.centre_crop(transforms.shorter_to(image, self.shape[1]), self.shape[1])


def run(config: LikelihoodConfig) -> Iterator[Event]:
    """ValueError for bad input, before anything is computed."""
    yield from announced(config.prior)
    opened = open_prior(config.prior, config.prior_options, config.precision)
    schedule = _schedule(opened, config)
    pictures = _pictures(opened, config)
    label = _labels(opened, config, pictures)
    if config.label is None:
        _check_classes(opened, config, pictures.dataset)
    device = machine.device(config.device)
    moved(opened.denoise, device).requires_grad_(False)
    if config.out is not None:
        if config.out.is_dir():
            raise ValueError(f"--out {config.out} is a folder; name a file in it, such as likelihood.json")
        outputs.check_writable(config.out.parent)
    yield from (Note(note) for note in (*opened.notes_to_measure(), *pictures.dataset.notes))
    bits: list[float] = []
    deviations, quadratures, bounds = [], [], []
    batch = config.batch if isinstance(config.batch, int) else BATCH
    for begin in range(0, len(pictures.indices), batch):
        part = pictures.indices[begin : begin + batch]
        values = torch.stack([pictures.values(i) for i in part])
        noise = SeededNoise(image_seeds(config.seed, [f"likelihood/{i}" for i in part]))
        labels = None if label is None else torch.tensor([label(i) for i in part], device=device)
        found = yield from _flow(opened, config, values, noise, labels, device, begin, len(pictures.indices))
        bits += found[0].tolist()
        quadratures += found[1].tolist()
        deviations += [] if found[2] is None else found[2].tolist()
        if schedule is not None:
            bounds += (yield from _bound(opened, values, schedule, noise, labels, device)).tolist()
    probes = math.hypot(*deviations) / len(bits) if deviations else None
    names = tuple(pictures.dataset.name(i) for i in pictures.indices)
    result = Measured(config, names, tuple(bits), probes, fmean(quadratures), tuple(bounds))
    if config.out is not None:
        outputs.make_folder(config.out.parent)
        yield Saved(outputs.save_bytes(config.out, _record(result, opened)))
    yield Done(result)


def _flow(
    opened: Opened, config: LikelihoodConfig, values: Tensor, noise: SeededNoise, labels: Tensor | None,
    device: torch.device, begin: int, total: int,
) -> Generator[Event, None, tuple[Tensor, Tensor, Tensor | None]]:  # fmt: skip
    """Bits per dimension, the integral's error and the probes' deviation, each (B,)."""
    d = values[0].numel()
    sigmas = levels(opened, values.shape[1:], config.steps + 1, HIGHEST)[:-1]
    made = dequantised(values, config.dequantise, noise, sigmas[-1].item())
    exact = config.trace == "exact" or (config.trace == "auto" and d <= EXACT)
    denoise: Denoise = opened.denoise if opened.prior is None else opened.prior.given(labels)
    path = log_density(denoise, made.x.to(device), sigmas, None if exact else noise, probes=config.probes)
    while True:
        try:
            done = next(path)
        except StopIteration as stop:
            found = stop.value
            break
        of = total * len(sigmas)
        yield Progress(min(begin * len(sigmas) + done * len(values), of), of, "along the flow")
    unit = 1 / (d * math.log(2))
    spread = None if found.probe_deviation is None else found.probe_deviation * unit
    bits = (made.log_q - found.log_p) * unit
    if not bits.isfinite().all():
        raise ValueError("the flow diverged; use more --steps, or look at the prior with `undiffuse sample`")
    return bits, found.quadrature * unit, spread


def _bound(
    opened: Opened, values: Tensor, schedule: DiscreteSchedule, noise: SeededNoise, labels: Tensor | None,
    device: torch.device,
) -> Generator[Event, None, Tensor]:  # fmt: skip
    """The variational bound of each picture, (B,): one network call a level."""
    prior = opened.prior
    assert prior is not None
    clean = transforms.signed(values).to(device)
    total = start_term(clean, schedule)
    for t in range(len(schedule)):
        yield Progress(t, len(schedule), "variational bound")
        with torch.no_grad():
            level = schedule.sigmas[t].to(clean)
            said = prior.predict(clean + level * noise(clean), level, labels)
            if said.variance is None:
                raise ValueError("--bound, but this network predicts no variance; leave it out")
            total = total + bound(said.x0, said.variance, clean, torch.full((len(clean),), t), schedule)
    return total.cpu()


def _schedule(opened: Opened, config: LikelihoodConfig) -> DiscreteSchedule | None:
    """That of the bound, if it is asked for."""
    if not config.bound:
        return None
    known = opened.config
    if known is None or known.schedule is None or not (known.network or {}).get("learned_variance"):
        raise ValueError(f"--bound, but the prior '{opened.name}' predicts no variance; leave it out")
    return known.discrete()


def _pictures(opened: Opened, config: LikelihoodConfig) -> _Pictures:
    prior = opened.prior
    if prior is not None and prior.conditions:
        raise ValueError(
            f"the prior '{opened.name}' is conditioned on a picture; likelihoods of it are not here"
        )
    name, first, given = parse_term(config.source)
    entry = DATASETS[name]
    channels = 3 if prior is None else prior.channels
    chosen = from_term(entry, first, given)
    if "channels" in chosen and "channels" not in given and channels in (1, 3):
        chosen["channels"] = channels
    dataset: Dataset = entry(config.data, **chosen)
    if config.size is not None:
        shape = parse_size(config.size, channels)
    elif prior is not None and prior.size is not None:
        shape = (channels, *prior.size)
    else:
        raise ValueError(f"the prior '{opened.name}' has no size of its own; give --size, such as 64x64")
    check_shape(opened, shape)
    return _Pictures(dataset, list(evenly(len(dataset), config.count)), shape)


def _labels(opened: Opened, config: LikelihoodConfig, pictures: _Pictures) -> Callable[[int], int] | None:
    """The class of each picture by its number: the one asked for, or the data's own."""
    count = opened.num_classes
    if config.label is not None:
        label = label_of(opened, config.label)
        return lambda i: count if label is None and count is not None else label or 0
    if count is None:
        return None
    first = pictures.dataset[pictures.indices[0]].label
    if first is None:
        raise ValueError(
            f"the prior '{opened.name}' has classes and '{config.data}' has none; give --label, or a --source "
            "with labels, such as folder:classes=true"
        )

    def own(i: int) -> int:
        label = pictures.dataset[i].label or 0
        if label >= count:  # `count` itself is no class to a network that knows none
            raise ValueError(
                f"'{pictures.dataset.name(i)}' is of class {label}, and the prior '{opened.name}' knows 0 to "
                f"{count - 1}; leave such pictures out, or give one --label for all"
            )
        return label

    return own


def _check_classes(opened: Opened, config: LikelihoodConfig, dataset: Dataset) -> None:
    """ValueError for data with other classes, or that number them otherwise, as folders do if one is missing."""
    names = () if opened.config is None else opened.config.classes or ()
    count = opened.num_classes
    if count is not None and dataset.classes is not None and len(dataset.classes) > count:
        raise ValueError(
            f"'{config.data}' has {len(dataset.classes)} classes and the prior '{opened.name}' {count}; give those "
            "that it knows, or one --label for all"
        )
    for number, name in enumerate(dataset.classes or ()):
        if name in names and names.index(name) != number:
            raise ValueError(
                f"class {name} is number {number} of '{config.data}' and {names.index(name)} of the prior "
                f"'{opened.name}'; give all of its classes, in its order, or one --label for all"
            )


def _record(result: Measured, opened: Opened) -> bytes:
    told: dict[str, Any] = {
        "undiffuse": importlib.metadata.version("undiffuse"),
        "torch": torch.__version__,
        "config": result.config.model_dump(mode="json"),
        "prior": opened.record(),
        "units": "bits per dimension of 8-bit pictures",
        "mean": fmean(result.bits),
        "probes": result.probes,
        "quadrature": result.quadrature,
        "pictures": dict(zip(result.names, result.bits, strict=True)),
        "bound": dict(zip(result.names, result.bounds, strict=True)) if result.bounds else None,
    }
    return json.dumps(told, indent=1).encode()
