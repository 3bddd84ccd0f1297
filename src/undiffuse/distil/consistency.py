"""Consistency models by easy consistency tuning (Geng et al., ICLR 2025), from data or from a teacher."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from undiffuse.core.devices import wide
from undiffuse.core.state import State
from undiffuse.distil.stages import Stages
from undiffuse.distil.teacher import Held, Teacher, check_dropout
from undiffuse.priors.prior import Prior
from undiffuse.samplers import ddim, heun
from undiffuse.training.conditioning import LowRes
from undiffuse.training.draws import DrawSigma
from undiffuse.training.objective import Denoising, Weight, x0

Distance = Callable[[Tensor], Tensor]  # error (B, C, H, W) -> (B,)
Solver = Literal["ddim", "heun"]


class Consistency(Denoising):
    """weight(t) distance(f(x_t, t) - f(x_r, r)), no gradient through the second: f takes a path to where it ends.

    f is the student, on its way from E[x0 | x] to that end; f(x, 0) = x by its scaling. t is drawn by draw_sigma,
    r = schedule.below(t) at the stage that `images_seen` is in. The training loop sets `images_seen` before each step
    (`training.objective.Staged`); it is 0 until then. Both sides see the same labels and dropout masks.

    teacher None is tuning: x_r = x0 + r n with x_t's own x0 and n. With a teacher, distillation: x_r is one step of
    `solver` from x_t along its probability flow; a guided one allows no label_dropout. Both give f, where it is
    linear in x, the same gradient in expectation: E[x_r | x_t] is the DDIM step of the exact denoiser. Tuning's loss
    does not reach 0, as x_r scatters about it; the bias of either vanishes with the gap.

    weight: None is 1 / (t - r), the authors' on CIFAR-10; on ImageNet-64 they take `edm`. They draw ln t from
    N(-1.1, 2^2), and train with dropout. ValueError for a student that predicts x0 itself, as f(x, 0) is not x then;
    one that predicts eps is legal and poor: its error at high levels is t times its own.
    """

    def __init__(
        self,
        student: Prior,
        teacher: Teacher | None,
        draw_sigma: DrawSigma,
        schedule: Stages,
        weight: Weight | None = None,
        *,
        distance: Distance | None = None,
        solver: Solver = "ddim",
        label_dropout: float = 0.0,
        condition: LowRes | None = None,
    ):
        super().__init__(student, draw_sigma, weight or x0, label_dropout=label_dropout, condition=condition)
        check_dropout(teacher, label_dropout)
        if solver not in SOLVERS:
            raise ValueError(f"no solver '{solver}'; choose from {', '.join(SOLVERS)}")
        _check_boundary(student)
        self.teacher = None if teacher is None else Held(teacher, student)
        self.schedule, self.by_gap, self.solver = schedule, weight is None, solver
        self.distance = distance or pseudo_huber()
        self.images_seen = 0

    def _losses(
        self, clean: Tensor, labels: Tensor | None, cond: Tensor | None, sigma: Tensor, n: Tensor
    ) -> Tensor:
        t = wide(sigma)  # gaps of 1/256 and less are taken before they are rounded
        r = self.schedule.below(t, self.schedule.at(self.images_seen))
        upper, lower, gap = (v.reshape(-1, 1, 1, 1).to(clean) for v in (t, r, t - r))
        x = clean + upper * n
        again = _masks(clean.device)
        # This side first: casts that autocast keeps from a side without gradients would have none.
        found = self.model(x, upper, labels, cond)
        with torch.no_grad():
            end = self._below(x, clean, n, upper, lower, labels, cond)
            if (r > 0).any():
                again()
                end = torch.where(lower > 0, self.model(end, lower, labels, cond), end)
        weight = 1 / gap if self.by_gap else self.weight(upper)
        return weight.flatten() * self.distance(found - end)

    def _below(
        self,
        x: Tensor,
        clean: Tensor,
        n: Tensor,
        t: Tensor,
        r: Tensor,
        labels: Tensor | None,
        cond: Tensor | None,
    ) -> Tensor:
        """x_r, of the same noise or of the teacher's step."""
        if self.teacher is None:
            return clean + r * n
        held = self.teacher
        step = SOLVERS[self.solver](lambda x, sigma, /: held(x, sigma, labels, cond), _none)
        return step(State(x, t), r).x

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Consistency":
        if self.teacher is not None:
            self.teacher.moved(fn)
        return super()._apply(fn, recurse)


def pseudo_huber(c: float = 0.0) -> Distance:
    """sqrt(mean of squares + c^2) - c of each image: its error, counted as less where it is small.

    c: in units of a pixel's error; 0 is the root of the mean square, as in the authors' runs, and 0.00054 is that of
    improved consistency training (Song and Dhariwal 2024). They sum where this takes the mean: theirs, c included, is
    larger by the root of how many numbers an image has. ValueError for a c below 0 or without an end.
    """
    if not 0 <= c < float("inf"):
        raise ValueError(f"c = {c} of the pseudo-Huber distance; expected 0 or more, such as 0.00054")

    def distance(error: Tensor) -> Tensor:
        flat = error.flatten(1)
        root = torch.linalg.vector_norm(flat, dim=1) / flat.shape[1] ** 0.5  # its gradient at 0 is 0, not nan
        return root if c == 0 else root.square() / ((root.square() + c**2).sqrt() + c)

    return distance


def squared(error: Tensor) -> Tensor:
    """The mean of squares of each image."""
    return error.square().flatten(1).mean(1)


SOLVERS = {"ddim": ddim, "heun": heun}


def _check_boundary(student: Prior) -> None:
    c = student.scaling(torch.zeros((), dtype=torch.float64))
    if float(c.skip) != 1 or float(c.out) != 0:
        raise ValueError(
            f"a student with x0 = {float(c.skip):g} x + {float(c.out):g} F at sigma = 0, which has to be x; "
            "choose a prediction of v, edm, flow or eps"
        )


def _none(like: Tensor) -> Tensor:
    raise AssertionError("a deterministic step asked for noise")


def _masks(device: torch.device) -> Callable[[], None]:
    """What puts torch's generators back to where they are now: a second pass draws the same dropout masks."""
    own = {"cuda": torch.cuda, "mps": torch.mps}.get(device.type)
    here, there = torch.get_rng_state(), None if own is None else own.get_rng_state(device)

    def again() -> None:
        torch.set_rng_state(here)
        if own is not None and there is not None:
            own.set_rng_state(there, device)

    return again
