"""Ancestral sampling: the reverse chain of DDPM (Ho, Jain and Abbeel, NeurIPS 2020)."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from undiffuse.core.state import Denoise, Noise, State, Step, fresh_noise
from undiffuse.priors.prior import Prediction
from undiffuse.priors.variance import log_learned, small_and_large
from undiffuse.registry import SAMPLERS
from undiffuse.samplers.direction import noise_in

Predict = Callable[[Tensor, Tensor], Prediction]


@SAMPLERS.register(
    "ancestral",
    summary="DDPM's reverse chain; can use the variance that a network learned",
    example="--sampler ancestral:variance=large",
    order=1,
    stochastic=True,
)
def ancestral(
    denoise: Denoise,
    noise: Noise,
    /,
    *,
    variance: Annotated[
        Literal["small", "large", "learned"],
        Field(
            description="small: of the posterior given x0; large: of the forward step; learned: the network's"
        ),
    ] = "small",
) -> Step:
    """x' = x0 + (sigma'/sigma)^2 (x - x0) + sqrt(variance) n; none in the step to sigma' = 0.

    DDPM (Ho et al. 2020, algorithm 2), with the variances of `priors.variance`. beta is that of the grid's own
    steps, as when guided-diffusion respaces a schedule. small is ddim with eta = 1. large is right for
    x0 ~ N(0, I) and too wide with few steps; learned needs a denoiser with `predict`, such as Prior or
    Prior.given(labels), of a network with a variance: ValueError otherwise.
    """
    predict: Predict | None = getattr(denoise, "predict", None)
    if variance == "learned" and predict is None:
        raise ValueError("variance=learned needs a prior that predicts a variance; choose small or large")

    def step(state: State, sigma_next: Tensor) -> State:
        raw = None
        if variance == "learned":
            assert predict is not None
            x0, raw = _learned(predict(state.x, state.sigma))
        else:
            x0 = denoise(state.x, state.sigma)
        down, up = fresh_noise(state.sigma, sigma_next, 1.0)
        mean = x0 + down * noise_in(state.x, x0, state.sigma)
        if variance != "small":
            small, large = small_and_large(state.sigma, sigma_next)
            spread = large if raw is None else log_learned(raw, small, large).exp()
            up = torch.where(sigma_next > 0, spread, 0).sqrt()
        return State(mean + up * noise(x0), sigma_next, x0)

    return step


def _learned(prediction: Prediction) -> tuple[Tensor, Tensor]:
    if prediction.variance is None:
        raise ValueError("variance=learned, but this network predicts none; choose small or large")
    return prediction.x0, prediction.variance
