"""Denoisers x0 = D(x, sigma): networks with their parameterisation, and priors in closed form."""

from undiffuse.priors.estimate import estimate_stationary
from undiffuse.priors.exact import Empirical, Gaussian, GaussianMixture
from undiffuse.priors.named import photo_gaussian
from undiffuse.priors.stationary import StationaryGaussian

__all__ = [
    "Empirical",
    "Gaussian",
    "GaussianMixture",
    "StationaryGaussian",
    "estimate_stationary",
    "photo_gaussian",
]
