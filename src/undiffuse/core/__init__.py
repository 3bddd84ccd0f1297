"""State, the loop, noise, grids, images. Importing from here is the public way."""

from undiffuse.core.grids import exponential, from_timesteps, karras, with_jumps
from undiffuse.core.loop import last, sample, time_travel
from undiffuse.core.noise import SeededNoise, image_seed, image_seeds, slerp
from undiffuse.core.state import Denoise, Noise, State, Step, fresh_noise, renoise

__all__ = [
    "Denoise",
    "Noise",
    "SeededNoise",
    "State",
    "Step",
    "exponential",
    "fresh_noise",
    "from_timesteps",
    "image_seed",
    "image_seeds",
    "karras",
    "last",
    "renoise",
    "sample",
    "slerp",
    "time_travel",
    "with_jumps",
]
