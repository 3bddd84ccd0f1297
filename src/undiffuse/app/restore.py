"""`undiffuse restore`: one picture, a known degradation, an answer with its certificate."""

import importlib.metadata
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from undiffuse.app import machine, outputs
from undiffuse.app.events import Done, Event, Note, Progress, Saved
from undiffuse.app.measurement import Measurement, files, open_measurement, view
from undiffuse.app.priors import Opened, check_guidance, check_shape, denoiser, label_of, levels, open_prior
from undiffuse.config import RestoreConfig, from_term, parse_term
from undiffuse.core.images import write
from undiffuse.core.loop import sample
from undiffuse.core.noise import SeededNoise, image_seed
from undiffuse.core.state import Denoise
from undiffuse.metrics import psnr, ssim
from undiffuse.operators.base import LinearOperator, SVDOperator
from undiffuse.priors import StationaryGaussian
from undiffuse.registry import RESTORERS, Entry
from undiffuse.restore import Certificate, Posterior, Problem, certify, start, summarise
from undiffuse.restore.problem import Start

CHUNK = 12_000_000  # values of x in one batch: draws beyond it run one after another


@dataclass(frozen=True, slots=True)
class Plan:
    """Which algorithm, with which options, on which grid."""

    entry: Entry
    options: dict[str, Any]
    sigmas: Tensor

    @property
    def calls(self) -> int:
        """Network calls of one draw."""
        option: str | None = self.entry.facts.get("calls")  # the option that says how many a level takes
        return (len(self.sigmas) - 1) * (self.options[option] if option else 1)

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.entry.name}({options}), {self.calls} call{'s' if self.calls > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Restored:
    """What came out. Pictures are (C, H, W) in [-1, 1]."""

    name: str
    config: RestoreConfig
    prior: Opened
    label: int | None
    plan: Plan
    restored: Tensor
    degraded: Tensor  # the measurement as a picture
    reference: Tensor | None
    posterior: Posterior | None  # of (1, C, H, W), with --draws 2 or more
    certificate: Certificate
    metrics: dict[str, float]
    sigma_y: float
    seconds: float
    levels: int | None
    y: Tensor
    notes: tuple[str, ...]


def run(config: RestoreConfig) -> Iterator[Event]:
    """Restore one picture into the folder `config.out`. ValueError for bad input, before anything is written."""
    for path in (config.image, config.out):
        if "\ufffd" in os.fsencode(path).decode(errors="replace"):
            raise ValueError(f"the name '{path}' is not UTF-8, so that no report can hold it; rename it")
    measurement = open_measurement(config)
    if config.prior == "auto":
        colour = measurement.problem.A.in_shape[0] == 3
        config = config.model_copy(update={"prior": "photo" if colour else "photo-gaussian"})
    opened = open_prior(config.prior)
    label = None if config.label is None else label_of(opened, config.label)
    check_guidance(opened, label, config.guidance)
    if opened.prior is not None and opened.prior.conditions:
        raise ValueError(
            f"the prior '{config.prior}' is conditioned on a picture; use undiffuse sample --low-res"
        )
    check_shape(opened, measurement.problem.A.in_shape)
    plan = _plan(config, measurement.problem, opened)
    device = machine.device(config.device)
    inputs = [config.image, *files(config.degrade)] + ([config.reference] if config.reference else [])
    outputs.check_folder(config.out, config.image.stem, inputs)
    for note in measurement.notes:
        yield Note(note)
    yield Note(f"{opened.asked(label, config.guidance)}, {plan}")

    began = time.perf_counter()
    draws: list[Tensor] = []
    opened.denoise.to(device)
    denoise = denoiser(opened, label, config.guidance)
    for event in _draws(config, measurement.problem, denoise, plan, device):
        if isinstance(event, Tensor):
            draws.append(event)
        else:
            yield event
    result = _result(config, opened, label, measurement, plan, torch.cat(draws), time.perf_counter() - began)
    outputs.make_folder(config.out)
    yield from _save(result)
    yield Done(result)


def _plan(config: RestoreConfig, problem: Problem, opened: Opened) -> Plan:
    """The algorithm as asked for, or a choice by prior and degradation; built once, so that it can refuse."""
    denoise = denoiser(opened)
    term, steps = config.algorithm, config.steps or 20
    if term == "auto":
        gaussian = isinstance(denoise, StationaryGaussian)
        if not isinstance(problem.A, LinearOperator):
            term, steps = "daps", config.steps or 50
        elif not gaussian:  # the best answer for one, posterior draws for several
            draws = "ddrm" if isinstance(problem.A, SVDOperator) else "diffpir"
            term = draws if config.draws > 1 else "dpir"
        else:  # closed form: the mean for one answer, draws for several
            term, steps = "exact:sample=" + ("true" if config.draws > 1 else "false"), config.steps or 1
    name, first, given = parse_term(term)
    for option in ("eta", "eta_b"):
        value = getattr(config, option)
        if value is not None:
            given[option] = str(value)
    entry = RESTORERS[name]
    options = from_term(entry, first, given)
    entry(denoise, problem, SeededNoise([0]), **options)  # refuses what it cannot do
    if config.draws > 1 and entry.facts.get("deterministic"):
        raise ValueError(
            f"--draws {config.draws} with {entry.name}, whose draws are all the same; use ddrm or diffpir"
        )
    own: Callable[[int, float], Tensor] | None = entry.facts.get("grid")
    grid = levels(opened, problem.A.in_shape, steps) if own is None else own(steps, problem.sigma_y)
    return Plan(entry, options, grid)


def _draws(
    config: RestoreConfig, problem: Problem, denoise: Denoise, plan: Plan, device: torch.device
) -> Iterator[Event | Tensor]:
    """Progress, and batches of draws (k, C, H, W). How draws fall into batches changes no pixel."""
    pixels = 1
    for n in problem.A.in_shape:
        pixels *= n
    batch = max(1, min(config.draws, CHUNK // pixels))
    problem = Problem(problem.A.to(device), problem.y.to(device), problem.sigma_y)
    begin: Start = plan.entry.facts.get("start", start)
    steps = len(plan.sigmas) - 1
    batches = [range(i, min(i + batch, config.draws)) for i in range(0, config.draws, batch)]
    for number, members in enumerate(batches):
        seeds = [image_seed(config.seed, config.image.stem, draw) for draw in members]
        noise = SeededNoise(seeds)
        part = problem.repeat(len(seeds))
        step = plan.entry(denoise, part, noise, **plan.options)
        x = begin(part, plan.sigmas[0].to(part.y), noise)
        for done, state in enumerate(sample(step, x, plan.sigmas)):
            yield Progress(number * steps + done, len(batches) * steps, config.image.name)
            x = state.x
        yield x.cpu()


def _result(
    config: RestoreConfig,
    opened: Opened,
    label: int | None,
    measurement: Measurement,
    plan: Plan,
    draws: Tensor,
    seconds: float,
) -> Restored:
    posterior = summarise(draws[None]) if len(draws) > 1 else None
    restored = draws if posterior is None else posterior.mean
    problem, reference = measurement.problem, measurement.reference
    if not torch.isfinite(restored).all():
        raise ValueError(
            f"{plan.entry.name} diverged on this degradation and noise level; use more steps or another algorithm"
        )
    degraded = view(problem)
    metrics: dict[str, float] = {}
    if reference is not None:
        metrics["psnr"] = psnr(restored, reference).item()
        if min(reference.shape[2:]) >= 11:
            metrics["ssim"] = ssim(restored, reference).item()
        naive = problem.A.pinv(problem.y) if isinstance(problem.A, LinearOperator) else degraded
        if naive.shape == reference.shape:
            metrics["psnr_pinv"] = psnr(naive, reference).item()
        if degraded.shape == reference.shape:
            metrics["psnr_degraded"] = psnr(degraded, reference).item()
        if posterior is not None:
            metrics["coverage90"] = posterior.coverage(reference)
    return Restored(
        name=config.image.stem,
        config=config,
        prior=opened,
        label=label,
        plan=plan,
        restored=restored[0],
        degraded=degraded[0],
        reference=None if reference is None else reference[0],
        posterior=posterior,
        certificate=certify(problem, draws[:1], sigma_error=max(0.05, measurement.sigma_error))[0],
        metrics=metrics,
        sigma_y=problem.sigma_y,
        seconds=seconds,
        levels=measurement.levels,
        y=problem.y[0],
        notes=measurement.notes,
    )


def _save(result: Restored) -> Iterator[Saved]:
    from undiffuse.app.report import write_report

    out, name = result.config.out, result.name
    levels = 65535 if result.levels is None or result.levels > 255 else 255
    pictures: dict[str, Tensor] = {"restored": result.restored, "degraded": result.degraded}
    if result.reference is not None:
        pictures["original"] = result.reference
    if result.posterior is not None:
        pictures |= {
            "deviation": outputs.heat(result.posterior.deviation[0]),
            "q05": result.posterior.low[0],
            "q50": result.posterior.median[0],
            "q95": result.posterior.high[0],
        }
    for kind, pixels in pictures.items():
        yield _written(pixels, out / f"{name}_{kind}", levels)
    yield _written(result.y.reshape(_picture_shape(result.y)), out / f"{name}_y", None)
    yield Saved(outputs.save_bytes(out / f"{name}_sheet.png", outputs.sheet(result)))
    yield Saved(outputs.append_metrics(out / outputs.TABLE, result))
    yield Saved(outputs.save_bytes(out / f"{name}.json", json.dumps(record(result), indent=2).encode()))
    yield Saved(write_report([result], out / outputs.REPORT))


def _picture_shape(y: Tensor) -> tuple[int, ...]:
    """Measurements that are no picture are stored as one of one channel."""
    return (*[1] * (3 - y.ndim), *y.shape)


def _written(pixels: Tensor, stem: Path, levels: int | None) -> Saved:
    """PNG where it can hold the picture, else TIFF; .npy for measurements, which are not clamped."""
    suffix = ".npy" if levels is None else ".png" if pixels.shape[0] in (1, 3) else ".tif"
    path = stem.with_name(stem.name + suffix)
    write(pixels, path, levels=levels or 255)
    return Saved(path)


def _number(value: float) -> float | None:
    """JSON has no infinity: the PSNR of an exact answer is null."""
    return value if math.isfinite(value) else None


def record(result: Restored) -> dict[str, Any]:
    """What is needed to repeat and to judge the result, as JSON."""
    certificate = result.certificate
    return {
        "undiffuse": importlib.metadata.version("undiffuse"),
        "torch": torch.__version__,
        "config": result.config.model_dump(mode="json"),
        "prior": result.prior.record(),
        "label": result.label,
        "guidance": result.config.guidance,
        "algorithm": result.plan.entry.name,
        "options": {name: str(value) for name, value in result.plan.options.items()},
        "sigmas": result.plan.sigmas.tolist(),
        "calls": result.plan.calls,
        "noise": result.sigma_y / 2,
        "seconds": round(result.seconds, 3),
        "metrics": {name: _number(round(value, 4)) for name, value in result.metrics.items()},
        "certificate": {
            "verdict": certificate.verdict,
            "ratio": _number(certificate.ratio),
            "range": [certificate.low, certificate.high],
            "measurements": certificate.measurements,
            "text": str(certificate),
        },
        "notes": list(result.notes),
    }
