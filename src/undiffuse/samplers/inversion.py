"""Inversion: from a picture up the probability-flow ODE, to the noise that it is drawn from."""

from collections.abc import Iterator

from torch import Tensor

from undiffuse.core.loop import sample
from undiffuse.core.state import Denoise, State, Step, like_image
from undiffuse.samplers.ddim import ddim
from undiffuse.samplers.euler import euler
from undiffuse.samplers.heun import heun

REVERSIBLE = (ddim, euler, heun)  # their formulas hold in both directions; ddim with eta 0


def invert(step: Step, denoise: Denoise, x0: Tensor, sigmas: Tensor) -> Iterator[State]:
    """DDIM inversion (Song et al. 2021, sec. 4.3): a grid walked from its lowest level to its highest.

    step: ddim with eta 0 or euler, whose way up and down again is the identity to O(h), or heun, to O(h^2).
    sigmas: as for `sample`, falling to 0. No network is asked about sigma = 0: the way from there to the lowest
    level s takes the noise that is seen at s, x = x0 + s eps(x0), which one call finds. The last state's x / s is
    the picture's noise: N(0, I) if the prior is that of the picture.
    """
    levels = sigmas[:-1].flip(0)
    return sample(step, 2 * x0 - denoise(x0, like_image(levels[0], x0)), levels)
