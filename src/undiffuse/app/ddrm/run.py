"""`undiffuse ddrm`: DDRM's experiments, with its folders, its numbers and its files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse.app import machine
from undiffuse.app.ddrm import degrade, method
from undiffuse.app.ddrm.folder import Consent, Results
from undiffuse.app.ddrm.pictures import Loaded, Pictures, open_pictures, shuffled, some
from undiffuse.app.ddrm.setup import Setup, find_setup
from undiffuse.app.ddrm.weights import weights
from undiffuse.app.events import Done, Event, Note, Progress
from undiffuse.app.measurement import MEASUREMENT
from undiffuse.app.methods import Method
from undiffuse.app.priors import Opened, check_unconditioned, guided_by, label_of, open_prior
from undiffuse.app.restore.result import versions
from undiffuse.app.sizes import in_windows
from undiffuse.config.ddrm import DdrmConfig
from undiffuse.core.images import to_unit
from undiffuse.core.loop import sample
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.core.state import Denoise
from undiffuse.data import Unusable
from undiffuse.operators import SVDOperator
from undiffuse.restore import Problem, measure

DRAW = 0
DECIDES = (
    "deg",
    "sigma_0",
    "timesteps",
    "eta",
    "eta_b",
    "seed",
    "compat",
    "prior_options",
    "precision",
    "label",
)


@dataclass(frozen=True, slots=True)
class Average:
    """What is printed in the end."""

    out: Path
    psnr: float  # mean over the pictures, of what each answer clamped to [0, 1] has
    count: int
    kept: int  # were there already
    failed: tuple[str, ...]  # what is wrong with each picture that was passed over


@dataclass(frozen=True, slots=True)
class _Experiment:
    asked: DdrmConfig
    setup: Setup
    opened: Opened
    A: SVDOperator
    pictures: Pictures
    method: Method
    device: torch.device


def run(asked: DdrmConfig, consent: Consent) -> Iterator[Event]:
    """Restore the config's pictures into exp/image_samples/FOLDER; the result is an `Average`.

    The same command again goes on where it was stopped. A picture that cannot be read is told and passed over; its
    number stays free. ValueError, before anything is written, for bad input.
    """
    setup, where = find_setup(asked.config)
    yield Note(
        f"config {where}: prior {asked.prior or setup.prior}, pictures in '{asked.exp / setup.data.path}'"
    )
    found = _open(asked, setup)
    _check_labels(found)
    yield from (Note(note) for note in _told(found))
    order = shuffled(len(found.pictures), asked.seed)
    first = max(0, asked.subset_start) if asked.subset_end > 0 else 0
    names = [found.pictures.name(i) for i in order]
    results = Results(asked.out, _settings(found), consent)
    known = {n: results.kept(first + n, name) for n, name in enumerate(names)}
    done = {n: value for n, value in known.items() if value is not None}
    kept = len(done)
    if kept:
        yield Note(f"{kept} of {len(order)} are there already")
    todo, batch = [n for n in range(len(order)) if n not in done], asked.batch or setup.batch
    failed: list[str] = []
    for begin in range(0, len(todo), batch):
        loaded: dict[int, Loaded] = {}
        for n in todo[begin : begin + batch]:
            try:
                loaded[n] = found.pictures[order[n]]
            except Unusable as error:
                failed.append(f"{names[n]}: {error}")
                yield Note(f"passed over {failed[-1]}")
        if not loaded:
            continue
        members = list(loaded)
        for event in _batch(found, [names[n] for n in members], list(loaded.values())):
            if isinstance(event, Progress):
                steps = event.total * len(todo)
                yield Progress(begin * event.total + event.done * len(members), steps, event.label)
                continue
            pictures, psnrs, labels = event
            about = [
                {"picture": names[n], "label": label, "psnr": value}
                for n, label, value in zip(members, labels, psnrs, strict=True)
            ]
            results.save([first + n for n in members], pictures, about)
            done |= dict(zip(members, psnrs, strict=True))
            yield Note(f"{len(done)} of {len(order)}: PSNR {sum(done.values()) / len(done):.2f}")
    yield Done(Average(asked.out, sum(done.values()) / len(done), len(done), kept, tuple(failed)))


def _open(asked: DdrmConfig, setup: Setup) -> _Experiment:
    device = machine.device(asked.device)
    pictures = open_pictures(setup.data, asked.exp, setup.size)
    if asked.subset_start >= 0 and asked.subset_end > 0:
        pictures = some(pictures, asked.subset_start, asked.subset_end)
    shape = (3, setup.size, setup.size)
    A = degrade.operator(asked.deg, shape, asked.seed, asked.exp, asked.compat)
    file = weights(asked.prior or setup.prior, asked.exp, "--prior")
    opened = _guided(open_prior(file, asked.prior_options, asked.precision), asked, setup)
    in_windows(opened, opened.denoise, shape)  # refuses what the prior, or its classifier, cannot take
    check_unconditioned(opened)
    A = A.float()
    problem = Problem(A, torch.zeros(1, *A.out_shape), 2 * asked.sigma_0)
    plan = method.plan(asked, opened, problem)
    return _Experiment(asked, setup, opened, A.on(device), pictures, plan, device)


def _guided(opened: Opened, asked: DdrmConfig, setup: Setup) -> Opened:
    """With the config's classifier, which belongs to its prior, or with the one that is asked for."""
    named = asked.classifier or (setup.classifier if asked.prior is None else None)
    if named is None:
        return opened
    return guided_by(opened, weights(named, asked.exp, "--classifier"), setup.classifier_scale)


def _told(found: _Experiment) -> Iterator[str]:
    asked = found.asked
    yield from found.opened.notes()
    yield f"{found.opened}, {found.method}, {len(found.pictures)} pictures"
    if not asked.compat:
        return
    wrong = degrade.told(asked.deg, True)
    for bug in [*([f"--deg {asked.deg}: {wrong}"] if wrong else []), *_step_bugs(found)]:
        yield f"as published: {bug}"


def _step_bugs(found: _Experiment) -> list[str]:
    return method.bugs(found.asked, found.method, found.opened.guide is not None)


def _settings(found: _Experiment) -> dict[str, Any]:
    asked, setup, guide = (
        found.asked.model_dump(mode="json"),
        found.setup.model_dump(mode="json"),
        found.opened.guide,
    )
    told = {name: asked[name] for name in DECIDES}
    return {
        **told,
        "prior": found.opened.mark,
        "classifier": None if guide is None else guide.sha256,
        "classifier_scale": setup["classifier_scale"],
        "size": setup["size"],
        "data": setup["data"],
        **versions(),
    }


def _check_labels(found: _Experiment) -> None:
    """ValueError for classes that are not known, or that the prior does not have, before results are in the way."""
    label, own, count = found.asked.label, found.pictures.found.classes, found.opened.num_classes
    if label is not None:
        label_of(found.opened, str(label))
    elif own is not None and count is not None and len(own) > count:
        raise ValueError(f"pictures of {len(own)} classes, and the prior has {count}; give one with --label")
    _labels(found, [found.pictures.first()[1]])


def _labels(found: _Experiment, own: list[int | None]) -> list[int] | None:
    """Classes of a batch; None if the prior has none. ValueError where they are needed and not known."""
    if found.opened.num_classes is None:
        return None
    given = [found.asked.label if found.asked.label is not None else label for label in own]
    known = [label for label in given if label is not None]
    if len(known) < len(given):
        raise ValueError(
            "the prior needs a class, and the pictures come without: give --label, or ImageNet's val folder with all "
            "of its thousand classes"
        )
    return known


Pixels = tuple[Tensor, Tensor, Tensor]  # originals, y0, answers


def _batch(
    found: _Experiment, names: list[str], loaded: list[Loaded]
) -> Iterator[Progress | tuple[Pixels, list[float], list[int | None]]]:
    """Steps, then what came out. Each picture's noise is its own, by its name."""
    asked = found.asked
    clean, own = (
        torch.stack([pixels for pixels, _ in loaded]).to(found.device),
        [label for _, label in loaded],
    )
    labels = _labels(found, own)
    A, sigma_y = found.A, 2 * asked.sigma_0
    y = measure(A, clean, sigma_y, SeededNoise(image_seeds(asked.seed, names, MEASUREMENT)))
    problem, noise = Problem(A, y, sigma_y), SeededNoise(image_seeds(asked.seed, names, DRAW))
    start = x = found.method.start(problem, found.method.sigmas[0].to(y), noise)
    step = found.method.step(_denoiser(found, labels, start), problem, noise)
    total = len(found.method.sigmas) - 1
    for done, state in enumerate(sample(step, start, found.method.sigmas)):
        x = state.x
        yield Progress(done, total, f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}")
    answers = x.clamp(-1, 1)
    error = (to_unit(answers) - to_unit(clean)).square().flatten(1).mean(1)
    pictures = clean.cpu(), degrade.shown(A, asked.deg, y).cpu(), answers.cpu()
    yield pictures, (-10 * error.log10()).tolist(), list(labels or own)


def _denoiser(found: _Experiment, labels: list[int] | None, start: Tensor) -> Denoise:
    """The prior for this batch, in windows if it was made for another size."""
    opened, device = found.opened, found.device
    opened.to(device)
    classes = None if labels is None else torch.tensor(labels, device=device)
    classifier, scale = (None, 0.0) if opened.guide is None else (opened.guide.classifier, opened.guide.scale)
    if classifier is not None and classes is not None and found.asked.compat:
        sigma = found.method.sigmas[0].to(start)
        denoise = method.frozen(opened, classes, classifier, scale, start, sigma)
    else:
        denoise = method.denoiser(opened, classes, classifier, scale)
    return in_windows(opened, denoise, found.A.in_shape)[0]
