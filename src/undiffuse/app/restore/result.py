"""What came out of a restoration, and what it is worth."""

import importlib.metadata
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from undiffuse.app.measurement import Measurement, view
from undiffuse.app.methods import Method
from undiffuse.app.priors import Opened
from undiffuse.app.restore.task import Task
from undiffuse.app.restore.trace import Snapshot
from undiffuse.config import RestoreConfig
from undiffuse.core.images import rounded
from undiffuse.metrics import LPIPS, psnr, quality
from undiffuse.operators.base import LinearOperator
from undiffuse.restore import Certificate, Posterior, certify, summarise

WORTH = (
    4_000_000  # pixels up to which the saved picture is measured as well: it takes as long as the first time
)


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored picture. Pictures are (C, H, W) in [-1, 1]."""

    task: Task
    restored: Tensor
    degraded: Tensor  # the measurement as a picture
    draws: Tensor  # (K, C, H, W)
    posterior: Posterior | None  # of (1, C, H, W), with two draws or more
    certificate: Certificate
    metrics: dict[str, float]
    seconds: float
    trace: tuple[Snapshot, ...]

    @property
    def name(self) -> str:
        """The picture's, without its ending."""
        return self.task.name

    @property
    def config(self) -> RestoreConfig:
        """What was asked for."""
        return self.task.config

    @property
    def method(self) -> Method:
        """How it was restored."""
        return self.task.method

    @property
    def prior(self) -> Opened:
        """With what."""
        return self.task.opened

    @property
    def label(self) -> int | None:
        """Of which class."""
        return self.task.label

    @property
    def measurement(self) -> Measurement:
        """From what."""
        return self.task.measurement

    @property
    def sigma_y(self) -> float:
        """Noise of the measurement in [-1, 1] units."""
        return self.task.problem.sigma_y

    @property
    def y(self) -> Tensor:
        """The measurement as it was measured, of the operator's shape."""
        return self.task.problem.y[0]

    @property
    def reference(self) -> Tensor | None:
        """The clean picture, if there is one."""
        found = self.measurement.reference
        return None if found is None else found[0]


def judge(
    task: Task,
    draws: Tensor,
    seconds: float,
    trace: tuple[Snapshot, ...] = (),
    lpips: LPIPS | None = None,
) -> Restored:
    """Draws (K, C, H, W) of one picture as its result. ValueError if they are not finite."""
    posterior = summarise(draws[None]) if len(draws) > 1 else None
    if posterior is not None and task.method.widen is not None:
        posterior = posterior.widened(task.method.widen)
    restored = draws if posterior is None else posterior.mean
    if not torch.isfinite(restored).all():
        raise ValueError(
            f"{task.method.entry.name} diverged on this degradation and noise level; use more steps or another "
            "algorithm"
        )
    degraded = view(task.problem)
    error = max(0.05, task.measurement.sigma_error)
    return Restored(
        task=task,
        restored=restored[0],
        degraded=degraded[0],
        draws=draws,
        posterior=posterior,
        certificate=certify(task.problem, draws[:1], sigma_error=error)[0],
        metrics=_metrics(task, restored, degraded, posterior, lpips),
        seconds=seconds,
        trace=trace,
    )


def _metrics(
    task: Task, restored: Tensor, degraded: Tensor, posterior: Posterior | None, lpips: LPIPS | None
) -> dict[str, float]:
    """Of the floats; of what is saved as `saved_...`; of what was there before as psnr_pinv and psnr_degraded."""
    problem, reference = task.problem, task.measurement.reference
    if reference is None:
        return {}
    metrics = quality(restored, reference, lpips=lpips)
    eight_bits = task.measurement.levels is not None and task.measurement.levels <= 255
    if eight_bits and reference[0, 0].numel() <= WORTH:
        saved = quality(rounded(restored), rounded(reference), lpips=lpips)
        metrics |= {f"saved_{name}": value for name, value in saved.items()}
    naive = problem.A.pinv(problem.y) if isinstance(problem.A, LinearOperator) else degraded
    if naive.shape == reference.shape:
        metrics["psnr_pinv"] = psnr(naive, reference).item()
    if degraded.shape == reference.shape:
        metrics["psnr_degraded"] = psnr(degraded, reference).item()
    if posterior is not None:
        metrics["coverage90"] = posterior.coverage(reference)
    return metrics


def number(value: float, digits: int = 4) -> float | None:
    """JSON has no infinity: the PSNR of an exact answer is null."""
    return round(value, digits) if math.isfinite(value) else None


def record(result: Restored) -> dict[str, Any]:
    """What is needed to repeat and to judge the result, as JSON."""
    certificate = result.certificate
    return {
        **versions(),
        "config": result.config.model_dump(mode="json"),
        "prior": result.prior.record(),
        "label": result.label,
        "guidance": result.config.guidance,
        "algorithm": result.method.entry.name,
        "options": {name: str(value) for name, value in result.method.options.items()},
        "sigmas": result.method.sigmas.tolist(),
        "calls": result.method.calls,
        "widened": result.method.widen,
        "noise": result.sigma_y / 2,
        "seconds": round(result.seconds, 3),
        "metrics": {name: number(value) for name, value in result.metrics.items()},
        "certificate": {
            "verdict": certificate.verdict,
            "ratio": number(certificate.ratio, 6),
            "range": [certificate.low, certificate.high],
            "measurements": certificate.measurements,
            "text": str(certificate),
        },
        "blind": _blind(result.measurement),
        "notes": list(result.measurement.notes),
    }


def _blind(measurement: Measurement) -> dict[str, Any] | None:
    found = measurement.blind
    if found is None:
        return None
    intervals = {name: [number(edge) for edge in edges] for name, edges in found.intervals.items()}
    noise = [number(edge / 2, 6) for edge in found.sigma_interval]
    return {"degrade": found.degrade, "intervals": intervals, "noise": noise, "reason": found.reason}


def versions() -> dict[str, str]:
    """Of what computes the pixels."""
    return {"undiffuse": _version(), "torch": torch.__version__}


@cache  # read from a file, for every picture of a folder
def _version() -> str:
    return importlib.metadata.version("undiffuse")
