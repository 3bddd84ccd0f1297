"""What the first draw looked like on its way, for the report."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from undiffuse.app.restore.solve import Stage
from undiffuse.app.restore.task import Task
from undiffuse.metrics import psnr, ssim

SIDE = 192  # pixels of the longer side of a snapshot
LARGEST = 2_000_000  # pixels: of larger pictures the snapshot is measured


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The estimate of x0 at one level."""

    sigma: float  # the level that the step came to
    calls: int  # network calls until then
    picture: Tensor  # (C, h, w), reduced
    psnr: float | None  # against the reference
    ssim: float | None


def snapshot(task: Task, stage: Stage) -> Snapshot | None:
    """Of a state that holds the first draw of `task`; None before the first step."""
    if stage.state.x0 is None:
        return None
    x0, reference = stage.state.x0[:1].float().cpu(), task.measurement.reference
    height, width = x0.shape[2:]
    if (scale := SIDE / max(height, width)) < 1:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        small = functional.interpolate(x0, size, mode="area")
        if reference is not None and height * width > LARGEST:
            reference = functional.interpolate(reference, size, mode="area")
            x0 = small
    else:
        small = x0
    found = reference is not None and bool(x0.isfinite().all())
    return Snapshot(
        sigma=stage.state.sigma.flatten()[0].item(),
        calls=stage.step * task.method.calls // (len(task.method.sigmas) - 1),
        picture=small[0],
        psnr=psnr(x0, reference).item() if found and reference is not None else None,
        ssim=ssim(x0, reference).item()
        if found and reference is not None and min(x0.shape[2:]) >= 11
        else None,
    )
