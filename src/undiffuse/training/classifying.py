"""Training of the classifier of noisy images."""

import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.core.state import Noise
from undiffuse.priors import NoisyClassifier
from undiffuse.priors.classifier import check_labels
from undiffuse.training.draws import DrawSigma, uniform


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
        check_labels(labels, len(clean))
        level = self.draw_sigma(uniform(noise, len(clean), 1)[:, 0]).reshape(-1, 1, 1, 1).to(clean)
        logits = self.model(clean + level * noise(clean), level)
        return F.cross_entropy(logits, labels.long(), reduction="none")
