"""Learned variances: the hybrid objective of improved DDPM (Nichol and Dhariwal 2021), and the bound that it holds.

The reverse chain of a schedule's levels, x' ~ N(x0hat + k (x - x0hat), variance) with k = (sigma' / sigma)^2, is
scored by L = L_T + sum_t L_t: KL(q(x' | x, x0) || p(x' | x)) of every step but the last, whose score is the
probability of the 8-bit image. A KL does not change when both are rescaled: it is that of x / sqrt(1 + sigma^2).
All in bits per dimension, as guided-diffusion has them: natural logarithms over log 2, the mean of an image's numbers.
"""

import math

import torch
from torch import Tensor

from undiffuse.core.state import Noise
from undiffuse.priors.prior import Prior
from undiffuse.priors.schedules import DiscreteSchedule
from undiffuse.priors.variance import log_learned, small_and_large
from undiffuse.training.conditioning import LowRes
from undiffuse.training.objective import Denoising, Weight, levels_of

HALF_BIN = 1 / 255  # of 8-bit values on [-1, 1], which are 1 / 127.5 apart
BOUND_WEIGHT = 1e-3  # lambda of Nichol and Dhariwal (2021), section 3.1


class Hybrid(Denoising):
    """L_simple + bound_weight L: the error of the mean, and the variational bound for the variance alone (eq. 16).

    The bound's gradient to x0hat is stopped. Its sum over the T levels is estimated by T times one of its terms, at
    the level drawn for the image, each as often: at T = 1000 and the paper's weight of 0.001 the factor is 1. So it
    is in guided-diffusion with rescaled learned sigmas, whatever T; without (its default) the factor is always 1,
    which is bound_weight = 1 / T here. weight: of L_simple; `eps` in the paper. The network has to answer with twice
    the channels: ValueError otherwise, at the first batch.
    """

    def __init__(
        self,
        prior: Prior,
        schedule: DiscreteSchedule,
        weight: Weight,
        *,
        bound_weight: float = BOUND_WEIGHT,
        label_dropout: float = 0.0,
        condition: LowRes | None = None,
    ):
        super().__init__(prior, levels_of(schedule), weight, label_dropout=label_dropout, condition=condition)
        if not 0 <= bound_weight < float("inf"):
            raise ValueError(
                f"bound_weight = {bound_weight}; expected 0 or more, {BOUND_WEIGHT} in the paper"
            )
        self.schedule, self.bound_weight = schedule, bound_weight

    def _losses(
        self, clean: Tensor, labels: Tensor | None, cond: Tensor | None, sigma: Tensor, n: Tensor
    ) -> Tensor:
        level = sigma.reshape(-1, 1, 1, 1).to(clean)
        x0, raw = _both(self.model, clean + level * n, level, labels, cond)
        simple = (self.weight(level) * (x0 - clean).square()).flatten(1).mean(1)
        t = self.schedule.t(sigma).round().long()
        return simple + self.bound_weight * len(self.schedule) * bound(
            x0.detach(), raw, clean, t, self.schedule
        )


def bound(x0: Tensor, raw: Tensor, clean: Tensor, t: Tensor, schedule: DiscreteSchedule, /) -> Tensor:
    """(B,): the bound's term L_t of each image, in bits per dimension, at the levels t (B,), integers from 0.

    x0, raw: what the network said of clean + sigma_t n, (B, C, H, W) each. At t = 0 it is the decoder's -log2
    probability of the 8-bit image `clean`, taken for variances between those of guided-diffusion: beta_0, and, for
    the posterior's is 0 there, that of t = 1.
    """
    small, large, kept = (value.to(clean.dtype).to(clean.device) for value in _steps(t, schedule))
    log_variance = log_learned(raw, small, large)
    above = log_variance - small.log()
    error = (1 - kept) * (x0 - clean)
    divergence = 0.5 * (above + torch.expm1(-above) + error.square() * (-log_variance).exp())
    first = (t == 0).to(clean.device).reshape(-1, 1, 1, 1)
    surprise = -log_bin(clean, x0, (0.5 * log_variance).exp())
    return torch.where(first, surprise, divergence).flatten(1).mean(1) / math.log(2)


def log_bin(clean: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """log P of the 8-bit value nearest to `clean`'s under N(mean, deviation^2), whose tails go to -1 and 1.

    The mass within 1/255 of clean (Ho et al. 2020, eq. 13), by the error function itself where the published code
    has a fit of it, and in logarithms, so that a far-off mean still has a gradient.
    """
    # By symmetry the bin may be taken to lie below the mean, where the logarithms are accurate.
    off = (clean - mean).abs()
    upper = _log_ndtr((HALF_BIN - off) / deviation)
    lower = _log_ndtr((-HALF_BIN - off) / deviation)
    inside = upper + torch.log(-torch.expm1((lower - upper).clamp(max=-torch.finfo(off.dtype).tiny)))
    low = _log_ndtr((clean + HALF_BIN - mean) / deviation)
    high = _log_ndtr((mean - clean + HALF_BIN) / deviation)
    end = 1 - HALF_BIN  # halfway between the last two values
    return torch.where(clean < -end, low, torch.where(clean > end, high, inside))


def _log_ndtr(x: Tensor) -> Tensor:
    """ln Phi(x), as torch computes it: on Apple's devices torch's own is missing."""
    below = (torch.special.erfcx(x.clamp(max=-1) / -math.sqrt(2)) / 2).log() - x.clamp(max=-1).square() / 2
    return torch.where(x < -1, below, torch.log1p(-torch.erfc(x.clamp(min=-1) / math.sqrt(2)) / 2))


def start_term(clean: Tensor, schedule: DiscreteSchedule) -> Tensor:
    """(B,): L_T = KL(q(x_T | x0) || N(0, I)) of each image, in bits per dimension. Nothing in it is learned."""
    a = schedule.alphas_cumprod[-1].item()
    divergence = 0.5 * (a * clean.square() - a - math.log1p(-a))
    return divergence.flatten(1).mean(1) / math.log(2)


@torch.no_grad()
def bits_per_dimension(
    prior: Prior,
    clean: Tensor,
    schedule: DiscreteSchedule,
    noise: Noise,
    /,
    *,
    labels: Tensor | None = None,
    cond: Tensor | None = None,
) -> Tensor:
    """(B,): the whole bound on -log2 p of the 8-bit images `clean`, per dimension; one network call a level.

    prior: with a learned variance, in evaluation mode. The noise is drawn anew at each level, so that it is an unbiased
    estimate of the bound.
    """
    total = start_term(clean, schedule)
    for t in range(len(schedule)):
        level = schedule.sigmas[t].to(clean.dtype).to(clean.device)
        x0, raw = _both(prior, clean + level * noise(clean), level, labels, cond)
        total = total + bound(x0, raw, clean, torch.full((len(clean),), t), schedule)
    return total


def _both(
    prior: Prior, x: Tensor, sigma: Tensor, labels: Tensor | None, cond: Tensor | None
) -> tuple[Tensor, Tensor]:
    prediction = prior.predict(x, sigma, labels, cond)
    if prediction.variance is None:
        raise ValueError("the network predicts no variance; give it twice the channels (learned_variance)")
    return prediction.x0, prediction.variance


def _steps(t: Tensor, schedule: DiscreteSchedule) -> tuple[Tensor, Tensor, Tensor]:
    """small, large and k = (sigma' / sigma)^2 of the steps down from levels t, (B, 1, 1, 1), float64 on the CPU."""
    sigmas = schedule.sigmas
    below = torch.cat((sigmas.new_zeros(1), sigmas[:-1]))
    small, large = small_and_large(sigmas, below)
    small[0] = small[1] / (1 + sigmas[0] ** 2)  # in the scale of x0, as published code clips it
    chosen = t.cpu()
    small, large, kept = (v[chosen].reshape(-1, 1, 1, 1) for v in (small, large, (below / sigmas) ** 2))
    return small, large, kept
