"""What samplers draw: moments of a mixture, the exact flow of a Gaussian, options."""

import pytest
import torch

from undiffuse.core.grids import karras, with_jumps
from undiffuse.core.loop import last, sample, time_travel
from undiffuse.core.noise import SeededNoise
from undiffuse.priors import Gaussian, GaussianMixture, Prediction
from undiffuse.samplers import ancestral, churn, ddim, dpmpp_2m, dpmpp_3m, euler, heun

MIXTURE = GaussianMixture(
    torch.tensor([-0.6, 0.5], dtype=torch.float64).reshape(2, 1, 1, 1),
    torch.tensor([0.01, 0.04], dtype=torch.float64),
    torch.tensor([0.3, 0.7], dtype=torch.float64),
)
DRAWS = 20000


def draw(make, steps):
    generator = torch.Generator().manual_seed(0)

    def noise(like):
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    start = 80 * noise(torch.zeros(DRAWS, 1, 1, 1, dtype=torch.float64))
    return last(sample(make(MIXTURE, noise), start, karras(steps))).x.flatten()


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (euler, 200),
        (ddim, 200),
        (lambda d, n: ddim(d, n, eta=1.0), 200),
        (ancestral, 200),
        (heun, 60),
        (dpmpp_2m, 100),
        (dpmpp_3m, 100),
        (lambda d, n: churn(d, n, steps=100, s_churn=20, s_noise=1), 100),
    ],
)
def test_mixture(make, steps):
    """Floors of 20000 draws: weight 0.0032, means 0.0013 and 0.0017, variances 1.8 % and 1.2 %.

    The bounds are three to four floors, and 5 % of the variance for the steps' own error.
    """
    x = draw(make, steps)
    upper = x > -0.2  # 4 deviations of the lower component, 3.5 of the upper
    assert upper.double().mean().item() == pytest.approx(0.7, abs=0.012)
    assert x[~upper].mean().item() == pytest.approx(-0.6, abs=0.008)
    assert x[upper].mean().item() == pytest.approx(0.5, abs=0.008)
    assert x[~upper].var().item() == pytest.approx(0.01, rel=0.1)
    assert x[upper].var().item() == pytest.approx(0.04, rel=0.08)


@pytest.mark.parametrize(
    ("make", "order", "bound"), [(dpmpp_2m, 2, 1e-3), (dpmpp_3m, 3, 1e-4), (heun, 2, 1e-3)]
)
def test_whole_path_of_a_gaussian(make, order, bound):
    """From 80 to 0: x(0) - m = sqrt(v / (v + 80^2)) (x - m).

    100 steps are right to about 1/10 of a grey level (3M: 1/100), 200 to the order's share of that. The
    order is seen to 0.5 only: the first steps of 3M are of lower order, and count for more from 80 on.
    """
    mean, variance = 0.4, 0.25
    x = 80 * SeededNoise([0])(torch.zeros(1, 3, 8, 8, dtype=torch.float64))
    exact = mean + (variance / (variance + 80.0**2)) ** 0.5 * (x - mean)
    errors = [
        (last(sample(make(Gaussian(mean, variance), SeededNoise([0])), x, karras(n))).x - exact)
        .square()
        .mean()
        .sqrt()
        .item()
        for n in (100, 200)
    ]
    assert errors[0] < bound
    assert errors[0] / errors[1] > 2 ** (order - 0.5)


def test_multistep_on_uneven_steps():
    """Alternating long and short steps cost accuracy, but no order."""
    mean, variance = 0.4, 0.25
    x = torch.full((1, 1, 1, 1), 9.0, dtype=torch.float64)
    exact = mean + ((variance + 0.1**2) / (variance + 10.0**2)) ** 0.5 * (x - mean)
    for make, order in ((dpmpp_2m, 2), (dpmpp_3m, 3)):
        errors = []
        for n in (64, 128, 256):
            pace = torch.tensor([1.0, 3.0], dtype=torch.float64).repeat(n // 2)
            fraction = torch.cat([pace.new_zeros(1), pace.cumsum(0) / pace.sum()])
            sigmas = 10 * 0.01**fraction
            found = last(sample(make(Gaussian(mean, variance), SeededNoise([0])), x, sigmas)).x
            errors.append((found - exact).abs().item())
        assert errors[0] / errors[1] > 2 ** (order - 0.25) and errors[1] / errors[2] > 2 ** (order - 0.25)


def test_ancestral_small_is_ddim_with_eta_one():
    x = 10 * SeededNoise([5])(torch.zeros(1, 1, 8, 8, dtype=torch.float64))
    a = last(sample(ancestral(MIXTURE, SeededNoise([1])), x, karras(10, sigma_max=10.0))).x
    b = last(sample(ddim(MIXTURE, SeededNoise([1]), eta=1.0), x, karras(10, sigma_max=10.0))).x
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("raw", "variance"), [(-1.0, "small"), (1.0, "large")])
def test_learned_variance_at_its_ends(raw, variance):
    class Learned:
        def __call__(self, x, sigma, /):
            return MIXTURE(x, sigma)

        def predict(self, x, sigma, /):
            return Prediction(MIXTURE(x, sigma), torch.full_like(x, raw))

    x = 10 * SeededNoise([5])(torch.zeros(1, 1, 8, 8, dtype=torch.float64))
    sigmas = karras(10, sigma_max=10.0)
    learned = last(sample(ancestral(Learned(), SeededNoise([1]), variance="learned"), x, sigmas)).x
    fixed = last(sample(ancestral(MIXTURE, SeededNoise([1]), variance=variance), x, sigmas)).x
    torch.testing.assert_close(learned, fixed, rtol=0, atol=1e-12)


def test_learned_variance_must_be_there():
    with pytest.raises(ValueError, match="choose small or large"):
        ancestral(MIXTURE, SeededNoise([0]), variance="learned")

    class Silent:
        def predict(self, x, sigma, /):
            return Prediction(x)

    x = torch.zeros(1, 1, 1, 1)
    with pytest.raises(ValueError, match="predicts none"):
        last(sample(ancestral(Silent(), SeededNoise([0]), variance="learned"), x, karras(2)))


def test_churn_refuses_an_empty_interval():
    with pytest.raises(ValueError, match="s_tmin < s_tmax"):
        churn(MIXTURE, SeededNoise([0]), steps=5, s_tmin=2.0, s_tmax=1.0)


def test_resampling_keeps_the_distribution():
    """A grid that climbs: for a prior that is one point every level keeps its deviation (floor 0.6 %)."""
    noise = SeededNoise([0])
    like = torch.zeros(1, 1, 128, 128, dtype=torch.float64)
    sigmas = with_jumps(karras(9, 0.05, 10.0), length=3, repeats=2)
    assert (sigmas.diff() > 0).sum() == 2
    step = time_travel(ddim(lambda x, sigma: torch.full_like(x, 0.2), noise, eta=0.5), noise)
    for state in sample(step, 0.2 + 10 * noise(like), sigmas):
        assert (state.x - 0.2).std().item() == pytest.approx(state.sigma.item(), rel=0.025)
