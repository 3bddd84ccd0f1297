"""Progressive distillation (Salimans and Ho, ICLR 2022): one step of the student for two of the teacher."""

from collections.abc import Callable

import torch
from torch import Tensor

from undiffuse.distil.teacher import Held, Teacher, check_dropout
from undiffuse.priors.prior import Prior
from undiffuse.training.conditioning import LowRes
from undiffuse.training.draws import DrawSigma
from undiffuse.training.objective import Denoising, Weight


class Progressive(Denoising):
    """weight(sigma) |student(x, sigma) - x~|^2, with x~ what makes one DDIM step land where two of the teacher do.

    sigmas: (2 N + 1,), the teacher's levels, falling to 0; the student's are `subgrid(sigmas)`. An image is noised to
    the upper level s of one of the student's N intervals, each as often. The teacher steps s -> s' -> s'' with
    answers D and D', x' = D + (s'/s) (x - D) and x'' = D' + (s''/s') (x' - D'). One step of the student to s'' lands
    there if it answers (algorithm 2, in x = x0 + s n)

        x~ = (x'' - (s''/s) x) / (1 - s''/s) = D' + w (D - D'),   w = (s''/s') (1 - s'/s) / (1 - s''/s).

    The second form is the one computed: a mean of two answers, 0 <= w < 1, without the cancellation of the first. In
    the last interval s'' = 0, so that w = 0 and x~ = D'. The target is a function of x, so the loss can reach 0.

    teacher: a `Prior`, `Guided`, or alike, on the device of the student (`Held`). A guided teacher allows no
    label_dropout: ValueError. The paper weighs by `truncated_snr` or by `v`, and its student predicts x0 or v: one
    that predicts eps has x0 = x - s eps, whose error at the few levels left, most of them high, is s times its own.
    """

    def __init__(
        self,
        student: Prior,
        teacher: Teacher,
        sigmas: Tensor,
        weight: Weight,
        *,
        label_dropout: float = 0.0,
        condition: LowRes | None = None,
    ):
        grid = _checked(sigmas)
        super().__init__(
            student, upper_levels(grid), weight, label_dropout=label_dropout, condition=condition
        )
        check_dropout(teacher, label_dropout)
        self.sigmas, self.teacher = grid, Held(teacher, student)  # float64 on the CPU, as every draw is

    def _losses(
        self, clean: Tensor, labels: Tensor | None, cond: Tensor | None, sigma: Tensor, n: Tensor
    ) -> Tensor:
        level = sigma.reshape(-1, 1, 1, 1).to(clean)
        x = clean + level * n
        error = (self.model(x, level, labels, cond) - self.target(x, sigma, labels, cond)).square()
        return (self.weight(level) * error).flatten(1).mean(1)

    @torch.no_grad()
    def target(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, cond: Tensor | None = None
    ) -> Tensor:
        """x~ (B, C, H, W) for x at sigma (B,), float64 on the CPU, each one of the upper levels; two calls."""
        top = len(self.sigmas) - 1 - torch.searchsorted(self.sigmas.flip(0), sigma.contiguous())
        s, middle, low = (self.sigmas[top + i] for i in range(3))
        kept, share = middle / s, (low / middle) * (1 - middle / s) / (1 - low / s)
        s, middle, kept, share = (v.reshape(-1, 1, 1, 1).to(x) for v in (s, middle, kept, share))
        first = self.teacher(x, s, labels, cond)
        second = self.teacher(first + kept * (x - first), middle, labels, cond)
        return second + share * (first - second)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Progressive":
        self.teacher.moved(fn)
        return super()._apply(fn, recurse)


def upper_levels(sigmas: Tensor) -> DrawSigma:
    """The upper levels of the student's intervals, each equally often: every second of sigmas (2 N + 1,)."""
    tops = sigmas[:-1:2]
    return lambda u: tops[(u.double() * len(tops)).long().clamp(max=len(tops) - 1)]


def subgrid(sigmas: Tensor) -> Tensor:
    """Every second level, (N + 1,) of (2 N + 1,): the student's grid, and the teacher's of the next stage."""
    return _checked(sigmas)[::2].to(sigmas)


def halvings(first: int, last: int) -> list[int]:
    """Numbers of steps from the teacher's to the last student's, both included: 16 to 2 is [16, 8, 4, 2].

    Each neighbouring pair is a stage. ValueError where halving `first` does not lead to a smaller `last`.
    """
    steps = [first]
    while steps[-1] > last >= 1 and steps[-1] % 2 == 0:
        steps.append(steps[-1] // 2)
    if len(steps) < 2 or steps[-1] != last:
        raise ValueError(
            f"{first} steps to {last}; expected a number of steps that halving leads to, as 32 leads to 4"
        )
    return steps


def _checked(sigmas: Tensor) -> Tensor:
    """The teacher's levels in float64 on the CPU. ValueError if they are none."""
    if sigmas.ndim != 1 or len(sigmas) < 3 or len(sigmas) % 2 == 0:
        raise ValueError(
            f"sigmas of shape {tuple(sigmas.shape)}; expected (2 N + 1,): an even number of steps, and 0"
        )
    grid = sigmas.detach().cpu().double()
    if not (grid.isfinite().all() and (grid.diff() < 0).all() and grid[-1] == 0):
        raise ValueError(f"sigmas from {grid[0]:g} to {grid[-1]:g}; expected finite levels that fall to 0")
    return grid
