"""The one loop. Recording, progress, previews and early stopping are consumers of its iterator."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from undiffuse.core.state import Noise, State, Step, like_image


def sample(step: Step, x: Tensor, sigmas: Tensor) -> Iterator[State]:
    """The start at sigmas[0], then one state for each further level.

    sigmas: (n + 1,), or (n + 1, B, 1, 1, 1) for a batch whose images run on grids of their own; a shorter grid
    is filled up with zeros, and an image that has reached 0 keeps its x and x0. Gradients are off inside a
    step and as the caller has them outside: a consumer's code runs in its own mode. A step that needs a
    gradient opens `torch.enable_grad()` itself.
    """
    state = State(x, like_image(sigmas[0], x))
    yield state
    for level in sigmas[1:]:
        sigma_next = like_image(level, x)
        with torch.no_grad():
            state = _kept(state, step(state, sigma_next)) if sigma_next.ndim else step(state, sigma_next)
        yield state


def _kept(before: State, after: State) -> State:
    """`after`, but for images that were at 0 and are to stay there: no step knows what to do with them."""
    ended = (before.sigma == 0) & (after.sigma == 0)
    x = torch.where(ended, before.x, after.x)
    x0 = after.x0 if before.x0 is None or after.x0 is None else torch.where(ended, before.x0, after.x0)
    return State(x, after.sigma, x0, after.memory)


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
