"""Clipping and gamma against their formulas."""

import pytest
import torch

from undiffuse.operators import LinearOperator
from undiffuse.registry import OPERATORS


def test_clip():
    x = torch.tensor([-0.9, -0.2, 0.0, 0.4, 0.6])[None, None, None]
    assert OPERATORS["clip"]((1, 1, 5))(x).flatten().tolist() == pytest.approx([-1, -0.4, 0, 0.8, 1])


@pytest.mark.parametrize("gamma", [0.45, 1.0, 2.2])
def test_gamma(gamma):
    operator = OPERATORS["gamma"]((1, 1, 101), gamma=gamma)
    assert not isinstance(operator, LinearOperator)
    v = torch.linspace(0, 1, 101, dtype=torch.float64)[None, None, None]
    torch.testing.assert_close(operator(2 * v - 1), 2 * v**gamma - 1, rtol=0, atol=1e-12)
    x = torch.tensor([-1.5, -1.0, -1 + 1e-3, 0.0, 1.2], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(operator.forward(x[None, None, None]).sum(), x)
    assert slope.isfinite().all() and (slope > 0).all()
