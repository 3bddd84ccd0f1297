"""What one call of a denoiser costs: parameters, arithmetic, memory, seconds."""

import math
import statistics
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from undiffuse.core.devices import wait
from undiffuse.core.state import Denoise


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one call without gradients on pictures of `shape`, all of the batch together."""

    shape: tuple[int, ...]  # (B, C, H, W)
    parameters: int  # numbers, each counted once however often it is used; buffers are none
    flop: (
        int  # 2 for each multiply-add of convolutions, matrix products and attention; nothing else is counted
    )
    memory: int  # bytes: see `cost`
    seconds: float  # the median call, after one that is not counted; nan if none was asked for

    @property
    def macs(self) -> int:
        """Multiply-adds: half of `flop`."""
        return self.flop // 2


def cost(
    denoise: Denoise,
    shape: Sequence[int],
    /,
    *,
    module: nn.Module | None = None,
    sigma: float = 1.0,
    repeats: int = 5,
) -> Cost:
    """What denoise(x, sigma) costs for x of shape (B, C, H, W), or (C, H, W) for one picture.

    denoise: a Prior, or any (x, sigma) -> x0; with guidance both halves are counted. module: what holds its
    parameters, if it is no module itself (a Given, a function around a prior); its device and type are those of x.
    A raw network is asked as `lambda x, sigma: net(x, sigma.expand(len(x)), None)`. repeats: calls that are timed.

    memory is the largest sum of the bytes of all tensors that the call made and that were alive together, its
    answer included, its input and the weights not. It depends on the network and the shape alone, not on the
    machine; what an operator takes for itself while it works is not seen. sigma is in [-1, 1] units. A denoiser
    that depends on the level in what it computes is counted at this one.
    ValueError for a shape that is no batch of pictures.
    """
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"shape {tuple(shape)}; expected (B, C, H, W) or (C, H, W), each at least 1")
    shape = (1, *shape) if len(shape) == 3 else tuple(shape)
    module = module if module is not None else denoise if isinstance(denoise, nn.Module) else None
    held = [] if module is None else list(module.parameters())
    device = held[0].device if held else torch.device("cpu")
    x = torch.linspace(-1, 1, math.prod(shape), device=device).reshape(shape)
    level = torch.tensor(sigma, device=device)
    with torch.no_grad():
        seconds = _seconds(denoise, x, level, repeats)
        with FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter:
            denoise(x, level)
        with _Alive(x, level, *held, *([] if module is None else module.buffers())) as alive:
            answer = denoise(x, level)
        del answer
    parameters = sum(p.numel() for p in held)
    return Cost(shape, parameters, counter.get_total_flops(), alive.peak, seconds)


def _seconds(denoise: Denoise, x: Tensor, level: Tensor, repeats: int) -> float:
    """The median of single calls. The first one, which sets things up, is made and not counted."""
    denoise(x, level)
    taken: list[float] = []
    for _ in range(repeats):
        wait(x.device)
        began = time.perf_counter()
        denoise(x, level)
        wait(x.device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) if taken else math.nan


def _attention_flop(q: Sequence[int], k: Sequence[int], v: Sequence[int], *_: Any, **__: Any) -> int:
    """q k^T and the product with v: 2 B heads L S (d + d_v)."""
    batch, heads, length, width = q
    return 2 * batch * heads * length * k[2] * (width + v[3])


# The counter knows CUDA's attention, but not those of a CPU and of Apple's devices, and passes them over in silence.
_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop,
    torch.ops.aten._scaled_dot_product_attention_math_for_mps: _attention_flop,
}


class _Alive(TorchDispatchMode):
    """Sums the bytes of the storages that operators answer with, until they are freed."""

    def __init__(self, *before: Tensor):
        super().__init__()
        self.peak = self._now = 0
        self._seen = {_key(tensor) for tensor in before}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operator's own answer, once what it holds is counted."""
        answer = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(answer):
            if isinstance(tensor, Tensor) and (key := _key(tensor)) not in self._seen:
                size = tensor.untyped_storage().nbytes()
                self._seen.add(key)
                self._now += size
                weakref.finalize(tensor.untyped_storage(), self._freed, key, size)
        self.peak = max(self.peak, self._now)
        return answer

    def _freed(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._now -= size


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
