"""Priors in files: one safetensors file is the whole model."""

from undiffuse.checkpoints.classifier import NoisyClassifierConfig, load_classifier, save_classifier
from undiffuse.checkpoints.embedded import photo
from undiffuse.checkpoints.native import Checkpoint, PriorConfig, load, save

__all__ = [
    "Checkpoint",
    "NoisyClassifierConfig",
    "PriorConfig",
    "load",
    "load_classifier",
    "photo",
    "save",
    "save_classifier",
]
