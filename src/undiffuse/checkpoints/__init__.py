"""Priors in files: ours are one safetensors file; those of others are told by the names of their tensors."""

from undiffuse.checkpoints.classifier import NoisyClassifierConfig, save_classifier
from undiffuse.checkpoints.embedded import photo
from undiffuse.checkpoints.facts import Given, parse_given
from undiffuse.checkpoints.formats import load, load_classifier
from undiffuse.checkpoints.native import Checkpoint, PriorConfig, save

__all__ = [
    "Checkpoint",
    "Given",
    "NoisyClassifierConfig",
    "PriorConfig",
    "load",
    "load_classifier",
    "parse_given",
    "photo",
    "save",
    "save_classifier",
]
