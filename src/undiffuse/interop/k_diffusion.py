"""Denoisers by k-diffusion's convention, `model(x, sigma, **extra)` with sigma (B,): EDM's networks have it, too.

The coordinate is ours, x = x0 + sigma n with pictures in [-1, 1]; only the shape of sigma and the names differ.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.core.state import Denoise
from undiffuse.priors import Prior


class Model(nn.Module):
    """A prior for k-diffusion's samplers: forward(x, sigma, labels=..., cond=...) -> x0, sigma () or (B,).

    sigma_min and sigma_max: the range of the prior, for get_sigmas_karras and its like.
    """

    def __init__(self, prior: Prior):
        super().__init__()
        self.prior = prior
        self.sigma_min, self.sigma_max = prior.sigma_range

    def forward(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        """E[x0 | x]."""
        return self.prior(x, sigma.reshape(-1, *[1] * (x.ndim - 1)) if sigma.ndim else sigma, labels, cond)


def model(prior: Prior) -> Model:
    """A prior as `model(x, sigma, **extra)`."""
    return Model(prior)


def denoiser(model: Callable[..., Tensor], **extra: Any) -> Denoise:
    """The denoiser here of a `model(x, sigma, **extra)` of k-diffusion's or EDM's, with its arguments filled in.

    ValueError, when it is called, if it answers with another shape than x's.
    """

    def denoise(x: Tensor, sigma: Tensor, /) -> Tensor:
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).flatten().expand(len(x))
        x0 = model(x, level, **extra)
        if x0.shape != x.shape:
            raise ValueError(f"the model answers {tuple(x0.shape)} to {tuple(x.shape)}; expected the same")
        return x0.to(x.dtype)

    return denoise
