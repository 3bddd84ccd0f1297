"""Fits that are searched for: how near they are, and what they start from, against dense linear algebra."""

import pytest
import torch

from undiffuse.contracts.restorer import matrix
from undiffuse.operators import Convolution, build, proximal

SHAPE = (1, 18, 22)
SKEW = "blur:motion,taps=7,angle=30"
ROUND = "blur:disk,taps=5,boundary=zero"
CASES = [
    SKEW,
    ROUND,
    "blur:motion,taps=7,angle=30,boundary=zero",
    "sr2 . blur:motion,taps=7,angle=30",
    "cs4 . deblur_uni",
]


def posed(name, lam, seed=0):
    """Operator, y, x, the solution by LAPACK and M = A^T A + lam."""
    A = build(name, SHAPE)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=generator)
    y = A(torch.randn(2, *SHAPE, dtype=torch.float64, generator=generator))
    dense = matrix(A)
    M = dense.T @ dense + lam * torch.eye(dense.shape[1], dtype=torch.float64)
    z = torch.linalg.solve(M, (y.flatten(1) @ dense + lam * x.flatten(1)).T).T
    return A, y, x, z.reshape(x.shape), M


def error(z, exact, M):
    """sqrt((|A e|^2 + lam |e|^2) / n) of each image."""
    e = (z - exact).flatten(1)
    return ((e @ M * e).sum(1) / e.shape[1]).sqrt()


@pytest.mark.parametrize("lam", [3e-4, 0.05])
@pytest.mark.parametrize("name", CASES)
def test_a_search_ends_within_the_error_that_it_was_given(name, lam):
    """The preconditioned residual stands for the error: to a factor of 4, most in pictures that are all edge."""
    A, y, x, exact, M = posed(name, lam)
    bound = torch.tensor([0.02, 0.0005], dtype=torch.float64).reshape(2, 1, 1, 1)
    found = error(proximal(A, y).near(x, lam, bound).z, exact, M) / bound.flatten()
    assert (found < 4).all()
    assert (found > 0.1).all() or name == ROUND, "searched much further than asked"


@pytest.mark.parametrize("name", CASES)
def test_a_search_goes_on_from_the_one_before(name):
    """For another x and lam, from the solution and the residual kept with it."""
    A, y, _, _, _ = posed(name, 0.05)
    fit, bound = proximal(A, y), torch.tensor(1e-6, dtype=torch.float64)
    before = fit.near(y.new_zeros(2, *SHAPE), 0.05, bound)
    torch.testing.assert_close(before.pull, A.adjoint(y - A(before.z)), rtol=0, atol=1e-10)
    _, _, x, exact, M = posed(name, 0.01)
    assert (error(fit.near(x, 0.01, bound, before).z, exact, M) < 4e-6).all()
    torch.testing.assert_close(fit(x, 0.01), exact, rtol=0, atol=1e-8)
    second = fit.near(x, 0.01, bound, before)
    torch.testing.assert_close(second.moved, second.z - before.z, rtol=0, atol=0)
    torch.testing.assert_close(second.normal, A.adjoint(A(second.moved)), rtol=0, atol=1e-10)
    _, _, x, exact, M = posed(name, 0.003)
    assert (error(fit.near(x, 0.003, bound, second).z, exact, M) < 4e-6).all()


def test_solutions_on_a_line_are_found_without_a_product(monkeypatch):
    """x moves on as before, and so does z, which is linear in it."""
    A, y, x, *_ = posed(SKEW, 0.05)
    fit, bound, zero = proximal(A, y), torch.tensor(1e-9, dtype=torch.float64), torch.zeros_like(x)
    second = fit.near(x, 0.05, bound, fit.near(zero, 0.05, bound))
    expected = fit.near(3 * x, 0.05, bound).z
    monkeypatch.setattr(Convolution, "forward", None)
    monkeypatch.setattr(Convolution, "normal", None)
    found = fit.near(3 * x, 0.05, torch.tensor(1e-6, dtype=torch.float64), second).z
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", [SKEW, ROUND])
def test_the_preconditioner_is_symmetric_and_positive(name):
    A, lam = build(name, SHAPE), torch.tensor(1e-3, dtype=torch.float64)
    basis = torch.eye(18 * 22, dtype=torch.float64).reshape(-1, *SHAPE)
    P = A.preconditioner()(lam)(basis).flatten(1)
    torch.testing.assert_close(P, P.T, rtol=0, atol=1e-8)
    assert torch.linalg.eigvalsh(P).min() > 0


def test_the_preconditioner_saves_most_of_the_work(monkeypatch):
    """A long streak, weak prior: a division by lam for P needs more than three times as many products with A."""
    A, y, x, *_ = posed("blur:motion,taps=7,angle=30", 1e-3)
    calls, normal = [0], Convolution.normal

    def counted(self, image):
        calls[0] += 1
        return normal(self, image)

    monkeypatch.setattr(Convolution, "normal", counted)
    bound = torch.tensor(0.003, dtype=torch.float64)
    proximal(A, y).near(x, 1e-3, bound)
    fast, calls[0] = calls[0], 0
    monkeypatch.setattr(Convolution, "preconditioner", lambda self: lambda lam: lambda r: r / lam)
    proximal(A, y).near(x, 1e-3, bound)
    assert calls[0] > 3 * fast, (calls[0], fast)
