"""Priors in files: one safetensors file is the whole model."""

from undiffuse.checkpoints.native import Checkpoint, PriorConfig, load, save

__all__ = ["Checkpoint", "PriorConfig", "load", "save"]
