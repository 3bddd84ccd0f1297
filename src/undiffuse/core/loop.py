"""The one loop. Recording, progress, previews and early stopping are consumers of its iterator."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from undiffuse.core.state import Noise, State, Step, like_image


def sample(step: Step, x: Tensor, sigmas: Tensor) -> Iterator[State]:
    """The start at sigmas[0], then one state for each further level.

    sigmas: (n + 1,), or (n + 1, B, 1, 1, 1) for a batch whose images run on grids of their own. Gradients are
    off inside a step and as the caller has them outside: a consumer's code runs in its own mode. A step that
    needs a gradient opens `torch.enable_grad()` itself.
    """
    state = State(x, like_image(sigmas[0], x))
    yield state
    for sigma_next in sigmas[1:]:
        with torch.no_grad():
            state = step(state, like_image(sigma_next, x))
        yield state


def last(states: Iterable[State]) -> State:
    """The final state, holding no other in memory."""
    final = None
    for state in states:
        final = state
    if final is None:
        raise ValueError("no states: the iterator was already used up")
    return final


def time_travel(step: Step, noise: Noise) -> Step:
    """Let a grid climb: where sigma_next > sigma, add the missing noise instead of stepping.

    RePaint (Lugmayr et al. 2022, algorithm 1, line 10) and DDNM's time travel, for any step. In a batch whose
    images run on different grids all must climb or descend together: ValueError otherwise.
    """

    def travel(state: State, sigma_next: Tensor) -> State:
        up = sigma_next > state.sigma
        if not up.any():
            return step(state, sigma_next)
        if not up.all():
            raise ValueError(
                "some images climb and some descend in this step; give them grids that turn together"
            )
        x = state.x + (sigma_next**2 - state.sigma**2).sqrt() * noise(state.x)
        return State(x, sigma_next, state.x0)  # the memory belongs to a path that was left

    return travel
