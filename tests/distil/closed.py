"""Priors and networks in closed form that the tests of distillation share."""

import torch
from torch import nn

from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.priors import Prior
from undiffuse.priors.prior import Coefficients
from undiffuse.samplers import ddim

MEAN, VARIANCE = 0.3, 0.25
GRID = karras(16, 0.02, 20.0)


def raw(sigma):
    """A scaling that leaves the network alone: it is given x and sigma, and answers with x0."""
    one = torch.ones_like(sigma)
    return Coefficients(0.0, one, one, sigma)


class Asked(nn.Module):
    """A closed form as a network with a switch that does nothing, so that it has a weight."""

    def __init__(self, denoise):
        super().__init__()
        self.denoise, self.weight = denoise, nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, sigma, labels):
        return self.denoise(x, sigma.reshape(-1, 1, 1, 1)) + 0 * self.weight


def prior_of(net):
    return Prior(net, raw, channels=1).double()


def teacher_of(denoise):
    """A closed form as a teacher, with no labels and no condition."""
    return lambda x, sigma, labels, cond: denoise(x, sigma)


def clean_of(images, size=3):
    noise = SeededNoise(range(1000, 1000 + images))
    return MEAN + VARIANCE**0.5 * noise(torch.zeros(images, 1, size, size, dtype=torch.float64))


def walked(denoise, x, sigmas):
    return last(sample(ddim(denoise, SeededNoise(range(len(x)))), x, sigmas)).x
