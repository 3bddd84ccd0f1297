import math

import pytest
import torch
from torch import nn

from undiffuse.core.noise import SeededNoise
from undiffuse.priors import DiscreteSchedule, GaussianMixture, Prior, scalings, schedules
from undiffuse.training import Denoising, by_prediction, denoising_loss, levels_of, lognormal, weight_named
from undiffuse.training.objective import WEIGHTS


class Fixed(nn.Module):
    """A network that answers with what it was given: its raw output is known."""

    def __init__(self, raw):
        super().__init__()
        self.raw = nn.Parameter(raw)

    def forward(self, x, noise, labels):
        return self.raw


def batch(n=4):
    generator = torch.Generator().manual_seed(0)
    clean, noise, raw = (torch.randn(n, 3, 5, 7, generator=generator, dtype=torch.float64) for _ in range(3))
    return clean, noise, raw, torch.tensor([0.05, 0.3, 1.0, 20.0], dtype=torch.float64)


def test_weights_are_the_errors_of_what_the_network_predicts():
    """weight(sigma) |x0hat - x0|^2 equals the plain loss on eps, v, x0 or EDM's raw output."""
    clean, n, raw, sigma = batch()
    level = sigma.reshape(-1, 1, 1, 1)
    schedule = DiscreteSchedule(torch.cumprod(1 - schedules.linear(1000), 0))
    abar = 1 / (1 + level**2)
    targets = {
        "eps": n,
        "v": abar.sqrt() * n - (1 - abar).sqrt() * clean,
        "x0": clean,
        "edm": (clean - 0.25 / (level**2 + 0.25) * (clean + level * n))
        / (0.5 * level / (level**2 + 0.25).sqrt()),
    }
    makers = {"eps": scalings.eps(schedule), "v": scalings.v(schedule), "x0": scalings.x0(schedule)}
    makers["edm"] = scalings.edm(0.5)
    for name, scaling in makers.items():
        prior = Prior(Fixed(raw), scaling, channels=3)
        loss = denoising_loss(prior, clean, None, sigma, n, weight=weight_named(name))
        expected = (raw - targets[name]).square().flatten(1).mean(1)
        torch.testing.assert_close(
            loss, expected, rtol=1e-9, atol=1e-12
        )  # float64; eps loses digits at sigma 0.05


def test_all_three_losses_of_one_estimate():
    clean, n, _, sigma = batch()
    level = sigma.reshape(-1, 1, 1, 1)
    estimate = clean + 0.1 * n
    found = by_prediction(estimate, clean, sigma)
    eps_error = ((clean + level * n - estimate) / level - n).square().flatten(1).mean(1)
    torch.testing.assert_close(found["eps"], eps_error, rtol=1e-9, atol=0)
    assert (found["v"] >= found["x0"]).all() and (found["v"] >= found["eps"]).all()


def test_min_snr_and_edm_are_bounded_at_small_noise_as_they_say():
    small, large = torch.tensor(1e-3), torch.tensor(1e3)
    assert WEIGHTS["min_snr"](small) == 5
    assert WEIGHTS["edm"](large) == pytest.approx(4, rel=1e-3)
    assert WEIGHTS["v"](large) == pytest.approx(1, rel=1e-3)
    with pytest.raises(ValueError, match="choose from x0, eps, v"):
        weight_named("mse")


def test_draws_of_sigma():
    u = (torch.arange(100_000) + 0.5) / 100_000
    logs = lognormal(-1.2, 1.2)(u).log()
    assert logs.mean().item() == pytest.approx(-1.2, abs=1e-3)
    assert logs.std().item() == pytest.approx(1.2, abs=1e-3)
    schedule = DiscreteSchedule(torch.cumprod(1 - schedules.linear(1000), 0))
    levels = levels_of(schedule)(u)
    values, counts = levels.unique(return_counts=True)
    assert len(values) == 1000 and (counts == 100).all()
    with pytest.raises(ValueError, match="positive"):
        lognormal(0, 0)


class Small(nn.Module):
    """Two hidden layers on two numbers, told ln(sigma) / 4 by sines and cosines."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(18, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)
        )
        self.register_buffer("waves", torch.arange(8) * 0.7 + 0.7)

    def forward(self, x, noise, labels):
        told = noise.reshape(-1, 1) * self.waves
        return self.layers(torch.cat([x.flatten(1), told.sin(), told.cos()], 1)).reshape(x.shape)


def test_training_approaches_the_closed_form():
    """A small network trained on a known mixture: its error above the exact denoiser's falls to a tenth."""
    torch.manual_seed(0)
    means = torch.tensor([[-0.6, -0.3], [0.5, 0.4]]).reshape(2, 2, 1, 1)
    exact = GaussianMixture(means, torch.tensor([0.01, 0.02]), torch.tensor([0.4, 0.6]))
    prior = Prior(Small(), scalings.edm(0.5), channels=2)
    optimizer = torch.optim.Adam(prior.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)

    def draw(n):
        clean = exact.sample(
            lambda like: torch.randn(like.shape, generator=generator), torch.empty(n, 2, 1, 1)
        )
        sigma = lognormal()(torch.rand(n, generator=generator)).float()
        return clean, sigma, torch.randn(clean.shape, generator=generator)

    def losses():
        """Of the network, of the exact denoiser, and of the best constant, with the same images and noise."""
        clean, sigma, n = draw(8192)
        constant = (exact.log_weights.exp().reshape(-1, 1, 1, 1) * exact.means).sum(0)
        of = {
            "ours": prior,
            "floor": lambda x, level, labels, cond: exact(x, level),
            "constant": lambda x, level, labels, cond: constant.expand_as(x),
        }
        with torch.no_grad():
            found = {k: denoising_loss(d, clean, None, sigma, n, weight=WEIGHTS["x0"]) for k, d in of.items()}
        return {name: loss.mean().item() for name, loss in found.items()}

    def excess():
        clean, sigma, n = draw(4096)
        level = sigma.reshape(-1, 1, 1, 1)
        x = clean + level * n
        with torch.no_grad():
            return (WEIGHTS["edm"](level) * (prior(x, level) - exact(x, level)).square()).mean().item()

    before = excess()
    for _ in range(600):
        clean, sigma, n = draw(256)
        optimizer.zero_grad()
        denoising_loss(prior, clean, None, sigma, n, weight=WEIGHTS["edm"]).mean().backward()
        optimizer.step()
    after = excess()
    assert math.isfinite(after) and after < 0.1 * before
    found = losses()
    # Nothing beats the exact denoiser but by chance: 4 deviations of the product of both errors, over 16384 numbers.
    assert -0.0025 < (found["ours"] - found["floor"]) / (found["constant"] - found["floor"]) < 0.03


class Heard(nn.Module):
    """Keeps the labels that it was told."""

    def forward(self, x, noise, labels):
        self.labels = labels
        return x


def test_dropped_labels():
    """A share of the images is shown the null class; the same ones in any batch, with the same loss."""
    net = Heard()
    prior = Prior(net, scalings.edm(0.5), channels=1, num_classes=3, null_class=True)
    objective = Denoising(prior, lognormal(), WEIGHTS["edm"], label_dropout=0.25)
    clean, labels = torch.zeros(2000, 1, 2, 2), torch.arange(2000) % 3
    together = objective(clean, labels, SeededNoise(range(2000)))
    hidden = net.labels == 3
    assert (net.labels[~hidden] == labels[~hidden]).all()
    assert hidden.float().mean().item() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 2000) ** 0.5)
    for i in range(20):
        alone = objective(clean[i : i + 1], labels[i : i + 1], SeededNoise([i]))
        assert (net.labels.item() == 3) == hidden[i].item()
        torch.testing.assert_close(alone, together[i : i + 1])
    assert objective(clean, None, SeededNoise(range(2000))).shape == (2000,)
    with pytest.raises(ValueError, match="without a null class"):
        bare = Prior(net, scalings.edm(0.5), channels=1, num_classes=3)
        Denoising(bare, lognormal(), WEIGHTS["edm"], label_dropout=0.1)
    with pytest.raises(ValueError, match="less than 1"):
        Denoising(prior, lognormal(), WEIGHTS["edm"], label_dropout=1.0)
