"""What a prior is trained for, and how its weights are averaged."""

from undiffuse.training.ema import EMA, PowerEMA
from undiffuse.training.objective import (
    WEIGHTS,
    by_prediction,
    denoising_loss,
    levels_of,
    lognormal,
    weight_named,
)

__all__ = [
    "EMA",
    "WEIGHTS",
    "PowerEMA",
    "by_prediction",
    "denoising_loss",
    "levels_of",
    "lognormal",
    "weight_named",
]
