"""The training loop: a generator that yields after the optimiser and the averages have moved.

Everything random is a function of the seed and of how many images have been seen: image k of the run gets the same
data, noise level, noise and dropped label whatever the batch size, the number of processes or the point of resuming.
Dropout masks are drawn for all images at once: they stay for any point of resuming, at one batch size. So does the
stage of an objective that has stages (`Staged`), which is that of the step's first image.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from undiffuse.core.noise import SeededNoise, image_seed, image_seeds
from undiffuse.training.ema import EMA
from undiffuse.training.objective import Objective, Staged

if TYPE_CHECKING:
    from accelerate import Accelerator

Batch = tuple[Tensor, Tensor | None]  # images (B, C, H, W) in [-1, 1], labels (B,) or None
Data = Callable[[range], Batch]  # which images of the run, counted from 0 -> those images
Decay = Literal["constant", "linear", "cosine"]
Rate = Callable[[int], float]  # images seen -> share of the learning rate, 0 to 1


@dataclass(frozen=True, slots=True)
class TrainState:
    """Where training stands, after a step."""

    images_seen: int
    loss: float  # mean over the step's images, of all processes
    gradient_norm: float  # before clipping
    skipped: int  # steps left out so far because their gradient was not finite
    stopped: bool = False  # some process was asked to stop: this is the last state


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the path of training, beside data, network and optimiser."""

    batch: int  # images a step, over all processes and accumulated parts
    seed: int = 0
    rate: Rate = lambda images_seen: 1.0
    clip: float = 1.0  # largest gradient norm; inf = never clipped
    part: int | None = None  # images that fit in memory at once, of one process; None = all
    skip_limit: int = 100  # so many steps in a row without a finite gradient are fatal

    def __post_init__(self):
        if self.batch < 1 or (self.part is not None and self.part < 1):
            raise ValueError(f"batch {self.batch} in parts of {self.part}; expected at least 1 image")
        if not self.clip > 0:
            raise ValueError(f"clip {self.clip}; expected a positive gradient norm, or inf for none")


def train(
    objective: Objective,
    data: Data,
    optimizer: torch.optim.Optimizer,
    averages: Sequence[EMA],
    recipe: Recipe,
    *,
    accelerator: "Accelerator",
    images: int,
    images_seen: int = 0,
    skipped: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[TrainState]:
    """Train until `images` have been seen in all, from `images_seen` on. The caller logs, saves and stops.

    A step whose gradient is not finite moves nothing, is counted, and is fatal after `skip_limit` in a row
    (ValueError). Each process takes every n-th image of the batch; the gradient is the mean over the whole batch.
    `accelerator` brings devices, processes and precision; model and optimiser are prepared here. Asked to `stop` on any
    process, all end after the same step.
    """
    check_shared(recipe.batch, accelerator)
    rank, world = accelerator.process_index, accelerator.num_processes
    rates = [group["lr"] for group in optimizer.param_groups]
    prepared, stepper = accelerator.prepare(objective, optimizer)
    row = 0
    while images_seen < images:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * recipe.rate(images_seen)
        if isinstance(objective, Staged):
            objective.images_seen = images_seen
        mine = range(images_seen + rank, images_seen + recipe.batch, world)
        loss = _backward(prepared, data, mine, recipe, accelerator)
        norm = float(cast(Tensor, accelerator.clip_grad_norm_(prepared.parameters(), recipe.clip)))
        finite = math.isfinite(norm)  # the same on every process: gradients are already averaged
        if finite:
            stepper.step()
        elif accelerator.scaler is not None:  # of fp16: it has to learn that its scale was too large
            accelerator.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        images_seen += recipe.batch
        row = 0 if finite else row + 1
        skipped += not finite
        if row >= recipe.skip_limit:
            raise ValueError(f"{row} steps in a row without a finite gradient; lower the learning rate")
        if finite:
            for average in averages:
                average.update(objective.model, images_seen=images_seen, batch=recipe.batch)
        told = torch.stack((loss, loss.new_tensor(float(stop()))))  # all processes stop after the same step
        total, stopped = cast(Tensor, accelerator.reduce(told, "mean")).tolist()
        yield TrainState(images_seen, total, norm, skipped, stopped > 0)
        if stopped:
            break
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def accelerator_for(precision: str, device: str = "auto") -> "Accelerator":
    """What brings devices, processes and precision. precision: fp32, bf16 or fp16; device: auto, cpu or mps.

    auto is CUDA or the CPU; Apple's devices are taken only where they are named.
    """
    if device not in ("auto", "cpu", "mps"):
        raise ValueError(f"no device '{device}' to train on; choose from auto, cpu, mps")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device 'mps' cannot be used here; use auto or cpu")
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise ValueError("training needs the package accelerate; run `pip install accelerate`") from error
    cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    if precision == "fp16" and (cpu or device == "mps"):
        raise ValueError("precision fp16 needs a CUDA device; expected fp32 or bf16 here")
    names = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
    AcceleratorState._reset_state(reset_partial_state=True)  # of an earlier run in this process
    return Accelerator(mixed_precision=names[precision], cpu=cpu)


def check_shared(batch: int, accelerator: "Accelerator") -> None:
    """ValueError for a batch that the processes cannot share equally."""
    if batch % (world := accelerator.num_processes):
        raise ValueError(f"batch {batch} on {world} processes; make it a multiple of {world}")


def rates(*, warmup: int, decay: Decay, images: int) -> Rate:
    """Linearly up over `warmup` images; then constant, or down to 0 at `images`, linearly or as half a cosine."""
    fall = {
        "constant": lambda t: 1.0,
        "linear": lambda t: 1 - t,
        "cosine": lambda t: 0.5 + 0.5 * math.cos(math.pi * t),
    }
    if decay not in fall:
        raise ValueError(f"no decay named '{decay}'; choose from {', '.join(fall)}")

    def rate(images_seen: int) -> float:
        rise = min(1.0, (images_seen + 1) / warmup) if warmup > 0 else 1.0
        return rise * fall[decay](min(1.0, images_seen / images))

    return rate


def _backward(
    objective: nn.Module, data: Data, mine: range, recipe: Recipe, accelerator: "Accelerator"
) -> Tensor:
    """Gradients of the mean loss over `mine`, in parts; returns that loss."""
    size = recipe.part or len(mine)
    parts = [mine[i : i + size] for i in range(0, len(mine), size)]
    total = torch.zeros((), device=accelerator.device)
    for number, part in enumerate(parts):
        clean, labels = data(part)
        clean = clean.to(accelerator.device)
        labels = None if labels is None else labels.to(accelerator.device)
        noise = SeededNoise(image_seeds(recipe.seed, [f"train/{k}" for k in part]))
        last = number == len(parts) - 1
        with nullcontext() if last else accelerator.no_sync(objective):
            masks = _dropout(image_seed(recipe.seed, f"dropout/{part[0]}"), accelerator.device)
            with accelerator.autocast(), masks:
                loss = objective(clean, labels, noise).sum() / len(mine)
            accelerator.backward(loss)
        total += loss.detach()
    return total


@contextmanager
def _dropout(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout knows only torch's own generators: seeded for a while, and given back as they were."""
    own = device.type in ("cuda", "mps")
    with torch.random.fork_rng([device] if own else [], device_type=device.type if own else "cuda"):
        torch.manual_seed(seed)
        yield
