"""What is kept of a restoration that is followed: numbers by step and band of singular values, and a few pictures."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from undiffuse.analysis.bands import Split, compared, deviation, residual
from undiffuse.analysis.moves import Move
from undiffuse.core.devices import wide
from undiffuse.operators.base import Operator

ROUNDINGS = 64  # of x: moves are differences of such, and transforms add a few roundings of their own


@dataclass(slots=True)
class Trace:
    """All steps of all draws that were kept."""

    A: Operator
    by: Split
    sigmas: list[float]  # that the network was asked at, [-1, 1] units
    sums: dict[str, Tensor] = field(default_factory=dict)  # (steps, K): over draws, of what is not nan
    counts: dict[str, Tensor] = field(default_factory=dict)
    ratio: Tensor | None = (
        None  # (steps, 2): |y - A x|^2 / (m sigma_y^2) of answer and estimate, summed over draws
    )
    pictures: dict[int, tuple[Tensor, Tensor, Tensor | None, Tensor]] = field(default_factory=dict)
    draws: list[Tensor] = field(default_factory=list)

    def keep(self, step: int, move: Move, y: Tensor, sigma_y: float, reference: Tensor | None) -> None:
        """The numbers of one step of some draws. reference: (1, C, H, W) if there is one."""
        rounding = ROUNDINGS * torch.finfo(move.data.dtype).eps * max(1.0, self.sigmas[step])
        parts = compared(self.by, move.prior, move.data, floor=rounding)
        self._add(step, "prior", parts.prior.square())
        self._add(step, "data", parts.data.square())
        self._add(step, "cosine", parts.cosine)
        self._add(step, "share", parts.share)
        sizes = {"before": move.answer, "after": move.estimate}
        for name, x in sizes.items():
            left = residual(self.by, x, y, sigma_y)
            self._add(step, name, left if sigma_y > 0 else left.square())
            if reference is not None:
                self._add(step, f"error_{name}", deviation(self.by, x, reference).square())
        if self.ratio is None:
            self.ratio = torch.zeros(len(self.sigmas), 2, dtype=torch.float64)
        for column, x in enumerate(sizes.values()):
            left = wide(y - self.A(x)).square().sum()
            self.ratio[step, column] += left.item() / (self.A.measurements * (sigma_y or 1) ** 2)

    def _add(self, step: int, name: str, values: Tensor) -> None:
        """values (B, K) of one step; squares of what is a root mean square."""
        rows, known = len(self.sigmas), values.isfinite()
        for table, new in ((self.sums, values.nan_to_num(0, 0, 0)), (self.counts, wide(known))):
            table.setdefault(name, torch.zeros(rows, values.shape[1], dtype=torch.float64))[step] += new.sum(
                0
            ).cpu()

    def show(self, step: int, move: Move) -> None:
        """The pictures of the first draw of a step: answer, estimate, and both moves."""
        prior = None if move.prior is None else move.prior[0].float().cpu()
        answer, estimate, data = (x[0].float().cpu() for x in (move.answer, move.estimate, move.data))
        self.pictures[step] = answer, estimate, prior, data

    def mean(self, name: str) -> Tensor:
        """(steps, K): nan where there was nothing."""
        return self.sums[name] / self.counts[name]

    def size(self, name: str) -> Tensor:
        """(steps, K): root mean square over the draws, white - black = 1."""
        return self.mean(name).sqrt() / 2
