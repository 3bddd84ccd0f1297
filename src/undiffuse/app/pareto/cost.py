"""What a prior costs, and what the machine is that says so."""

import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from undiffuse.analysis.cost import cost
from undiffuse.app import machine
from undiffuse.app.pareto.store import Answer
from undiffuse.core.state import Denoise


def here(device: torch.device) -> dict[str, Any]:
    """What seconds depend on beside the question."""
    return {
        "undiffuse": importlib.metadata.version("undiffuse"), "torch": torch.__version__, "device": str(device),
        "threads": machine.threads(), "machine": f"{platform.node()} {platform.machine()}",
    }  # fmt: skip


def warm(denoise: Denoise, shape: Sequence[int], device: torch.device) -> None:
    """The first call of a shape sets the network up, and is nobody's."""
    with torch.no_grad():
        denoise(torch.zeros(*shape, device=device), torch.tensor(1.0, device=device))


def network_cost(
    plain: Denoise, asked: Denoise, network: nn.Module, shape: Sequence[int], *, guided: bool
) -> Answer:
    """flop: of one call for one picture of (C, H, W). memory: bytes at the peak of one question, guided if it is."""
    found = cost(plain, shape, module=network, repeats=0)
    memory = cost(asked, shape, module=network, repeats=0).memory if guided else found.memory
    return {"flop": found.flop, "memory": memory}
