"""DPIR without an SVD: what the searches of its data steps leave undone does not show in the answer."""

import pytest
import torch

from undiffuse.contracts.restorer import run
from undiffuse.core.noise import SeededNoise
from undiffuse.operators import Convolution, build
from undiffuse.operators.proximal import Fit, Searched
from undiffuse.priors import photo_gaussian
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure

SHAPE, ENTRY = (1, 36, 32), RESTORERS["dpir"]


def posed(name, sigma_y):
    prior, A, noise = photo_gaussian(), build(name, SHAPE), SeededNoise([3])
    truth = prior.sample(noise, torch.empty(1, *SHAPE, dtype=torch.float64))
    return prior, Problem(A, measure(A, truth, sigma_y, noise), sigma_y), truth


def counted(monkeypatch):
    """Counts products with A^T A."""
    calls, normal = [0], Convolution.normal

    def count(self, image):
        calls[0] += 1
        return normal(self, image)

    monkeypatch.setattr(Convolution, "normal", count)
    return calls


@pytest.mark.parametrize("sigma_y", [0.02, 0.1, 0.4])
@pytest.mark.parametrize(
    "name", ["blur:motion,taps=9,angle=30", "blur:motion,taps=15,angle=70,boundary=zero"]
)
def test_the_answer_is_that_of_exact_data_steps(name, sigma_y, monkeypatch):
    """The Gaussian of photographs: nearer to it than a quarter of its own error, with a tenth of the work."""
    prior, problem, truth = posed(name, sigma_y)
    calls = counted(monkeypatch)
    found, used = run(ENTRY, prior, problem, [0]), calls[0]
    monkeypatch.setattr(Searched, "near", lambda self, x, lam, error, before=None: Fit(self(x, lam)))
    exact, needed = run(ENTRY, prior, problem, [0]), calls[0] - used
    off = (found - exact).square().mean().sqrt() / (exact - truth).square().mean().sqrt()
    assert off < 0.25
    assert used < needed / 10


def test_no_noise_no_slack(monkeypatch):
    """Then every data step is exact, and the last projection is made once only."""
    prior, problem, _ = posed("blur:motion,taps=9,angle=30", 0.0)

    def never(*_):
        raise AssertionError("searched with slack")

    monkeypatch.setattr(Searched, "near", never)
    projections, ridge = [0], Convolution.ridge

    def count(self, x, y, lam):
        projections[0] += 1
        return ridge(self, x, y, lam)

    monkeypatch.setattr(Convolution, "ridge", count)
    x = run(ENTRY, prior, problem, [0], steps=3)
    assert projections[0] == 5  # start, three steps, the end
    torch.testing.assert_close(
        problem.A(x), problem.y, rtol=0, atol=1e-4
    )  # the streak has small singular values
