"""What must hold for every degradation. Call `check(operator)`; `checks` yields one line a property.

Errors are relative, for float64, with random pictures. A pseudo-inverse by conjugate gradient is as exact as its
iteration: say how exact.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from undiffuse.operators import LinearOperator, Operator, SVDOperator

EXACT = 1e-10  # float64 transforms of a few thousand pixels leave about 1e-14
SINGLE = 1e-4  # of float32: sums over a few thousand pixels
ROUNDED = 1e-3  # of the whole, where what is not linear may round a few numbers the other way


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


def check(
    operator: Operator, *, tolerance: float = EXACT, solved: float | None = None, seed: int = 0
) -> None:
    """AssertionError for the first of `checks` that fails."""
    for one in checks(operator, tolerance=tolerance, solved=solved, seed=seed):
        assert one.passed, f"{one.name}: error {one.error:.2e} > {one.limit:.0e} ({one.meaning})"


def checks(
    operator: Operator, *, tolerance: float = EXACT, solved: float | None = None, seed: int = 0
) -> Iterator[Check]:
    """All that apply. `tolerance` is for the maps, `solved` (default the same) for pinv and ridge."""
    solved = tolerance if solved is None else solved
    before = copy.deepcopy(operator.state_dict())
    yield _shapes(operator, seed)
    yield _rows(operator, seed, tolerance)
    if isinstance(operator, LinearOperator):
        yield _linear(operator, seed, tolerance)
        yield _adjoint(operator, seed, tolerance)
        yield from _pinv(operator, seed, tolerance, solved)
        yield from _ridge(operator, seed, solved)
    if isinstance(operator, SVDOperator):
        yield from _orthonormal(operator, seed, tolerance)
        yield from _decomposition(operator, seed, tolerance)
    yield _single(operator, seed)
    after = operator.state_dict()
    kept = all(torch.equal(before[name], after[name]) for name in before)
    yield _true("unchanged", kept, "use leaves an operator as it was")


def images(operator: Operator, seed: int, batch: int = 3) -> Tensor:
    """Random x."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *operator.in_shape, generator=generator, dtype=torch.float64)


def data(operator: Operator, seed: int, batch: int = 3) -> Tensor:
    """Any y, not only those in the range."""
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randn(batch, *operator.out_shape, generator=generator, dtype=torch.float64)


def distance(a: Tensor, b: Tensor, scale: Tensor | None = None) -> float:
    """The largest difference, of the largest of b, or of `scale`."""
    size = max(float(b.abs().max() if scale is None else scale.abs().max()), 1e-30)
    return float((a - b).abs().max()) / size


def _true(name: str, holds: bool, meaning: str) -> Check:
    return Check(name, 0.0 if holds else 1.0, 0.0, meaning)


def _shapes(operator: Operator, seed: int) -> Check:
    x = images(operator, seed)
    y = operator(x)
    right = y.shape == (len(x), *operator.out_shape) and y.dtype == x.dtype
    right = right and 0 < operator.measurements <= y[0].numel()
    if right and operator.support is not None:
        support = operator.support.expand(operator.out_shape)
        right = int(support.sum()) == operator.measurements and not y[:, support == 0].any()
    return _true("shapes", right, "A x is (B, *out_shape), of x's dtype, 0 where nothing is measured")


def _rows(operator: Operator, seed: int, tolerance: float) -> Check:
    x = images(operator, seed)
    other = x.clone()
    other[1] = 5 * other[1].flip(-1)
    error = distance(operator(other)[[0, 2]], operator(x)[[0, 2]])
    error = max(error, distance(operator(x[:1]), operator(x)[:1]))
    if isinstance(operator, LinearOperator):
        y, tolerance = data(operator, seed), max(tolerance, 1e-8)
        error = max(error, distance(operator.pinv(y[:1]), operator.pinv(y)[:1]))
    return Check("batch", error, tolerance, "a picture's result does not depend on its neighbours")


def _linear(operator: LinearOperator, seed: int, tolerance: float) -> Check:
    a, b = images(operator, seed), images(operator, seed + 7)
    error = distance(operator(2 * a - 3 * b), 2 * operator(a) - 3 * operator(b))
    return Check("linear", error, tolerance, "A (2 a - 3 b) = 2 A a - 3 A b")


def _adjoint(operator: LinearOperator, seed: int, tolerance: float) -> Check:
    x, y = images(operator, seed), data(operator, seed)
    ax, aty = operator(x), operator.adjoint(y)
    if aty.shape != x.shape:
        return _true("adjoint", False, "A^T y is of the shape of x")
    left, right = (ax * y).flatten(1).sum(1), (x * aty).flatten(1).sum(1)
    error = distance(left, right, ax.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1))
    return Check("adjoint", error, tolerance, "<A x, y> = <x, A^T y>")


def _pinv(operator: LinearOperator, seed: int, tolerance: float, solved: float) -> Iterator[Check]:
    y = operator(images(operator, seed))
    x = operator.pinv(y)
    yield Check("pseudo-inverse", distance(operator(x), y), solved, "A A^+ A = A")
    if isinstance(operator, SVDOperator):
        c = operator.vt(x)
        error = distance(torch.where(operator.seen, 0, c), torch.zeros_like(c), c)
    else:
        z = images(operator, seed + 3)
        null = z - operator.pinv(operator(z))
        error = distance((x * null).flatten(1).sum(1), torch.zeros(len(x)), x.flatten(1).norm(dim=1))
    yield Check("least norm", error, solved, "A^+ y has no part in the null space")


def _ridge(operator: LinearOperator, seed: int, solved: float) -> Iterator[Check]:
    x, y = images(operator, seed), data(operator, seed)
    error = 0.0
    for lam in (0.3, torch.tensor([0.01, 0.3, 2.0], dtype=torch.float64).reshape(-1, 1, 1, 1)):
        z = operator.ridge(x, y, lam)
        gradient = operator.adjoint(operator(z) - y) + lam * (z - x)
        error = max(error, distance(gradient, torch.zeros_like(x), operator.adjoint(y).abs() + x.abs()))
    yield Check("ridge", error, solved, "its gradient vanishes at the solution")
    limit = operator.ridge(x, y, 0.0)
    error = distance(limit, x + operator.pinv(y - operator(x)), limit)
    mixed = operator.ridge(x, y, torch.tensor([0.0, 0.3, 0.0], dtype=torch.float64).reshape(-1, 1, 1, 1))
    error = max(error, distance(mixed[0], limit[0], limit)) if mixed.isfinite().all() else float("nan")
    yield Check("ridge at 0", error, solved, "lam = 0 is x + A^+ (y - A x), beside others too")


def _orthonormal(operator: SVDOperator, seed: int, tolerance: float) -> Iterator[Check]:
    x = images(operator, seed)
    c = operator.vt(x)
    norms = distance(c.abs().flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
    yield Check("V norm", norms, tolerance, "|V^T x| = |x|")
    yield Check("V inverse", distance(operator.v(c), x), tolerance, "V V^T = 1")
    fits = c.numel() == x.numel() and torch.broadcast_shapes(operator.s.shape, c.shape[1:]) == c.shape[1:]
    yield _true("s", fits and operator.s.dtype == torch.float64, "one float64 value for each of x's numbers")
    yield _true("s >= 0", bool((operator.s >= 0).all()), "singular values are not negative")


def _decomposition(operator: SVDOperator, seed: int, tolerance: float) -> Iterator[Check]:
    x, y = images(operator, seed), data(operator, seed)
    ax, uty = operator(x), operator.ut(y)
    yield Check("SVD", distance(operator.u(operator.s * operator.vt(x)), ax), tolerance, "U s V^T = A")
    error = distance(operator.v(operator.s * uty), operator.adjoint(y))
    yield Check("SVD adjoint", error, tolerance, "V s U^T = A^T")
    yield Check("U", distance(operator.ut(ax), operator.s * operator.vt(x)), tolerance, "U^T A = s V^T")
    if not operator.explicit_zeros:
        null = (operator.s == 0).expand(uty.shape[1:])
        yield _true("null space", not uty[:, null].any(), "U^T y = 0 where s = 0")
    c = torch.where(operator.s > 0, operator.vt(x), 0)
    yield Check("U inverse", distance(operator.ut(operator.u(c)), c, x), tolerance, "U^T U = 1 on the range")


def _single(operator: Operator, seed: int) -> Check:
    meaning = "the same in float32, to which .to() converts buffers only"
    x, single = images(operator, seed), copy.deepcopy(operator).to(torch.float32)
    try:
        y = single(x.float())
        found = [y]
        if isinstance(single, LinearOperator):
            found += [single.adjoint(y), single.ridge(x.float(), y, 0.1)]
    except RuntimeError as error:  # a tensor that is no buffer stays in float64
        return Check("float32", float("inf"), SINGLE, f"{meaning}: {' '.join(str(error).split())}")
    if any(one.dtype != torch.float32 for one in found):
        return _true("float32", False, meaning)
    exact = operator(x)
    if isinstance(operator, LinearOperator):
        return Check("float32", distance(y.double(), exact), SINGLE, meaning)
    error = float(
        (y.double() - exact).norm() / exact.norm()
    )  # a number that rounds the other way is no fault
    return Check("float32", error, ROUNDED, meaning)
