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


def grid_mean(x, deviation, likelihood):
    """The mean of N(x, deviation^2) times a likelihood, on [-1, 1], by a sum."""
    at = torch.linspace(-1, 1, 40001, dtype=torch.float64)
    weight = torch.exp(-((at - x) ** 2) / 2 / deviation**2) * likelihood(at)
    return ((weight * at).sum() / weight.sum()).item()


@pytest.mark.parametrize("deviation", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("x", [-0.9, 0.2, 0.8])
def test_what_saturation_leaves_open(x, deviation):
    """Saturated: the part of the prior's Gaussian from the limit to white or black. Else the data."""
    A = OPERATORS["clip"]((1, 1, 3), gain=2)
    y = torch.tensor([1.0, -1.0, 0.4], dtype=torch.float64)[None, None, None]
    images = torch.full((1, 1, 1, 3), x, dtype=torch.float64)
    found = A.estimate(images, A.read(y), torch.tensor(deviation**2), 0.0).flatten().tolist()
    assert found[0] == pytest.approx(grid_mean(x, deviation, lambda at: at >= 0.5), abs=1e-4)
    assert found[1] == pytest.approx(grid_mean(x, deviation, lambda at: at <= -0.5), abs=1e-4)
    assert found[2] == pytest.approx(0.2)
    assert torch.equal(A(A.nearest(images, y)), y) and torch.equal(A(A.guess(y)), y)
    assert A.nearest(images, y).flatten().tolist()[:2] == [max(x, 0.5), min(x, -0.5)]


def test_gamma_is_inverted():
    """Exactly without noise; with noise as far as its slope lets the data tell (0.02 of a step: a sum's own error)."""
    A = OPERATORS["gamma"]((1, 1, 4), gamma=2.2)
    x = torch.tensor([-0.9999, -0.9, 0.0, 0.9], dtype=torch.float64)[None, None, None]
    assert torch.allclose(A.guess(A(x)), x, atol=1e-12)
    y, other = A(x), torch.zeros_like(x)
    assert torch.allclose(A.estimate(other, y, torch.tensor(0.1), 0.0), x, atol=1e-12)
    found = A.estimate(other, y, torch.tensor(0.01), 0.02)
    true = grid_mean(0.0, 0.1, lambda at: torch.exp(-((A.forward(at) - y[..., 2]) ** 2) / 2 / 0.02**2))
    assert found[..., 2].item() == pytest.approx(true, abs=2e-3)
    assert torch.equal(A.nearest(other, y, 0.02), other)


@pytest.mark.parametrize(("y", "sigma_y"), [(-1.0, 0.00226), (-1.0, 0.02), (-1.05, 0.02), (-0.9, 0.02)])
def test_black_is_told_by_a_gamma(y, sigma_y):
    """Against the posterior mean by a sum: 0.7 of the prior's deviation, where the curve has no one slope."""
    A = OPERATORS["gamma"]((1, 1, 1), gamma=2.2)
    data = torch.full((1, 1, 1, 1), y, dtype=torch.float64)
    found = A.estimate(torch.zeros_like(data), data, torch.tensor(0.25**2), sigma_y).item()
    true = grid_mean(0.0, 0.25, lambda at: torch.exp(-((A.forward(at) - y) ** 2) / 2 / sigma_y**2))
    assert found == pytest.approx(true, abs=0.7 * 0.25)
    assert A.guess(torch.tensor([-1.3, 1.3], dtype=torch.float64)).tolist() == [-1, 1]
