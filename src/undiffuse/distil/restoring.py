"""Distillation for restoration: the student learns on what an algorithm of few calls will show it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import Denoise, Noise, State
from undiffuse.distil.matching import Matching
from undiffuse.distil.teacher import Teacher
from undiffuse.operators import Operator
from undiffuse.priors.prior import Prior
from undiffuse.registry import Entry
from undiffuse.restore import Problem, measure, start
from undiffuse.training.draws import DrawSigma, uniform
from undiffuse.training.objective import Weight

SHARE = 0.5  # of the images that are restored; the others are denoised
QUIET = 0.5  # of the restored, those whose data has no noise
LOWER = 0.25  # of an algorithm's levels, the lowest practised where the data has none
WEIGHT = 0.1  # of the logarithm of a squared error
TINY = 1e-12  # float32 leaves as much of an answer that the data determines
SEEDS = 2**31


@dataclass(frozen=True)
class Practice:
    """What is practised: degradations, up to which noise ([-1, 1] units), by which algorithm in how many calls.

    ValueError for no degradation, for an algorithm that has no grid of its own, and for one that cannot undo them.
    """

    operators: Sequence[Operator]
    noise: float
    algorithm: Entry
    options: Mapping[str, Any]
    calls: int

    def __post_init__(self):
        if not self.operators:
            raise ValueError("no degradation to practise; give some, such as sr4,deblur_gauss,inp")
        if "grid" not in self.algorithm.facts:
            raise ValueError(
                f"'{self.algorithm.name}' takes the prior's levels; practise with one of its own, such as dpir_wiener"
            )
        for A in self.operators:
            nothing = torch.zeros(1, *A.out_shape)
            self.algorithm(
                lambda x, sigma: x, Problem(A, nothing, self.noise), SeededNoise([0]), **self.options
            )

    def problem(self, clean: Tensor, u: Tensor, noise: Noise) -> Problem:
        """One degraded picture. u: which degradation, and how much noise, uniform in [0, 1]."""
        A = self.operators[_number(u[0], len(self.operators))].to(clean.device)
        sigma_y = self.noise * max(0.0, (float(u[1]) - QUIET) / (1 - QUIET))
        return Problem(A, measure(A, clean, sigma_y, noise), sigma_y)

    def levels(self, sigma_y: float, u: Tensor) -> Tensor:
        """(calls + 1,): the algorithm's own; down to a quarter of them where the data has no noise.

        There the best levels follow the error of the start, which a mild blur leaves much smaller than a coarse
        sampling: `tune` finds them, and the network is to be ready for what it finds.
        """
        sigmas: Tensor = self.algorithm.facts["grid"](self.calls, sigma_y)
        return sigmas if sigma_y > 0 else sigmas * LOWER ** float(u)

    def answer(
        self, denoise: Denoise, problem: Problem, sigmas: Tensor, call: int, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """The start, and the answer of one call, counted from 0, as if it were the last.

        Of the calls before it no gradient is kept.
        """
        step = self.algorithm(denoise, problem, noise, **self.options)
        with torch.no_grad():
            begun: Tensor = self.algorithm.facts.get("start", start)(problem, sigmas[0], noise)
            state = State(begun, sigmas[0])
            for sigma in sigmas[1 : call + 1]:
                state = step(state, sigma)
        return begun, step(state, sigmas.new_zeros(())).x


class Restoring(Matching):
    """Half of the images as `Matching` has them; the other half

        w ln(|x_k - x0|^2 / |x_start - x0|^2),    x_k = the answer of call k of the algorithm, as if it were the
                                                  last, k uniform, w = 0.1

    for a picture degraded and restored with the student as it is now. What an algorithm shows its network is no
    x0 + sigma n: the error of an enlarged picture follows its edges. A network that has seen such errors takes them
    off in fewer calls. Each call is asked for the clean picture itself, as an error costs the picture the same at
    every call. The error is told in the decibels that it is judged by, above those of the algorithm's start: a mild
    blur without noise (75 dB) has as much to say as an enlargement (25 dB), and so has a picture that it suits as one
    that it does not. w makes the gradients as large as the other half's for the priors of photographs. The idea of
    learning on the states that one's own answers lead to is that of DAgger (Ross, Gordon and Bagnell 2011); unlike
    unrolled networks (Zhang, Van Gool and Timofte 2020) no gradient passes from call to call, and the student stays a
    denoiser at every level.

    ValueError for a prior with classes or conditioned on a picture.
    """

    def __init__(
        self, student: Prior, teacher: Teacher, draw_sigma: DrawSigma, weight: Weight, practice: Practice
    ):
        if student.num_classes is not None or student.conditions:
            raise ValueError("the prior has classes or a condition; learn to restore with one that has none")
        super().__init__(student, teacher, draw_sigma, weight)
        self.practice = practice

    def forward(self, clean: Tensor, labels: Tensor | None, noise: Noise) -> Tensor:
        u = uniform(noise, len(clean), 7)
        sigma, n = self.draw_sigma(u[:, 0]), noise(clean)
        restored = u[:, 1] < SHARE
        losses = clean.new_zeros(len(clean))
        plain = (~restored).nonzero()[:, 0]
        if len(plain):
            losses[plain] = self._losses(clean[plain], None, None, sigma[plain], n[plain]).to(losses)
        for i in restored.nonzero()[:, 0].tolist():
            losses[i] = self._restored(clean[i : i + 1], u[i, 2:])
        return losses

    def _restored(self, clean: Tensor, u: Tensor) -> Tensor:
        """Operators in full precision whatever that of training is, the network in that of training."""
        noise, practice = SeededNoise([_number(u[3], SEEDS)]), self.practice
        with _full_precision(clean.device.type) as as_before:
            problem = practice.problem(clean, u, noise)

            def denoise(x: Tensor, sigma: Tensor) -> Tensor:
                with as_before():
                    return self.model(x, sigma).to(x)

            sigmas = practice.levels(problem.sigma_y, u[4]).to(problem.y)
            begun, x0 = practice.answer(denoise, problem, sigmas, _number(u[2], practice.calls), noise)
            left, was = ((x - clean).square().mean() + TINY for x in (x0, begun))
        return WEIGHT * (left / was).log()


def _number(u: Tensor, count: int) -> int:
    """0 to count - 1, for u in [0, 1]."""
    return min(int(float(u) * count), count - 1)


@contextmanager
def _full_precision(device: str) -> Iterator[Callable[[], Any]]:
    """Without autocast; yields the context that brings it back."""
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        yield lambda: torch.autocast(device, dtype=dtype, enabled=enabled)
