"""The algorithm: ours on its own grid, or the authors' on their timesteps, with what is wrong with it."""

import torch
from torch import Tensor

from undiffuse.app.methods import Method, plan_method
from undiffuse.app.priors import Opened
from undiffuse.config.ddrm import DdrmConfig
from undiffuse.core.state import Denoise, like_image
from undiffuse.priors import DiscreteSchedule, NoisyClassifier, class_guided, classifier_guided
from undiffuse.priors.schedules import linear
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem

STEP_BUGS = (
    "noise-free data is not kept exactly at the last step",
    "the start is divided by sigma_T where sqrt(1 + sigma_T^2) is meant",
    "with noise, modes of singular value 0 that deblurring stores go towards the measurement's noise",
)


def plan(asked: DdrmConfig, opened: Opened, problem: Problem) -> Method:
    """`ddrm` as undiffuse restore has it, or `ddrm_published` on the authors' timesteps."""
    options = {"eta": asked.eta, "eta_b": asked.eta_b}
    if not asked.compat:
        return plan_method(RESTORERS["ddrm"], options, opened, problem, asked.timesteps)
    levels = authors_levels(schedule_of(opened), asked.timesteps)
    return plan_method(RESTORERS["ddrm_published"], options, opened, problem, len(levels), levels)


def schedule_of(opened: Opened) -> DiscreteSchedule:
    """The schedule of the prior's file; DDPM's for priors that have none."""
    if opened.config is not None and opened.config.schedule is not None:
        return opened.config.discrete()
    return DiscreteSchedule.from_betas(linear())


def authors_levels(schedule: DiscreteSchedule, timesteps: int) -> list[float]:
    """sigma of range(0, T, T // timesteps), highest first: more than asked for where it does not divide T."""
    if timesteps > len(schedule):
        raise ValueError(f"--timesteps {timesteps}; this prior has {len(schedule)}")
    return schedule.sigmas[:: len(schedule) // timesteps].flip(0).tolist()


def bugs(asked: DdrmConfig, method: Method, guided: bool) -> list[str]:
    """What --compat reproduces of the steps, in words."""
    if not asked.compat:
        return []
    count = len(method.sigmas) - 1
    told = [*STEP_BUGS]
    if count != asked.timesteps:
        told.append(f"--timesteps {asked.timesteps} does not divide 1000, and makes {count} steps")
    if guided:
        told.append("the classifier looks at the start at every step, not at the current picture")
    return told


def denoiser(
    opened: Opened, labels: Tensor | None, classifier: NoisyClassifier | None, scale: float
) -> Denoise:
    """The prior for these classes, guided by the classifier at the current x. labels: (B,) or None."""
    prior = opened.prior
    if labels is None or prior is None:
        return opened.denoise
    plain: Denoise = class_guided(prior, labels) if prior.num_classes is not None else prior
    return plain if classifier is None else classifier_guided(plain, classifier.log_prob(labels), scale)


def frozen(
    opened: Opened, labels: Tensor, classifier: NoisyClassifier, scale: float, start: Tensor, sigma: Tensor
) -> Denoise:
    """As published: the gradient at x_T for whatever timestep it is (quirk of their cls_fn(x, t, classes)).

    They subtract sqrt(1 - abar) g from the noise estimate, g the gradient in variance-preserving units; here that
    moves x0 by sigma^2 / sqrt(1 + sigma^2) g.
    """
    plain = denoiser(opened, labels, None, 0.0)
    first = start * (1 + sigma**2).rsqrt()

    def gradient(level: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = first.detach().requires_grad_()
            log_prob = classifier.log_prob(labels)(leaf * (1 + level**2).sqrt(), level)
            return torch.autograd.grad(log_prob.sum(), leaf)[0]

    def guided(x: Tensor, level: Tensor, /) -> Tensor:
        level = like_image(level, x)
        return plain(x, level) + scale * level**2 * (1 + level**2).rsqrt() * gradient(level)

    return guided
