"""`undiffuse check operator`: is a degradation what it says? In float64, with random pictures."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.app.measurement import parse_size
from undiffuse.core.noise import SeededNoise
from undiffuse.operators.base import LinearOperator, Operator, SVDOperator
from undiffuse.operators.build import build, parse
from undiffuse.registry import OPERATORS

EXACT = 1e-10  # relative, float64: some thousand roundings
SOLVED = 1e-6  # by conjugate gradient, which stops at 2e-14 of the squared system's right-hand side


@dataclass(frozen=True, slots=True)
class Check:
    """One property: its error, and the limit it must stay under (None: a fact, not a test)."""

    name: str
    error: float
    limit: float | None
    meaning: str

    @property
    def passed(self) -> bool:
        """A NaN does not pass."""
        return self.limit is None or self.error <= self.limit


def check_operator(degrade: str, size: str) -> list[Check]:
    """All checks that apply. ValueError if there is no such degradation or it cannot take this size."""
    shape = parse_size(size, channels=3)
    A = build(degrade, shape)
    noise = SeededNoise([0, 1])
    x = noise(torch.empty(2, *shape, dtype=torch.float64))
    found = list(_facts(A, x))
    if isinstance(A, LinearOperator):
        found += _linear(A, x, noise(A(x)))
    if isinstance(A, SVDOperator):
        found += _decomposition(A, x, noise(A(x)))
    return found + list(_direct(degrade, A, x))


def _facts(A: Operator, x: Tensor) -> Iterator[Check]:
    flat = A(torch.ones_like(x[:1]))
    measured = flat if A.support is None else flat[A.support.expand_as(flat) > 0]
    yield Check("gain", measured.mean().item(), None, "mean of A(1): 1 = brightness is kept")
    if isinstance(A, SVDOperator):
        yield Check(
            "norm", A.s.max().item(), None, "largest singular value: how much noise-free contrast survives"
        )
        worst = A.s[A.s > 0].min().item() if (A.s > 0).any() else 0.0
        yield Check("worst", worst, None, "smallest non-zero one: A^+ amplifies noise by its inverse")
    yield Check("measured", A.measurements / x[0].numel(), None, "numbers measured for each unknown")


def _linear(A: LinearOperator, x: Tensor, y: Tensor) -> Iterator[Check]:
    Ax = A(x)
    exact = EXACT if isinstance(A, SVDOperator) else SOLVED
    gap = ((Ax * y).sum() - (x * A.adjoint(y)).sum()).abs() / (Ax.norm() * y.norm())
    yield Check("adjoint", gap.item(), EXACT, "<A x, y> = <x, A^T y>")
    yield Check("pseudo-inverse", _distance(A(A.pinv(Ax)), Ax), exact, "A A^+ A = A")
    lam = 0.1
    z = A.ridge(x, y, lam)
    gradient = A.adjoint(A(z) - y) + lam * (z - x)
    yield Check(
        "ridge",
        (gradient.norm() / A.adjoint(y).norm()).item(),
        exact,
        "its gradient vanishes at the solution",
    )


def _decomposition(A: SVDOperator, x: Tensor, y: Tensor) -> Iterator[Check]:
    c, uty = A.vt(x), A.ut(y)
    yield Check("V norm", abs(c.norm().item() / x.norm().item() - 1), EXACT, "|V^T x| = |x|")
    yield Check("V inverse", _distance(A.v(c), x), EXACT, "V V^T = 1")
    yield Check("SVD", _distance(A.u(A.s * c), A(x)), EXACT, "U s V^T = A")
    yield Check("U inverse", _distance(A.ut(A.u(uty)), uty), EXACT, "U^T U = 1 on the range")
    unseen = torch.where(A.s == 0, uty, 0).abs().max().item()
    yield Check("null space", unseen, EXACT, "U^T y = 0 where s = 0")
    yield Check("s >= 0", -min(0.0, A.s.min().item()), 0.0, "singular values are not negative")


def _direct(degrade: str, A: Operator, x: Tensor) -> Iterator[Check]:
    """Against a plain form that shares no code with the fast one, where the degradation registers one."""
    terms = parse(degrade)
    if len(terms) == 1 and "direct" in OPERATORS[terms[0].name].facts:
        plain = OPERATORS[terms[0].name].facts["direct"](x, **terms[0].options)
        yield Check("direct", _distance(A(x), plain), EXACT, "equals the plain sum over pixels")


def _distance(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm().clamp(min=torch.finfo(b.dtype).tiny)).item()


def table(checks: list[Check]) -> str:
    """As text, one line a check."""
    lines = [f"{'check':<16}{'value':>12}{'limit':>10}  {'':<6}meaning"]
    for check in checks:
        limit = "" if check.limit is None else f"{check.limit:.0e}"
        verdict = "" if check.limit is None else "ok" if check.passed else "FAILED"
        lines.append(f"{check.name:<16}{check.error:>12.3g}{limit:>10}  {verdict:<6}  {check.meaning}")
    return "\n".join(lines)
