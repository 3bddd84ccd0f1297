"""How long a small convolution takes here: in each precision, and with one thread or all."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import conv2d

from undiffuse.core.devices import wait

PRECISIONS = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
SECONDS = 0.15  # for one measurement, after a first call
_CPU, _GPU = (4, 32, 32), (16, 128, 64)  # batch, channels, size: half a millisecond of fp32 on either


def convolution(device: torch.device, precision: str) -> float | None:
    """Median seconds of a 3x3 convolution; on a CPU with one thread. None: this device has no such precision.

    One thread, because several wait for each other if somebody else uses a core, and that hides everything else.
    """
    if precision == "tf32" and not _has_tf32(device):
        return None
    dtype = PRECISIONS[precision]
    batch, channels, size = _CPU if device.type == "cpu" else _GPU
    try:
        x = torch.ones(batch, channels, size, size, device=device, dtype=dtype)
        w = torch.ones(channels, channels, 3, 3, device=device, dtype=dtype)
        with _one_thread(device), _convolutions_in(device, precision):
            return statistics.median(_times(lambda: conv2d(x, w), device))
    except (RuntimeError, NotImplementedError, TypeError):
        if precision == "fp32":  # then it is the device that fails, not the precision
            raise
        return None


def gain_of_threads() -> float:
    """How many times faster all threads of torch are than one. Below 1 where they wait for a core."""
    batch, channels, size = _CPU
    x, w = torch.ones(batch, channels, size, size), torch.ones(channels, channels, 3, 3)
    together = statistics.mean(
        _times(lambda: conv2d(x, w), x.device)
    )  # mean: they wait now and then, for long
    with _one_thread(x.device):
        return statistics.mean(_times(lambda: conv2d(x, w), x.device)) / together


def _times(call: Callable[[], object], device: torch.device) -> list[float]:
    with torch.inference_mode():
        call()  # chooses kernels, allocates
        wait(device)
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - began < SECONDS:
            start = time.perf_counter()
            call()
            wait(device)
            times.append(time.perf_counter() - start)
    return times


def _has_tf32(device: torch.device) -> bool:
    """NVIDIA's, from Ampere on."""
    return (
        device.type == "cuda"
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def _convolutions_in(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """On CUDA torch convolves in tf32 unless it is told not to."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=precision == "tf32")


@contextlib.contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
