"""What the first draw looked like on its way, for the report."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from undiffuse.app.restore.solve import Stage
from undiffuse.app.restore.task import Task
from undiffuse.metrics import psnr, ssim

SIDE = 192  # pixels of the longer side of a snapshot
LARGEST = 2_000_000  # pixels: of larger pictures the snapshot is measured
SMALL = 70_000  # pixels
SOME = 8


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The estimate of x0 at one level."""

    sigma: float  # the level that the step came to
    calls: int  # network calls until then
    picture: Tensor  # (C, h, w), reduced
    psnr: float | None  # against the reference
    ssim: float | None  # at every step of a small picture, at some of a larger one: it takes its time


def snapshot(task: Task, stage: Stage) -> Snapshot | None:
    """Of a state that holds the first draw of `task`; None before the first step."""
    if stage.state.x0 is None:
        return None
    x0, reference = stage.state.x0[:1].float().cpu(), task.measurement.reference
    steps, (height, width) = len(task.method.sigmas) - 1, x0.shape[2:]
    if (scale := SIDE / max(height, width)) < 1:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        small = functional.interpolate(x0, size, mode="area")
        if reference is not None and height * width > LARGEST:
            reference = functional.interpolate(reference, size, mode="area")
            x0 = small
    else:
        small = x0
    if reference is None or not x0.isfinite().all():
        reference = None
    return Snapshot(
        sigma=stage.state.sigma.flatten()[0].item(),
        calls=stage.step * task.method.calls // steps,
        picture=small[0],
        psnr=None if reference is None else psnr(x0, reference).item(),
        ssim=ssim(x0, reference).item()
        if reference is not None and _telling(stage.step, steps, x0)
        else None,
    )


def _telling(step: int, steps: int, x0: Tensor) -> bool:
    """Whether SSIM is worth its time here."""
    height, width = x0.shape[2:]
    if min(height, width) < 11:
        return False
    return height * width <= SMALL or step == steps or step % max(1, steps // SOME) == 0
