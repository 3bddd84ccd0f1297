"""A restoration followed from step to step: what the network answered, and what the data made of that."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from undiffuse.core.loop import sample
from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.operators.base import Operator

Make = Callable[
    [Denoise, Tensor, Noise], Step
]  # (denoise, y, noise) -> the algorithm's step for that measurement


@dataclass(frozen=True, slots=True)
class Move:
    """One step. Pictures (B, C, H, W) in [-1, 1].

    The estimate of a step is the last one's plus prior plus data, so that all moves add up to the result.
    """

    sigma: Tensor  # the level that the network was asked at: () or (B, 1, 1, 1)
    answer: Tensor  # x0 as the network has it
    estimate: Tensor  # x0 after the step
    prior: Tensor | None  # how far the network moved the estimate; None where there was none before
    data: Tensor  # how far the data moved it
    state: State  # that the step led to


def followed(
    make: Make, denoise: Denoise, A: Operator, y: Tensor, noise: Noise, x: Tensor, sigmas: Tensor, /
) -> Iterator[Move]:
    """A move for each level of sigmas (n + 1,). The path is that of the algorithm alone, to the bit.

    prior: the network's answer less the estimate before; data: the estimate less the answer. What an algorithm takes
    for its estimate is read off in one of three ways.

        it says so (State.x0 is not the network's answer): DiffPIR, DDNM, PiGDM, DAPS (a draw, with noise of its own)
        it fits the data first, and asks the network about that: DPIR. data: the fit less the answer before,
            prior: the answer less the fit
        it only says its next x (DDRM, DPS, ILVR): data is how that differs from the x that the same step, with the same
            noise, makes of data that agree with the network, y = A(answer)

    In the last case the step is made twice, without a further call of the network unless the step takes a gradient.
    ValueError for an algorithm that does not ask the network.
    """
    told, tape = _Told(denoise), _Tape(noise)
    step = make(told, y, tape)
    found: list[Move] = []
    before: Tensor | None = None

    def recorded(state: State, sigma_next: Tensor) -> State:
        told.asked.clear()
        tape.drawn.clear()
        after = step(state, sigma_next)
        if not told.asked:
            raise ValueError(
                "the algorithm does not ask the prior for an estimate: there are no moves to follow"
            )
        found.append(_move(make, told, tape, A, state, after, before))
        return after

    for _ in sample(recorded, x, sigmas):
        if found:
            move = found.pop()
            before = move.estimate
            yield move


def _move(
    make: Make, told: "_Told", tape: "_Tape", A: Operator, state: State, after: State, before: Tensor | None
) -> Move:
    first, answer = told.asked[0][0], told.asked[-1][1]
    stated = after.x0 if after.x0 is not None else answer
    if not torch.equal(first, state.x):
        before = state.x if before is None else before
        data = first - before + (stated - answer)
        return Move(state.sigma, answer, stated, answer - first, data, after)
    if torch.equal(stated, answer):
        neutral = make(told.again(), A(answer), tape.again())(state, after.sigma)
        stated = answer + (after.x - neutral.x)
    prior = None if before is None else answer - before
    return Move(state.sigma, answer, stated, prior, stated - answer, after)


class _Told:
    """A denoiser that remembers the questions of a step, and its answers."""

    def __init__(self, denoise: Denoise):
        self.denoise = denoise
        self.asked: list[tuple[Tensor, Tensor]] = []

    def __getattr__(self, name: str) -> Any:
        """What else a closed form can do."""
        return getattr(self.denoise, name)

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor:
        """The denoiser's answer."""
        answer = self.denoise(x, sigma)
        self.asked.append((x.detach(), answer.detach()))
        return answer

    def again(self) -> Denoise:
        """The same answers to the same questions; others, and those that need a gradient, go to the denoiser."""
        known = list(self.asked)

        def remember(x: Tensor, sigma: Tensor, /) -> Tensor:
            if not x.requires_grad and known and torch.equal(x, known[0][0]):
                return known.pop(0)[1]
            return self.denoise(x, sigma)

        return remember


class _Tape:
    """Noise that remembers the draws of a step."""

    def __init__(self, noise: Noise):
        self.noise = noise
        self.drawn: list[Tensor] = []

    def __call__(self, like: Tensor, /) -> Tensor:
        """A draw."""
        self.drawn.append(self.noise(like))
        return self.drawn[-1]

    def again(self) -> Noise:
        """The same draws in the same order."""
        draws = iter(list(self.drawn))
        return lambda like: next(draws)
