"""How good an answer is, against the clean picture and against the data."""

import math

import torch
from torch import Tensor

from undiffuse.metrics import LPIPS, psnr, quality
from undiffuse.restore import Problem, certify, summarise


def judge(draws: Tensor, problem: Problem, clean: Tensor, lpips: LPIPS | None) -> dict[str, float]:
    """Figures of an answer, the mean of `draws` (K, C, H, W); what they mean is in the head of the table.

    clean: (1, C, H, W). Of several draws also the mean PSNR of one, and the share of true pixels between their
    5 % and 95 % quantiles.
    """
    answer = draws.mean(0, keepdim=True)
    found = quality(answer, clean, lpips=lpips)
    if len(draws) > 1:
        found["psnr_of_draw"] = psnr(draws, clean.expand_as(draws)).mean().item()
        found["coverage90"] = summarise(draws[None]).coverage(clean)
    found["residual"] = certify(problem, draws[:1])[0].ratio
    return {name: value for name, value in found.items() if not math.isnan(value)}


def finite(draws: Tensor) -> bool:
    """Whether the method came to an answer at all."""
    return bool(torch.isfinite(draws).all())
