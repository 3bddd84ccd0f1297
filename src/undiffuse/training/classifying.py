"""The classifier of noisy images that guides a prior (Dhariwal and Nichol 2021, section 4), and its training."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.core.state import Noise, like_image
from undiffuse.priors.schedules import DiscreteSchedule
from undiffuse.training.draws import DrawSigma, uniform


class NoisyClassifier(nn.Module):
    """Logits (B, classes) of the class of x = x0 + sigma n.

    net: F(x_t, t) with x_t = x / sqrt(1 + sigma^2), (B, C, H, W), and t (B,) the timestep of `schedule`: what
    `networks.classifier` is, and a classifier published for a variance-preserving prior.
    """

    def __init__(self, net: nn.Module, schedule: DiscreteSchedule):
        super().__init__()
        self.net, self.schedule = net, schedule

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """(B, classes). The net is called in its own dtype; the answer is in x's. sigma: () or (B, 1, 1, 1)."""
        sigma = like_image(sigma, x)
        dtype = next((p.dtype for p in self.net.parameters() if p.is_floating_point()), x.dtype)
        t = self.schedule.t(sigma).reshape(-1).expand(len(x))
        t = t.to(dtype if dtype.itemsize >= 4 else torch.float32)
        return self.net((x * (1 + sigma.square()).rsqrt()).to(dtype), t).to(x.dtype)

    def log_prob(self, labels: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """log p(label | x; sigma) as (x, sigma) -> (B,), for `priors.classifier_guided`. labels: (B,) class numbers.

        ValueError for labels that are no classes: their values are read here, once, for that stalls an accelerator,
        and compared when the net has answered and shown how many classes it has.
        """
        _check(labels, None)
        low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)

        def log_prob(x: Tensor, sigma: Tensor) -> Tensor:
            _check(labels, len(x))
            logits = self(x, sigma)
            if low < 0 or high >= logits.shape[1]:
                raise ValueError(
                    f"labels from {low} to {high}; this classifier has classes 0 to {logits.shape[1] - 1}"
                )
            return -F.cross_entropy(logits, labels.long(), reduction="none")

        return log_prob


class Classifying(nn.Module):
    """-log p(label | x0 + sigma n), in nats: what guides a prior at a noise level is trained at it.

    draw_sigma: the levels trained on; those of the classifier's schedule, each as often, in the paper.
    """

    def __init__(self, classifier: NoisyClassifier, draw_sigma: DrawSigma):
        super().__init__()
        self.model, self.draw_sigma = classifier, draw_sigma

    def forward(self, clean: Tensor, labels: Tensor | None, noise: Noise) -> Tensor:
        """(B,). clean: (B, C, H, W); `noise` draws all that is random, an image at a time."""
        if labels is None:
            raise ValueError("images without labels; a classifier is trained on data with classes")
        _check(labels, len(clean))
        level = self.draw_sigma(uniform(noise, len(clean), 1)[:, 0]).reshape(-1, 1, 1, 1).to(clean)
        logits = self.model(clean + level * noise(clean), level)
        return F.cross_entropy(logits, labels.long(), reduction="none")


def _check(labels: Tensor, batch: int | None) -> None:
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.ndim != 1 or not whole or (batch is not None and len(labels) != batch):
        found = f"labels of shape {tuple(labels.shape)} and type {labels.dtype}"
        raise ValueError(
            f"{found}; expected one integer an image" + (f", ({batch},)" if batch is not None else "")
        )
