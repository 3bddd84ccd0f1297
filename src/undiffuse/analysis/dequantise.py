"""From 8-bit values to points where a density can be asked: P(v) >= exp E_q[log p(x) - log q(x | v)]."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from undiffuse.core.images import from_unit
from undiffuse.core.state import Noise

Way = Literal["uniform", "unit", "normal"]
LEVELS = 256


@dataclass(frozen=True, slots=True)
class Dequantised:
    """x ~ q(. | v), and its log density there: -log2 P(v) <= (log_q - log p(x)) / log 2, on average."""

    x: Tensor  # (B, C, H, W)
    log_q: Tensor  # (B,), nats


def dequantised(values: Tensor, way: Way, noise: Noise, sigma: float) -> Dequantised:
    """values: (B, C, H, W) uint8. One draw of q for each, in float32; `noise` is asked once.

    uniform    over the bin of 2/255 around v / 127.5 - 1, where a network that saw 8-bit pictures expects them
    unit       (v + u) / 256 as x in [-1, 1), u uniform in [0, 1): for priors trained with `dequantise: true`
               (Theis et al. 2016, sec. 3.1; Song et al. 2021)
    normal     v / 127.5 - 1 + sigma n, n normal within the bin (Zheng et al. 2023, sec. 4.2): noise of the level where
               the path of the flow begins, so that the network is asked about pictures as it saw them

    The bound is tight for none of them; the tighter the closer q is to p(x | v).
    """
    if values.dtype != torch.uint8:
        raise ValueError(f"pictures of {values.dtype}; bits per dimension are of 8-bit pictures, uint8")
    draw = noise(torch.empty(values.shape, dtype=torch.float32))
    n = values[0].numel()
    unit = values.double()
    if way == "normal":
        return _normal(unit, draw.double(), sigma)
    uniform = torch.special.ndtr(draw.double())
    if way == "unit":
        x, width = from_unit((unit + uniform) / LEVELS), 2 / LEVELS
    else:
        x, width = from_unit((unit + uniform - 0.5) / (LEVELS - 1)), 2 / (LEVELS - 1)
    return Dequantised(x.float(), torch.full((len(values),), -n * math.log(width), dtype=torch.float64))


def _normal(unit: Tensor, draw: Tensor, sigma: float) -> Dequantised:
    """The tails beyond the bin are cut off: u in [0, 1] picks a quantile of what is left."""
    half = 1 / ((LEVELS - 1) * sigma)  # of a bin, in deviations
    tail = torch.special.ndtr(torch.tensor(-half, dtype=torch.float64))
    inside = 1 - 2 * tail
    n = torch.special.ndtri(tail + inside * torch.special.ndtr(draw)).clamp(-half, half)
    log_q = -0.5 * n.square() - 0.5 * math.log(2 * math.pi) - math.log(sigma) - inside.log()
    x = from_unit(unit / (LEVELS - 1)) + sigma * n
    return Dequantised(x.float(), log_q.flatten(1).sum(1))
