"""What devices differ in: Apple's have no float64, and all but the CPU work on while the program goes on."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def has_float64(device: torch.device) -> bool:
    """Whether it computes in that type: asked, not guessed from its name."""
    try:
        torch.empty(0, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


def wide(x: Tensor) -> Tensor:
    """x in float64: where it is, or on the CPU if its device has no such type."""
    return x.double() if has_float64(x.device) else x.cpu().double()


def total(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """The sum over `dim`, on the CPU in float64: added up in that type if the device of x has it, else in its own."""
    return x.sum(dim, dtype=torch.float64 if has_float64(x.device) else None).cpu().double()


def moved(module: Module, device: torch.device) -> Module:
    """`module.to(device)`, in place; but what computes in float64 stays where it is if the device has no such type.

    Our closed forms do, and bring what they hold to the picture that they are asked about.
    """
    tensors = (*module.parameters(), *module.buffers())
    stays = any(one.dtype == torch.float64 for one in tensors) and not has_float64(device)
    return module if stays else module.to(device)


def wait(device: torch.device) -> None:
    """Until it has done what it was given: before the clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
