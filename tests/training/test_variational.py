"""Learned variances on Gaussian data, where the best one, the bound and its floor are known."""

import math

import pytest
import torch
from torch import nn

from undiffuse.core.noise import SeededNoise
from undiffuse.priors import DiscreteSchedule, Prediction, Prior, scalings, schedules
from undiffuse.priors.variance import log_learned, small_and_large
from undiffuse.training import WEIGHTS, Hybrid, bits_per_dimension, bound
from undiffuse.training.variational import _log_ndtr, log_bin, start_term

T = 100
SCHEDULE = DiscreteSchedule.from_betas(schedules.linear(T))
MEAN, VARIANCE = 0.1, 0.04  # of the data: 0 at the ends of the range, for its deviation is 25 bins


def eight_bit(x):
    """The nearest of the 256 values."""
    return ((x + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def chain(t):
    """small, large, k and Var(x0 | x) of the step down from level t, in numbers of Python."""
    s = SCHEDULE.sigmas[t].item()
    below = SCHEDULE.sigmas[t - 1].item() if t else 0.0
    small = below**2 * (s**2 - below**2) / s**2
    large = (s**2 - below**2) * (1 + below**2) / (1 + s**2)
    if t == 0:
        above = SCHEDULE.sigmas[1].item()
        small = s**2 * (above**2 - s**2) / above**2 / (1 + s**2)
    return small, large, (below / s) ** 2, VARIANCE * s**2 / (VARIANCE + s**2)


def best_raw(t):
    """What the network should say: the variance of x' given x is small + (1 - k)^2 Var(x0 | x)."""
    small, large, k, left = chain(t)
    best = small + (1 - k) ** 2 * left if t else left
    return 2 * math.log(best / small) / math.log(large / small) - 1


class Exact:
    """The denoiser of N(MEAN, VARIANCE), and the best variance at each level."""

    def predict(self, x, sigma, labels, cond):
        x0 = MEAN + VARIANCE / (VARIANCE + sigma**2) * (x - MEAN)
        t = int(SCHEDULE.t(sigma).round())
        return Prediction(x0, torch.full_like(x, best_raw(t)))


def test_the_range_is_from_small_to_large():
    sigma, below = torch.tensor([2.0, 0.5]).double(), torch.tensor([1.5, 0.4]).double()
    small, large = small_and_large(sigma, below)
    assert (small < large).all()
    for raw, end in ((-1.0, small), (1.0, large)):
        found = log_learned(torch.full((2,), raw, dtype=torch.float64), small, large).exp()
        torch.testing.assert_close(found, end)
    middle = log_learned(torch.zeros(2, dtype=torch.float64), small, large).exp()
    torch.testing.assert_close(middle, (small * large).sqrt())


@pytest.mark.parametrize("t", [1, 2, 10, 50])
def test_the_best_variance_is_where_the_gradient_is_zero(t):
    """Errors of +- the deviation that x leaves of x0: their mean square is its variance, without chance."""
    *_, left = chain(t)
    clean = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    x0 = clean + left**0.5 * torch.tensor([1.0, -1.0]).double().repeat(8).reshape(1, 1, 4, 4)
    found = []
    for shift in (-0.1, 0.0, 0.1):
        raw = torch.full_like(clean, best_raw(t) + shift).requires_grad_()
        bound(x0, raw, clean, torch.tensor([t]), SCHEDULE).sum().backward()
        found.append(raw.grad.mean().item())
    assert found[0] < 0 < found[2]
    assert abs(found[1]) < 1e-6 * found[2]  # float64, of terms that cancel: small is 0.999 of large at t = 50


def test_the_bound_of_an_exact_prior_is_the_surprise_of_its_data():
    """The chain of a Gaussian is Gaussian: with its own mean and variance the bound is -log p itself, of any image.

    Of 8-bit values that is the density times a bin's width, and the mean over images the entropy less its logarithm.
    The chain starts from N(0, I) in place of what x_T is, which is added. The tolerances are 4 deviations over seeds
    of 65536 numbers with a draw a level, measured as 0.006 bits from the surprise, 0.0085 from the entropy.
    """
    shape = (1, 1, 256, 256)
    clean = eight_bit(MEAN + VARIANCE**0.5 * SeededNoise([0])(torch.empty(shape, dtype=torch.float64)))
    found = bits_per_dimension(Exact(), clean, SCHEDULE, SeededNoise([1])).item()
    width = math.log2(1 / 127.5)
    surprise = (clean - MEAN).square().mean().item() / VARIANCE / 2 / math.log(2)
    surprise += 0.5 * math.log2(2 * math.pi * VARIANCE) - width
    entropy = 0.5 * math.log2(2 * math.pi * math.e * VARIANCE) - width
    a = SCHEDULE.alphas_cumprod[-1].item()
    total = a * VARIANCE + 1 - a
    start = 0.5 * (total + a * MEAN**2 - 1 - math.log(total)) / math.log(2)
    assert found == pytest.approx(surprise + start, abs=0.024)
    assert found == pytest.approx(entropy + start, abs=0.034)


def test_start_term():
    """KL of two normal distributions, by torch."""
    from torch.distributions import Normal, kl_divergence

    clean = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(1, 3, 2, 2)
    a = SCHEDULE.alphas_cumprod[-1]
    expected = kl_divergence(Normal(a.sqrt() * clean, (1 - a).sqrt()), Normal(0.0, 1.0)).mean() / math.log(2)
    torch.testing.assert_close(start_term(clean, SCHEDULE), expected.reshape(1))


@pytest.mark.parametrize("deviation", [0.002, 0.02, 0.5])
def test_the_probabilities_of_the_256_values_add_up_to_one(deviation):
    values = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for mean in (-0.999, -0.3, 0.0017, 1.2):
        total = log_bin(values, torch.tensor(mean).double(), torch.tensor(deviation).double()).exp().sum()
        assert total.item() == pytest.approx(1, abs=1e-9)


def test_the_logarithm_of_the_normal_distribution_function():
    x = torch.cat((torch.linspace(-1000, -5, 200), torch.linspace(-5, 8, 2000))).requires_grad_()
    exact = x.detach().double().requires_grad_()
    found, expected = _log_ndtr(x), torch.special.log_ndtr(exact)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-7)
    slopes = [torch.autograd.grad(y.sum(), at)[0].double() for y, at in ((found, x), (expected, exact))]
    torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-8)


def test_a_far_off_mean_has_a_finite_surprise_and_a_gradient():
    mean = torch.tensor([-0.9, 0.4], requires_grad=True)
    surprise = log_bin(torch.tensor([0.9, 0.4]), mean, torch.tensor(1e-3))
    surprise.sum().backward()
    assert surprise.isfinite().all() and mean.grad.isfinite().all() and mean.grad[0] > 0


def reference(x0, raw, clean, n, t):
    """The terms in the coordinate of guided-diffusion, after its definitions, in float64."""
    betas = schedules.linear(T)
    abar = (1 - betas).cumprod(0)
    before = torch.cat((torch.ones(1, dtype=torch.float64), abar[:-1]))
    posterior = betas * (1 - before) / (1 - abar)
    clipped = torch.cat((posterior[1:2], posterior[1:])).log()
    x_t = abar[t].sqrt() * clean + (1 - abar[t]).sqrt() * n
    of_x0 = betas[t] * before[t].sqrt() / (1 - abar[t])
    of_xt = (1 - before[t]) * (1 - betas[t]).sqrt() / (1 - abar[t])
    true, modelled = of_x0 * clean + of_xt * x_t, of_x0 * x0 + of_xt * x_t
    share = (raw + 1) / 2
    log_variance = share * betas[t].log() + (1 - share) * clipped[t]
    if t > 0:
        squares = (true - modelled).square() * (-log_variance).exp()
        terms = 0.5 * (log_variance - clipped[t] - 1 + (clipped[t] - log_variance).exp() + squares)
    else:
        normal = torch.distributions.Normal(modelled, (0.5 * log_variance).exp())
        above = torch.where(clean > 0.999, 1.0, normal.cdf(clean + 1 / 255))
        below = torch.where(clean < -0.999, 0.0, normal.cdf(clean - 1 / 255))
        terms = -(above - below).log()
    return terms.flatten(1).mean(1) / math.log(2)


def test_terms_are_those_of_guided_diffusion():
    """With the exact normal distribution in place of its fit; the difference of two of its values costs 1e-6 there."""
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(3, 2, 4, 4, dtype=torch.float64, generator=generator)

    clean, raw, n = eight_bit(0.6 * draw()), draw().clamp(-1, 1), draw()
    for t in (0, 1, 2, 17, 60, 99):
        x0 = clean + 0.5 * chain(t)[3] ** 0.5 * draw()
        found = bound(x0, raw, clean, torch.full((3,), t), SCHEDULE)
        torch.testing.assert_close(found, reference(x0, raw, clean, n, t), rtol=1e-6, atol=1e-9)


def test_images_at_levels_of_their_own():
    clean, raw = torch.zeros(3, 1, 2, 2), torch.full((3, 1, 2, 2), 0.3)
    t = torch.tensor([0, 5, 99])
    together = bound(clean + 0.02, raw, clean, t, SCHEDULE)
    for i in range(3):
        part = slice(i, i + 1)
        alone = bound(clean[part] + 0.02, raw[part], clean[part], t[part], SCHEDULE)
        assert torch.equal(alone, together[part])


class Heads(nn.Module):
    """A mean and a variance with weights of their own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.mean, self.variance = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)

    def forward(self, x, noise, labels):
        return torch.cat([self.mean(x), self.variance(x)], 1)


def hybrid(**options):
    prior = Prior(Heads(), scalings.eps(SCHEDULE), channels=1)
    return Hybrid(prior, SCHEDULE, WEIGHTS["eps"], **options)


def gradients(objective):
    clean = eight_bit(0.2 * torch.randn(64, 1, 2, 2, generator=torch.Generator().manual_seed(0)))
    objective(clean, None, SeededNoise(range(64))).mean().backward()
    net = objective.model.net
    return net.mean.weight.grad.clone(), net.variance.weight.grad


def test_the_bound_moves_the_variance_only():
    """The mean's gradient is that of the simple loss, whatever the bound's weight, and the variance's its multiple."""
    plain, none = gradients(hybrid(bound_weight=0.0))
    once, variance = gradients(hybrid())
    ten, more = gradients(hybrid(bound_weight=1e-2))
    assert torch.equal(plain, once) and torch.equal(plain, ten)
    assert (none == 0).all() and (variance != 0).all()
    torch.testing.assert_close(more, 10 * variance)


def test_the_sum_of_both():
    """The simple loss, and T / 1000 times the bound's term at the image's level."""
    clean = torch.zeros(40, 1, 2, 2)
    with_bound, without = hybrid(), hybrid(bound_weight=0.0)
    with_bound.model.load_state_dict(without.model.state_dict())
    difference = with_bound(clean, None, SeededNoise(range(40))) - without(
        clean, None, SeededNoise(range(40))
    )
    u = torch.special.ndtr(SeededNoise(range(40))(torch.empty(40, 2, dtype=torch.float64)))
    t = (u[:, 0] * T).long()
    noise = SeededNoise(range(40))
    noise(torch.empty(40, 2, dtype=torch.float64))
    level = SCHEDULE.sigmas[t].float().reshape(-1, 1, 1, 1)
    prediction = with_bound.model.predict(level * noise(clean), level)
    expected = T / 1000 * bound(prediction.x0, prediction.variance, clean, t, SCHEDULE)
    torch.testing.assert_close(difference, expected, rtol=1e-4, atol=1e-5)  # a difference of float32 losses


def test_training_finds_the_best_variance():
    """A number a level, trained on the bound with the exact mean: near the closed form at every fourth level."""

    class Levels(nn.Module):
        def __init__(self):
            super().__init__()
            self.raw = nn.Parameter(torch.zeros(T))

        def forward(self, x, noise, labels):
            s = SCHEDULE.sigma(noise.double()).to(x).reshape(-1, 1, 1, 1)
            x = x * (1 + s**2).sqrt()
            x0 = MEAN + VARIANCE / (VARIANCE + s**2) * (x - MEAN)
            raw = self.raw[noise.round().long()].reshape(-1, 1, 1, 1).expand_as(x)
            return torch.cat([(x - x0) / s, raw], 1)

    net = Levels()
    objective = Hybrid(Prior(net, scalings.eps(SCHEDULE), channels=1), SCHEDULE, WEIGHTS["eps"])
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    steps = 150
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, steps)
    for step in range(steps):
        noise = SeededNoise(range(200 * step, 200 * step + 200))
        clean = eight_bit(MEAN + VARIANCE**0.5 * noise(torch.empty(200, 1, 16, 16)))
        optimizer.zero_grad()
        objective(clean, None, noise).mean().backward()
        optimizer.step()
        scheduler.step()
    for t in (1, 4, 16, 64):
        small, large, *_ = chain(t)
        off = (
            0.5 * math.log(large / small) * (net.raw[t].item() - best_raw(t))
        )  # of the logarithm of the variance
        assert off == pytest.approx(0, abs=0.03)  # 4 deviations of an estimate from 3e4 numbers


def test_refuses():
    single = Prior(nn.Conv2d(1, 1, 1), scalings.eps(SCHEDULE), channels=1)
    single.net.forward = lambda x, noise, labels: x
    with pytest.raises(ValueError, match="predicts no variance; give it twice the channels"):
        Hybrid(single, SCHEDULE, WEIGHTS["eps"])(torch.zeros(1, 1, 2, 2), None, SeededNoise([0]))
    with pytest.raises(ValueError, match="bound_weight = -1; expected 0 or more"):
        hybrid(bound_weight=-1)
