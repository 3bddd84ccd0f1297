"""What a student learns from: a denoiser that is asked, and neither trained nor saved."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from undiffuse.priors.guidance import ClassGuided, Interval
from undiffuse.priors.prior import Given, Prior

Teacher = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
"""(x, sigma, labels, cond) -> x0, as a `Prior` answers; sigma is () or (B, 1, 1, 1)."""


@dataclass(frozen=True, slots=True)
class Guided:
    """A teacher with classifier-free guidance at one fixed scale, one network call for both halves.

    What it answers is what the student learns as its own conditional answer (Meng et al. 2023, first stage, for one
    scale): a student of it is sampled without guidance. Labels are taken as they are: their range is not checked.
    ValueError for a prior without a null class.
    """

    prior: Prior
    scale: float
    interval: Interval | None = None

    def __post_init__(self):
        if not math.isfinite(self.scale):
            raise ValueError(f"guidance {self.scale}; expected a finite scale, 1 for none")
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1]:
            raise ValueError(f"interval {self.interval}; expected 0 <= low < high")
        if self.guides and not self.prior.null_class:
            raise ValueError(
                f"guidance {self.scale:g} needs a teacher that knows images without a class, and this one was "
                "trained without class dropout; use guidance 1"
            )

    @property
    def guides(self) -> bool:
        """Whether it answers otherwise than the prior alone."""
        return self.scale != 1

    def __call__(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, cond: Tensor | None = None, /
    ) -> Tensor:
        """E[x0 | x] + scale (E[x0 | x, labels] - E[x0 | x]). ValueError without labels, unless the scale is 1."""
        if not self.guides:
            return self.prior(x, sigma, labels, cond)
        if labels is None:
            raise ValueError(f"images without labels; guidance {self.scale:g} needs data with classes")
        return ClassGuided(Given(self.prior, labels, cond), self.scale, self.interval)(x, sigma)


class Held:
    """A teacher that is no part of the module that holds it: not in its parameters, its state or its mode.

    So an optimiser, a saved state and DistributedDataParallel do not see it. It is put into evaluation mode here, and
    asked without gradients. Its holder moves it with itself by `moved`: of a `Guided` teacher the prior, of a module
    itself; any other callable sees to its own device. ValueError if it shares weights with the student.
    """

    def __init__(self, ask: Teacher, student: nn.Module):
        inner = ask.prior if isinstance(ask, Guided) else ask
        self.ask, self.module = ask, inner if isinstance(inner, nn.Module) else None
        if self.module is not None:
            own = {id(p) for p in student.parameters()}
            if any(id(p) in own for p in self.module.parameters()):
                raise ValueError("the teacher shares weights with its student; give the student a copy")
            self.module.eval()

    @torch.no_grad()
    def __call__(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        """x0 of x at sigma."""
        return self.ask(x, sigma, labels, cond)

    def moved(self, how: Callable[[Tensor], Tensor]) -> None:
        """Apply to its tensors what `nn.Module._apply` applies to those of the holder."""
        if self.module is not None:
            self.module._apply(how)


def check_dropout(teacher: object, label_dropout: float) -> None:
    """ValueError for labels that would be hidden from a guided teacher, who has no answer without them."""
    if label_dropout and isinstance(teacher, Guided) and teacher.guides:
        raise ValueError(
            f"label_dropout = {label_dropout} with guidance {teacher.scale:g}; set it to 0: the student learns the "
            "guided answer, which needs the label"
        )
