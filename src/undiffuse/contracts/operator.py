"""What must hold for every degradation. Call `check(operator)`, or the single checks; plugins may import this
too.

Tolerances are relative, for float64. A pseudo-inverse by conjugate gradient is as exact as its iteration: say
how exact.
"""

import copy

import torch
from torch import Tensor

from undiffuse.operators import LinearOperator, Operator, SVDOperator

EXACT = 1e-10  # float64 transforms of a few thousand pixels leave about 1e-14


def check(
    operator: Operator, *, tolerance: float = EXACT, solved: float | None = None, seed: int = 0
) -> None:
    """All that applies. `tolerance` is for the maps, `solved` (default the same) for pinv and ridge."""
    solved = tolerance if solved is None else solved
    before = copy.deepcopy(operator.state_dict())
    keeps_shapes(operator, seed)
    rows_are_independent(operator, seed, tolerance)
    if isinstance(operator, LinearOperator):
        is_linear(operator, seed, tolerance)
        adjoint_is_adjoint(operator, seed, tolerance)
        pinv_inverts(operator, seed, solved)
        ridge_minimises(operator, seed, solved)
    if isinstance(operator, SVDOperator):
        svd_is_orthonormal(operator, seed, tolerance)
        svd_is_the_operator(operator, seed, tolerance)
    works_in_float32(operator, seed)
    after = operator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "the operator changed"


def images(operator: Operator, seed: int, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *operator.in_shape, generator=generator, dtype=torch.float64)


def data(operator: Operator, seed: int, batch: int = 3) -> Tensor:
    """Any y, not only those in the range."""
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randn(batch, *operator.out_shape, generator=generator, dtype=torch.float64)


def close(a: Tensor, b: Tensor, tolerance: float, scale: Tensor | None = None) -> None:
    size = max(float(b.abs().max() if scale is None else scale.abs().max()), 1e-30)
    error = float((a - b).abs().max()) / size
    assert error <= tolerance, f"relative error {error:.2e} > {tolerance:.0e}"


def keeps_shapes(operator: Operator, seed: int) -> None:
    x = images(operator, seed)
    y = operator(x)
    assert y.shape == (len(x), *operator.out_shape) and y.dtype == x.dtype
    assert 0 < operator.measurements <= y[0].numel()
    if operator.support is not None:
        support = operator.support.expand(operator.out_shape)
        assert int(support.sum()) == operator.measurements
        assert not y[:, support == 0].any(), "an entry outside the support is not zero"


def rows_are_independent(operator: Operator, seed: int, tolerance: float) -> None:
    x = images(operator, seed)
    other = x.clone()
    other[1] = 5 * other[1].flip(-1)
    close(operator(other)[[0, 2]], operator(x)[[0, 2]], tolerance)
    close(operator(x[:1]), operator(x)[:1], tolerance)
    if isinstance(operator, LinearOperator):
        y = data(operator, seed)
        close(operator.pinv(y[:1]), operator.pinv(y)[:1], max(tolerance, 1e-8))


def is_linear(operator: LinearOperator, seed: int, tolerance: float) -> None:
    a, b = images(operator, seed), images(operator, seed + 7)
    close(operator(2 * a - 3 * b), 2 * operator(a) - 3 * operator(b), tolerance)


def adjoint_is_adjoint(operator: LinearOperator, seed: int, tolerance: float) -> None:
    x, y = images(operator, seed), data(operator, seed)
    ax, aty = operator(x), operator.adjoint(y)
    assert aty.shape == x.shape
    left, right = (ax * y).flatten(1).sum(1), (x * aty).flatten(1).sum(1)
    close(left, right, tolerance, scale=ax.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1))


def pinv_inverts(operator: LinearOperator, seed: int, tolerance: float) -> None:
    """A A+ A = A, and A+ y has no part in the null space."""
    y = operator(images(operator, seed))
    x = operator.pinv(y)
    close(operator(x), y, tolerance)
    if isinstance(operator, SVDOperator):
        c = operator.vt(x)
        close(torch.where(operator.seen, 0, c), torch.zeros_like(c), tolerance, scale=c)
    else:
        z = images(operator, seed + 3)
        null = z - operator.pinv(operator(z))
        close((x * null).flatten(1).sum(1), torch.zeros(len(x)), tolerance, scale=x.flatten(1).norm(dim=1))


def ridge_minimises(operator: LinearOperator, seed: int, tolerance: float) -> None:
    x, y = images(operator, seed), data(operator, seed)
    for lam in (0.3, torch.tensor([0.01, 0.3, 2.0], dtype=torch.float64).reshape(-1, 1, 1, 1)):
        z = operator.ridge(x, y, lam)
        gradient = operator.adjoint(operator(z) - y) + lam * (z - x)
        close(gradient, torch.zeros_like(x), tolerance, scale=operator.adjoint(y).abs() + x.abs())
    limit = operator.ridge(x, y, 0.0)
    close(limit, x + operator.pinv(y - operator(x)), tolerance, scale=limit)
    mixed = operator.ridge(x, y, torch.tensor([0.0, 0.3, 0.0], dtype=torch.float64).reshape(-1, 1, 1, 1))
    close(mixed[0], limit[0], tolerance, scale=limit)
    assert mixed.isfinite().all()


def svd_is_orthonormal(operator: SVDOperator, seed: int, tolerance: float) -> None:
    x = images(operator, seed)
    c = operator.vt(x)
    close(c.abs().flatten(1).norm(dim=1), x.flatten(1).norm(dim=1), tolerance)
    close(operator.v(c), x, tolerance)
    assert c.numel() == x.numel(), "a rectangular V^T is not orthonormal"
    assert torch.broadcast_shapes(operator.s.shape, c.shape[1:]) == c.shape[1:]
    assert (operator.s >= 0).all() and operator.s.dtype == torch.float64


def svd_is_the_operator(operator: SVDOperator, seed: int, tolerance: float) -> None:
    x, y = images(operator, seed), data(operator, seed)
    ax = operator(x)
    close(operator.u(operator.s * operator.vt(x)), ax, tolerance)
    close(operator.v(operator.s * operator.ut(y)), operator.adjoint(y), tolerance)
    close(operator.ut(ax), operator.s * operator.vt(x), tolerance)
    if not operator.explicit_zeros:
        null = (operator.s == 0).expand(operator.ut(y).shape[1:])
        assert not operator.ut(y)[:, null].any(), "ut is not zero where s == 0"
    c = torch.where(operator.s > 0, operator.vt(x), 0)
    close(operator.ut(operator.u(c)), c, tolerance, scale=x)


def works_in_float32(operator: Operator, seed: int) -> None:
    single = copy.deepcopy(operator).to(torch.float32)
    x = images(operator, seed)
    y = single(x.float())
    assert y.dtype == torch.float32
    close(y.double(), operator(x), 1e-4)  # sums over a few thousand pixels in float32
    if isinstance(single, LinearOperator):
        assert single.adjoint(y).dtype == torch.float32
        assert single.ridge(x.float(), y, 0.1).dtype == torch.float32
