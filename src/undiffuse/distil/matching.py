"""Distillation by levels: the student answers as the teacher does, at every noise level."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from undiffuse.distil.features import Maps, apart, watched
from undiffuse.distil.teacher import Held, Teacher, check_dropout
from undiffuse.priors.prior import Prior
from undiffuse.training.conditioning import LowRes
from undiffuse.training.draws import DrawSigma
from undiffuse.training.objective import Denoising, Weight


class Matching(Denoising):
    """weight(sigma) times (1 - truth) |student - teacher|^2 + truth |student - x0|^2, means over the image.

    The teacher's answer is E[x0 | x], as good as the teacher is: the minimum is that of denoising, without the
    scatter of x0 about it. `truth` is the share of the clean image, for a teacher that is not to be followed all
    the way. A guided teacher allows no label_dropout, as the student's answer is the guided one: ValueError.

    `features` times the distance of what the layers of both look at (`distil.features.apart`) is added, the same at
    every level: the teacher has to be a `Prior` then, without guidance, which is two answers (ValueError).
    """

    def __init__(
        self,
        student: Prior,
        teacher: Teacher,
        draw_sigma: DrawSigma,
        weight: Weight,
        *,
        truth: float = 0.0,
        features: float = 0.0,
        label_dropout: float = 0.0,
        condition: LowRes | None = None,
    ):
        super().__init__(student, draw_sigma, weight, label_dropout=label_dropout, condition=condition)
        check_dropout(teacher, label_dropout)
        if not 0 <= truth <= 1:
            raise ValueError(f"truth = {truth:g}; expected a share of the loss, 0 to 1")
        if features < 0:
            raise ValueError(f"features = {features:g}; expected a weight, 0 for none")
        if features and not isinstance(teacher, Prior):
            raise ValueError(
                "features are of one network's answer, and a guided one is two; leave out one of them"
            )
        self.teacher, self.truth, self.features = Held(teacher, student), truth, features
        with self._watched(teacher), self._watched(student):
            pass  # refuses a network that shows nothing before it is asked

    def _losses(
        self, clean: Tensor, labels: Tensor | None, cond: Tensor | None, sigma: Tensor, n: Tensor
    ) -> Tensor:
        level = sigma.reshape(-1, 1, 1, 1).to(clean)
        x = clean + level * n
        with self._watched(self.teacher.module) as shown:
            taught = self.teacher(x, level, labels, cond)
        with self._watched(self.model) as own:
            found = self.model(x, level, labels, cond)
        error = (1 - self.truth) * (found - taught).square()
        if self.truth > 0:
            error = error + self.truth * (found - clean).square()
        losses = (self.weight(level) * error).flatten(1).mean(1)
        return losses + self.features * apart(own, shown) if self.features > 0 else losses

    def _watched(self, prior: object) -> AbstractContextManager[Maps]:
        return watched(prior.net) if self.features > 0 and isinstance(prior, Prior) else nullcontext({})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Matching":
        self.teacher.moved(fn)
        return super()._apply(fn, recurse)
