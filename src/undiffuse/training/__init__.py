"""What a prior is trained for, the loop that does it, averages of weights, and the state to resume from."""

from undiffuse.training.classifying import Classifying
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
from undiffuse.training.validation import Band, ClassifierBand, validate, validate_classifier
from undiffuse.training.variational import Hybrid, bits_per_dimension, bound

__all__ = [
    "EMA",
    "WEIGHTS",
    "Band",
    "ClassifierBand",
    "Classifying",
    "Denoising",
    "Hybrid",
    "LowRes",
    "Objective",
    "PowerEMA",
    "bits_per_dimension",
    "bound",
    "by_prediction",
    "denoising_loss",
    "levels_of",
    "lognormal",
    "validate",
    "validate_classifier",
    "weight_named",
]
