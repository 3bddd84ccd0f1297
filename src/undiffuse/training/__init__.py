"""What a prior is trained for, the loop that does it, averages of weights, and the state to resume from."""

from undiffuse.training.conditioning import LowRes
from undiffuse.training.ema import EMA, PowerEMA
from undiffuse.training.objective import (
    WEIGHTS,
    Denoising,
    Objective,
    by_prediction,
    denoising_loss,
    levels_of,
    lognormal,
    weight_named,
)

__all__ = [
    "EMA",
    "WEIGHTS",
    "Denoising",
    "LowRes",
    "Objective",
    "PowerEMA",
    "by_prediction",
    "denoising_loss",
    "levels_of",
    "lognormal",
    "weight_named",
]
