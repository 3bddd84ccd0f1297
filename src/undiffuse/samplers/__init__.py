"""Samplers: each a function (denoise, noise, options) -> Step, entered in `registry.SAMPLERS`."""

from undiffuse.registry import SAMPLERS
from undiffuse.samplers.ancestral import ancestral
from undiffuse.samplers.churn import churn
from undiffuse.samplers.consistency import consistency
from undiffuse.samplers.ddim import ddim
from undiffuse.samplers.dpmpp_2m import dpmpp_2m
from undiffuse.samplers.dpmpp_3m import dpmpp_3m
from undiffuse.samplers.euler import euler
from undiffuse.samplers.heun import heun

SAMPLERS.preset(
    "ddpm",
    "ancestral",
    summary="DDPM as published: ancestral, on timesteps of the prior's own schedule",
    example="--sampler ddpm",
    facts={"grid": "timesteps"},
)
SAMPLERS.preset(
    "dpmpp", "dpmpp_2m", summary="short for dpmpp_2m, DPM-Solver++(2M)", example="--sampler dpmpp"
)

__all__ = ["ancestral", "churn", "consistency", "ddim", "dpmpp_2m", "dpmpp_3m", "euler", "heun"]
