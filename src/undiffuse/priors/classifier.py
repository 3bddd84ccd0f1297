"""The classifier of noisy images that guides a prior (Dhariwal and Nichol 2021, section 4)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.core.state import like_image
from undiffuse.priors.schedules import DiscreteSchedule


class NoisyClassifier(nn.Module):
    """Logits (B, classes) of the class of x = x0 + sigma n.

    net: F(x_t, t) with x_t = x / sqrt(1 + sigma^2), (B, C, H, W), and t (B,) time_scale times the timestep of
    `schedule`: what `networks.classifier` is, and a classifier published for a variance-preserving prior.
    """

    def __init__(self, net: nn.Module, schedule: DiscreteSchedule, time_scale: float = 1.0):
        super().__init__()
        self.net, self.schedule, self.time_scale = net, schedule, time_scale

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(B, classes). The net is called in its own dtype; the answer is in x's. sigma: () or (B, 1, 1, 1)."""
        sigma = like_image(sigma, x)
        dtype = next((p.dtype for p in self.net.parameters() if p.is_floating_point()), x.dtype)
        t = self.time_scale * self.schedule.t(sigma).reshape(-1).expand(len(x))
        t = t.to(dtype if dtype.itemsize >= 4 else torch.float32)
        return self.net((x * (1 + sigma.square()).rsqrt()).to(dtype), t).to(x.dtype)

    def log_prob(self, labels: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """log p(label | x; sigma) as (x, sigma) -> (B,), for `priors.classifier_guided`. labels: (B,) class numbers.

        ValueError for labels that are no classes: their values are read here, once, for that stalls an accelerator,
        and compared when the net has answered and shown how many classes it has.
        """
        check_labels(labels, None)
        low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)

        def log_prob(x: Tensor, sigma: Tensor) -> Tensor:
            check_labels(labels, len(x))
            logits = self(x, sigma)
            if low < 0 or high >= logits.shape[1]:
                raise ValueError(
                    f"labels from {low} to {high}; this classifier has classes 0 to {logits.shape[1] - 1}"
                )
            return -F.cross_entropy(logits, labels.long(), reduction="none")

        return log_prob


def check_labels(labels: Tensor, batch: int | None) -> None:
    """ValueError unless they are (B,) integers, B = batch if that is known."""
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.ndim != 1 or not whole or (batch is not None and len(labels) != batch):
        found = f"labels of shape {tuple(labels.shape)} and type {labels.dtype}"
        raise ValueError(
            f"{found}; expected one integer an image" + (f", ({batch},)" if batch is not None else "")
        )
