"""The noise that an estimate leaves in x."""

import torch
from torch import Tensor


def noise_in(x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """eps = (x - x0) / sigma = dx/dsigma of the probability-flow ODE; 0 for an image that is at sigma = 0."""
    return (x - x0) / sigma.clamp(min=torch.finfo(x.dtype).tiny)
