"""What a method costs: seconds, calls of the network, memory beyond what was there before it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from undiffuse.app import machine
from undiffuse.core.devices import wait

EVERY = 0.005  # seconds between looks at the resident memory
RESET = Path("/proc/self/clear_refs")  # a 5 written there sets the high-water mark to the present


@dataclass(slots=True)
class Cost:
    """Filled in when the method ends. memory: bytes, None where the system does not say."""

    seconds: float = 0.0
    calls: int = 0  # pictures that went through the network, one by one
    memory: int | None = None


@contextmanager
def measured(network: nn.Module, device: torch.device) -> Iterator[Cost]:
    """Seconds of wall time, pictures through `network`, and the peak of memory above what was held at the start."""
    cost, looks = Cost(), _Looks(device)

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        cost.calls += len(inputs[0])

    handle = network.register_forward_hook(count)
    wait(device)
    with looks:
        began = time.perf_counter()
        try:
            yield cost
            wait(device)
        finally:
            cost.seconds = time.perf_counter() - began
            handle.remove()
    cost.memory = looks.above


def how(device: torch.device) -> str:
    """How the memory of `measured` is found, for the head of a table."""
    if device.type == "cuda":
        return "peak of torch's allocations on the device above those at the start"
    if _can_reset():
        return "high-water mark of the process's resident memory above that at the start"
    return f"resident memory above that at the start, looked at every {1000 * EVERY:g} ms"


class _Looks:
    """The peak of memory between enter and exit, above that at enter."""

    def __init__(self, device: torch.device):
        self.device = device
        self.above: int | None = None
        self._before: int | None = None
        self._peak = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
            return
        reset = _can_reset()
        self._before = machine.memory(self.device).resident
        if not reset and self._before is not None:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def __exit__(self, *error: object) -> None:
        if self._before is None:
            return
        now = machine.memory(self.device)
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        elif self._thread is not None:
            self._stop.set()
            self._thread.join()
            peak = max(self._peak, now.resident or 0)
        else:
            peak = now.resident_peak or now.resident or 0
        self.above = max(0, peak - self._before)

    def _watch(self) -> None:
        while not self._stop.wait(EVERY):
            self._peak = max(self._peak, machine.memory(self.device).resident or 0)


def _can_reset() -> bool:
    """Set the process's high-water mark back, where the system lets it."""
    try:
        RESET.write_text("5")
    except OSError:
        return False
    return True
