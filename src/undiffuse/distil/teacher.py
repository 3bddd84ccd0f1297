"""What students learn from: a prior that answers, and is neither trained nor saved nor distributed."""

import torch
from torch import Tensor

from undiffuse.priors import Prior, class_guided


class Teacher:
    """(x, sigma, labels, cond) -> x0 of a prior, guided towards the labels if guidance is not 1; without gradients.

    Not a module: an objective that holds one has only the student's parameters. It follows x to its device.
    guidance: of classifier-free guidance, which the student then has built in (Meng et al. 2023, at one scale).
    ValueError for guidance of a prior that has no class for none.
    """

    def __init__(self, prior: Prior, guidance: float = 1.0):
        if guidance != 1 and not prior.null_class:
            raise ValueError(
                f"guidance {guidance:g}; the teacher was trained without class dropout: leave it at 1"
            )
        self.prior, self.guidance = prior.eval().requires_grad_(False), guidance

    @torch.no_grad()
    def __call__(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        parameter = next(self.prior.parameters())
        if parameter.device != x.device:
            self.prior.to(x.device)
        if self.guidance == 1 or labels is None:
            return self.prior(x, sigma, labels, cond)
        return class_guided(self.prior, labels, cond, scale=self.guidance)(x, sigma)
