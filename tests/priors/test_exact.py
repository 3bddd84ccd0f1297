"""Priors in closed form: the denoiser contract, their densities, their draws, dense linear algebra."""

import pytest
import torch

from undiffuse.contracts import denoiser
from undiffuse.core.noise import SeededNoise
from undiffuse.priors import Empirical, Gaussian, GaussianMixture, StationaryGaussian
from undiffuse.registry import PRIORS

SHAPE = (3, 4, 6)


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def full_gaussian():
    root = randn(72, 72, seed=5) / 72**0.5
    variance, basis = torch.linalg.eigh(root @ root.T + 0.01 * torch.eye(72))
    return Gaussian(0.3 * randn(*SHAPE, seed=4), variance, basis)


def toy_stationary():
    f = torch.logspace(-3, -0.15, 8, dtype=torch.float64)
    colours = torch.linalg.qr(randn(3, 3, seed=1)).Q
    power = f**-2 * torch.tensor([[0.02], [0.01], [0.003]])
    return StationaryGaussian(
        f, power, colours, torch.tensor([0.1, 0.0, -0.3]), torch.tensor([0.2, 0.1, 0.05])
    )


TOYS = {
    "isotropic": lambda: Gaussian(0.3 * randn(*SHAPE), 0.25),
    "pixels": lambda: Gaussian(0.3 * randn(*SHAPE), 0.01 + randn(*SHAPE, seed=2).square()),
    "full": full_gaussian,
    "mixture": lambda: GaussianMixture(
        randn(3, *SHAPE), torch.tensor([0.1, 0.3, 0.02]), torch.tensor([1.0, 2.0, 0.5])
    ),
    "empirical": lambda: Empirical(randn(10, *SHAPE)),
    "stationary": toy_stationary,
}
ALL = TOYS | {
    name: PRIORS[name] for name in PRIORS if "file" not in PRIORS[name].facts
}  # those in closed form
WITH_DENSITY = [name for name in ALL if name != "empirical"]


@pytest.fixture(params=ALL)
def prior(request):
    return ALL[request.param]()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contract(prior, dtype):
    denoiser.denoiser_contract(
        prior, prior.sample(SeededNoise(range(4)), torch.zeros(4, *SHAPE, dtype=dtype))
    )


def test_gradient(prior):
    x0 = prior.sample(SeededNoise(range(3)), torch.zeros(3, *SHAPE, dtype=torch.float64))
    denoiser.can_be_differentiated(prior, x0)


@pytest.mark.parametrize("name", WITH_DENSITY)
def test_denoiser_is_the_gradient_of_the_density(name):
    prior = ALL[name]()
    x0 = prior.sample(SeededNoise(range(3)), torch.zeros(3, *SHAPE, dtype=torch.float64))
    denoiser.follows_its_density(prior, prior.log_prob, x0)


@pytest.mark.parametrize("name", ["stationary", "photo-gaussian"])
def test_density_integrates_to_one(name):
    """By importance sampling from a wider normal, within four standard errors."""
    prior = ALL[name]()
    level = torch.tensor(2.0, dtype=torch.float64)
    like = torch.zeros(20000, 1, 1, 2, dtype=torch.float64)
    x = 6 * randn(*like.shape, seed=3)
    normal = torch.distributions.Normal(0.0, torch.tensor(6.0, dtype=torch.float64))
    weights = (prior.log_prob(x, level) - normal.log_prob(x).flatten(1).sum(1)).exp()
    assert weights.mean().item() == pytest.approx(1, abs=4 * weights.std().item() / len(x) ** 0.5)


def test_full_gaussian_against_linear_algebra():
    prior, x = full_gaussian(), randn(2, *SHAPE, seed=9)
    sigma = torch.tensor(0.7, dtype=torch.float64)
    covariance = prior.basis @ prior.variance.diag() @ prior.basis.T
    noisy = covariance + sigma**2 * torch.eye(72, dtype=torch.float64)
    d = (x - prior.mean).flatten(1)
    expected = prior.mean + torch.linalg.solve(noisy, d.T).T.matmul(covariance).reshape(x.shape)
    torch.testing.assert_close(prior(x, sigma), expected, rtol=0, atol=1e-12)
    normal = torch.distributions.MultivariateNormal(prior.mean.flatten(), noisy)
    torch.testing.assert_close(prior.log_prob(x, sigma), normal.log_prob(x.flatten(1)), rtol=1e-12, atol=0)


def test_mixture_density_against_torch():
    prior, x = TOYS["mixture"](), randn(5, *SHAPE, seed=9)
    deviations = prior.variances.sqrt()[:, None].expand(3, 72)
    components = torch.distributions.Independent(
        torch.distributions.Normal(prior.means.flatten(1), deviations), 1
    )
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=prior.log_weights), components
    )
    torch.testing.assert_close(prior.log_prob(x), mixture.log_prob(x.flatten(1)), rtol=1e-12, atol=0)


def test_one_component_is_a_gaussian():
    mean, x = randn(1, *SHAPE), randn(2, *SHAPE, seed=1)
    level = torch.tensor(0.4).double()
    mixture, gaussian = GaussianMixture(mean, 0.3), Gaussian(mean[0], 0.3)
    torch.testing.assert_close(mixture(x, level), gaussian(x, level), rtol=0, atol=1e-14)


def test_empirical_is_a_mixture_of_points():
    data, x = randn(10, *SHAPE), randn(4, *SHAPE, seed=1)
    level = torch.tensor(1.5).double()
    torch.testing.assert_close(
        Empirical(data)(x, level), GaussianMixture(data, 1e-14)(x, level), rtol=0, atol=1e-10
    )


def test_empirical_finds_its_image_without_noise():
    data = randn(10, *SHAPE).float()
    assert torch.equal(Empirical(data)(data[3:5], torch.tensor(0.0)), data[3:5])
    torch.testing.assert_close(Empirical(data)(data[3:5] + 1e-3, torch.tensor(1e-4)), data[3:5])


def test_mixture_is_stable_far_out():
    prior = TOYS["mixture"]().float()
    x = torch.full((2, *SHAPE), 1e4)
    assert prior(x, torch.tensor(0.01)).isfinite().all()
    assert prior.log_prob(x).isfinite().all()


def test_draws():
    """Of 20000 draws a mean is known to 0.007 deviations, a variance to 1 %; bounds are four times these."""
    like = torch.zeros(20000, 1, 1, 2, dtype=torch.float64)
    gaussian = Gaussian(torch.tensor([[[0.5, -1.0]]]), torch.tensor([[[0.04, 1.0]]]))
    x = gaussian.sample(SeededNoise(range(len(like))), like)
    torch.testing.assert_close(x.mean(0).flatten(), torch.tensor([0.5, -1.0]).double(), rtol=0, atol=0.028)
    torch.testing.assert_close(x.var(0).flatten(), torch.tensor([0.04, 1.0]).double(), rtol=0.04, atol=0)
    mixture = GaussianMixture(torch.tensor([[[[-4.0, 0.0]]], [[[4.0, 0.0]]]]), 0.01, torch.tensor([1.0, 3.0]))
    x = mixture.sample(SeededNoise(range(len(like))), like)
    assert (x[..., 0] > 0).double().mean().item() == pytest.approx(0.75, abs=0.012)
    data = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 1, 2)
    shares = Empirical(data).sample(SeededNoise(range(len(like))), like)[:, 0, 0, 0].long().bincount() / 20000
    torch.testing.assert_close(shares, torch.full((4,), 0.25), rtol=0, atol=0.012)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(0.0, 0.0), "expected positive"),
        (lambda: Gaussian(0.0, torch.ones(3), torch.eye(4)), r"expected \(n,\), \(n, n\)"),
        (lambda: GaussianMixture(torch.zeros(2, 1, 1, 1), torch.ones(3)), "for 2 means"),
        (lambda: GaussianMixture(torch.zeros(2, 1, 1, 1), 0.0), "positive"),
        (lambda: Empirical(torch.zeros(0, 1, 1, 1)), "N >= 1"),
        (lambda: Gaussian(0.0, 1.0)(torch.zeros(2, 1, 1, 1), torch.ones(2)), r"use \(\) or \(B, 1, 1, 1\)"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
