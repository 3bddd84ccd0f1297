"""The data step of methods that take turns: from the prior's estimate to the mean of what the data leaves of it."""

from typing import Protocol

from torch import Tensor

from undiffuse.operators.base import Separable
from undiffuse.operators.proximal import Fit, proximal
from undiffuse.restore.problem import Problem, linear

LEFT = 0.03  # of the answer's own deviations: the error that a search may leave
TURNS = (1.0, 1.9, 1.9, 1.9, 1.9, 1.0)  # of projecting, how far each goes: better than twelve plain ones


class DataStep(Protocol):
    """For one measurement. x: (B, C, H, W); variance > 0, () or (B, 1, 1, 1): of the error of x, taken for white."""

    def __call__(self, x: Tensor, variance: Tensor, /) -> Tensor:
        """argmin_z |y - A z|^2 / sigma_y^2 + |z - x|^2 / variance, the mean of a Gaussian around x, given y."""
        ...

    def near(self, x: Tensor, variance: Tensor, before: Fit | None = None, /) -> Fit:
        """The same up to 0.03 of its deviations, if it has to be searched for; the search goes on from `before`."""
        ...

    def kept(self, x: Tensor, /) -> Tensor:
        """The picture next to x that what is free of noise in the data allows."""
        ...


def data_step(problem: Problem, algorithm: str) -> DataStep:
    """ValueError for a degradation that is neither linear nor separable."""
    return _Separable(problem) if isinstance(problem.A, Separable) else _Linear(problem, algorithm)


class _Linear:
    """In closed form with an SVD, by conjugate gradient without. Without noise it is the projection on the data."""

    def __init__(self, problem: Problem, algorithm: str):
        self.fit, self.sigma_y = proximal(linear(problem, algorithm), problem.y), problem.sigma_y

    def __call__(self, x: Tensor, variance: Tensor, /) -> Tensor:
        return self.fit(x, self.sigma_y**2 / variance)

    def near(self, x: Tensor, variance: Tensor, before: Fit | None = None, /) -> Fit:
        if self.sigma_y == 0:
            return Fit(self.fit(x, 0.0))
        return self.fit.near(x, self.sigma_y**2 / variance, x.new_tensor(LEFT * self.sigma_y), before)

    def kept(self, x: Tensor, /) -> Tensor:
        return self.fit(x, 0.0) if self.sigma_y == 0 else x


class _Separable:
    """Number by number."""

    def __init__(self, problem: Problem):
        assert isinstance(problem.A, Separable)
        self.A, self.told, self.sigma_y = problem.A, problem.A.read(problem.y), problem.sigma_y

    def __call__(self, x: Tensor, variance: Tensor, /) -> Tensor:
        return self.A.estimate(x, self.told, variance, self.sigma_y)

    def near(self, x: Tensor, variance: Tensor, before: Fit | None = None, /) -> Fit:
        return Fit(self(x, variance))

    def kept(self, x: Tensor, /) -> Tensor:
        """A picture is in [-1, 1], too: projections on both in turn (Bregman 1965).

        Those on the data between the first and the last go on beyond it, nearly twice as far (Gubin, Polyak and Raik
        1967): saturated colours leave both sets at an angle so small that plain turns hardly come closer. What the
        first turn settles the others do not move.
        """
        for far in TURNS:
            x = x.clamp(-1, 1)
            x = x.lerp(self.A.nearest(x, self.told, self.sigma_y), far)
        return x
