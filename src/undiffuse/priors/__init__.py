"""Denoisers x0 = D(x, sigma): networks with their parameterisation, and priors in closed form."""

from undiffuse.priors import scalings, schedules
from undiffuse.priors.classifier import NoisyClassifier
from undiffuse.priors.estimate import estimate_stationary
from undiffuse.priors.exact import Empirical, Gaussian, GaussianMixture
from undiffuse.priors.guidance import (
    ClassGuided,
    autoguidance,
    cfg,
    cfg_interval,
    class_guided,
    classifier_guided,
    clipped,
)
from undiffuse.priors.named import photo_gaussian
from undiffuse.priors.prior import Coefficients, Given, Prediction, Prior, Scaling
from undiffuse.priors.schedules import DiscreteSchedule, lint
from undiffuse.priors.stationary import StationaryGaussian
from undiffuse.priors.windows import windowed

__all__ = [
    "ClassGuided",
    "Coefficients",
    "DiscreteSchedule",
    "Empirical",
    "Gaussian",
    "GaussianMixture",
    "Given",
    "NoisyClassifier",
    "Prediction",
    "Prior",
    "Scaling",
    "StationaryGaussian",
    "autoguidance",
    "cfg",
    "cfg_interval",
    "class_guided",
    "classifier_guided",
    "clipped",
    "estimate_stationary",
    "lint",
    "photo_gaussian",
    "scalings",
    "schedules",
    "windowed",
]
