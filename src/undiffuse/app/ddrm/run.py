"""`undiffuse ddrm`: DDRM's experiments, with its folders, its numbers and its files."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.app import machine
from undiffuse.app.ddrm import degrade, method
from undiffuse.app.ddrm.asked import Asked
from undiffuse.app.ddrm.folder import Consent, Results
from undiffuse.app.ddrm.pictures import Pictures, open_pictures, shuffled, some
from undiffuse.app.ddrm.setup import Setup, find_setup
from undiffuse.app.ddrm.weights import weights
from undiffuse.app.events import Done, Event, Note, Progress
from undiffuse.app.measurement import MEASUREMENT
from undiffuse.app.methods import Method
from undiffuse.app.priors import Opened, in_windows, open_prior
from undiffuse.app.restore.result import versions
from undiffuse.checkpoints import load_classifier
from undiffuse.checkpoints.formats import native_file
from undiffuse.core.images import to_unit
from undiffuse.core.loop import sample
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.core.state import Denoise
from undiffuse.operators import SVDOperator
from undiffuse.priors import NoisyClassifier
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


@dataclass(frozen=True, slots=True)
class _Experiment:
    asked: Asked
    setup: Setup
    opened: Opened
    classifier: NoisyClassifier | None
    classifier_mark: str | None  # of its file
    A: SVDOperator
    pictures: Pictures
    method: Method
    device: torch.device


def run(asked: Asked, consent: Consent) -> Iterator[Event]:
    """Restore the config's pictures into exp/image_samples/FOLDER; the result is an `Average`.

    The same command again goes on where it was stopped. ValueError, before anything is written, for bad input.
    """
    setup, where = find_setup(asked.config)
    yield Note(
        f"config {where}: prior {asked.prior or setup.prior}, pictures in '{asked.exp / setup.data.path}'"
    )
    found = _open(asked, setup)
    _labels(found, [found.pictures[0][1]])
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
    for begin in range(0, len(todo), batch):
        members = todo[begin : begin + batch]
        for event in _batch(found, [order[n] for n in members]):
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
    yield Done(Average(asked.out, sum(done.values()) / len(done), len(done), kept))


def _open(asked: Asked, setup: Setup) -> _Experiment:
    device = machine.device(asked.device)
    pictures = open_pictures(setup.data, asked.exp, setup.size)
    if asked.subset_start >= 0 and asked.subset_end > 0:
        pictures = some(pictures, asked.subset_start, asked.subset_end)
    shape = (3, setup.size, setup.size)
    A = degrade.operator(asked.deg, shape, asked.seed, asked.exp, asked.compat)
    file = weights(asked.prior or setup.prior, asked.exp, "--prior")
    opened = open_prior(file, asked.prior_options, asked.precision)
    in_windows(opened, opened.denoise, shape)  # refuses what the prior cannot take
    classifier, digest = _classifier(asked, setup)
    if classifier is not None and opened.prior is None:
        raise ValueError(f"the prior '{opened.name}' is no network, which a classifier is to guide")
    A = A.float()
    problem = Problem(A, torch.zeros(1, *A.out_shape), 2 * asked.sigma_0)
    return _Experiment(
        asked, setup, opened, classifier, digest, A, pictures, method.plan(asked, opened, problem), device
    )


def _classifier(asked: Asked, setup: Setup) -> tuple[NoisyClassifier | None, str | None]:
    """The config's, which belongs to its prior, or the one that is asked for; and the hash of its file."""
    named = asked.classifier or (setup.classifier if asked.prior is None else None)
    if named is None:
        return None, None
    file = weights(named, asked.exp, "--classifier")
    found = load_classifier(file)[0]
    with open(native_file(file), "rb") as handle:
        return found, hashlib.file_digest(handle, "sha256").hexdigest()


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
    return method.bugs(found.asked, found.method, found.classifier is not None)


def _settings(found: _Experiment) -> dict[str, Any]:
    asked, setup = found.asked.model_dump(mode="json"), found.setup.model_dump(mode="json")
    told = {name: asked[name] for name in DECIDES}
    return {
        **told,
        "prior": found.opened.mark,
        "classifier": found.classifier_mark,
        "classifier_scale": setup["classifier_scale"],
        "size": setup["size"],
        "data": setup["data"],
        **versions(),
    }


def _labels(found: _Experiment, own: list[int | None]) -> list[int] | None:
    """Classes of a batch; None if the prior has none. ValueError where they are needed and not known."""
    prior = found.opened.prior
    needed = found.classifier is not None or (prior is not None and prior.num_classes is not None)
    if not needed:
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
    found: _Experiment, items: list[int]
) -> Iterator[Progress | tuple[Pixels, list[float], list[int | None]]]:
    """Steps, then what came out. Each picture's noise is its own, by its name."""
    asked, names = found.asked, [found.pictures.name(i) for i in items]
    loaded = [found.pictures[i] for i in items]
    clean, own = (
        torch.stack([pixels for pixels, _ in loaded]).to(found.device),
        [label for _, label in loaded],
    )
    labels = _labels(found, own)
    A, sigma_y = found.A.to(found.device), 2 * asked.sigma_0
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
    for net in (opened.denoise, found.classifier):
        if isinstance(net, nn.Module):
            net.to(device)
    classes = None if labels is None else torch.tensor(labels, device=device)
    scale = found.setup.classifier_scale
    if found.classifier is not None and classes is not None and found.asked.compat:
        sigma = found.method.sigmas[0].to(start)
        denoise = method.frozen(opened, classes, found.classifier, scale, start, sigma)
    else:
        denoise = method.denoiser(opened, classes, found.classifier, scale)
    return in_windows(opened, denoise, found.A.in_shape)[0]
