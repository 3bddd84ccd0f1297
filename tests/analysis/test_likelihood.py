"""Log densities where a closed form knows them, and bounds where it knows the probability of 8-bit values."""

import math

import pytest
import torch

from undiffuse.analysis import dequantised, log_density
from undiffuse.core.grids import karras
from undiffuse.core.noise import SeededNoise
from undiffuse.priors import Gaussian, GaussianMixture

LOW, TOP = 0.01, 200.0


def levels(n):
    return karras(n + 1, sigma_min=LOW, sigma_max=TOP)[:-1]


def found(denoise, x, n=200, noise=None, probes=1):
    path = log_density(denoise, x, levels(n), noise, probes=probes)
    while True:
        try:
            next(path)
        except StopIteration as stop:
            return stop.value


def bits(nats, x):
    return nats / (math.log(2) * x[0].numel())


def test_gaussian_within_a_hundredth_of_a_bit_of_its_entropy():
    """The mean over draws of -log2 p / d, less the entropy: both for the density at the lowest level.

    Of 256 draws of 48 numbers the mean of |x|^2 / v is off by sqrt(2 / 12288), which is 0.0092 bits: the difference is
    taken against the exact log density of the same draws, and the entropy with that floor.
    """
    prior = Gaussian(0.1, torch.linspace(0.01, 0.5, 48, dtype=torch.float64).reshape(3, 4, 4))
    x = prior.sample(SeededNoise(range(256)), torch.empty(256, 3, 4, 4, dtype=torch.float64))
    got = found(prior, x, noise=SeededNoise(range(256)))
    exact = bits(prior.log_prob(x, LOW), x)
    assert (bits(got.log_p, x) - exact).abs().max() < 2e-3  # 200 steps, and N(0, 200^2) for the top
    entropy = 0.5 * (2 * math.pi * math.e * (prior.variance + LOW**2)).log2().mean().item()
    assert -bits(got.log_p, x).mean().item() == pytest.approx(entropy, abs=0.01 + 2 * 0.0092)


def test_the_deviation_of_the_probes_is_honest():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    variance = torch.logspace(-2, 0, 12, dtype=torch.float64)
    prior = Gaussian(torch.zeros(3, 2, 2, dtype=torch.float64), variance, basis)
    x = prior.sample(SeededNoise(range(64)), torch.empty(64, 3, 2, 2, dtype=torch.float64))
    exact = found(prior, x, n=60)
    guess = found(prior, x, n=60, noise=SeededNoise(range(64)), probes=16)
    assert exact.probe_deviation is None and guess.probe_deviation is not None
    off = (guess.log_p - exact.log_p) / guess.probe_deviation
    # 64 values of Student's t with 15 degrees of freedom: the mean has a deviation of 0.13, the deviation is 1.07.
    assert abs(off.mean()) < 0.5 and 0.8 < off.std() < 1.4


@pytest.mark.parametrize("noise", [None, SeededNoise(range(32))])
def test_mixture_against_its_closed_form(noise):
    """Means 0.5 apart with deviations of 0.1 and 0.2: the Jacobian is far from diagonal. With probes on average."""
    generator = torch.Generator().manual_seed(1)
    means = 0.5 * torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64)
    prior = GaussianMixture(means, torch.tensor([0.01, 0.04, 0.04], dtype=torch.float64))
    x = prior.sample(SeededNoise(range(32)), torch.empty(32, 1, 2, 2, dtype=torch.float64))
    got = found(prior, x, n=400, noise=noise, probes=8)
    off = bits(got.log_p - prior.log_prob(x, LOW), x)
    if noise is None:
        assert off.abs().max() < 0.01
        assert (got.quadrature / (4 * math.log(2))).max() < 0.01
        coarse = found(prior, x, n=100)
        worse = bits(coarse.log_p - prior.log_prob(x, LOW), x).abs().mean()
        assert off.abs().mean() < worse / 4  # of second order: a sixteenth, as far as that is reached
    else:
        assert got.probe_deviation is not None
        floor = bits(got.probe_deviation.square().sum().sqrt() / 32, x).item()
        assert abs(off.mean().item()) < 3 * floor + 0.01


def test_a_grid_that_climbs_is_refused():
    with pytest.raises(ValueError, match="expected them to fall"):
        next(log_density(Gaussian(0.0, 1.0), torch.zeros(1, 1, 1, 1), torch.tensor([1.0, 2.0]), None))


@pytest.mark.parametrize(("way", "excess"), [("uniform", 0.005), ("unit", 0.03), ("normal", 0.8)])
def test_bits_of_a_rounded_gaussian(way, excess):
    """x0 ~ N(0, 0.3^2), rounded: P(v) is a difference of distribution functions, and the bound lies above it.

    A bin is 0.026 deviations wide, so that a uniform q loses next to nothing. `unit` stretches the scale by 255 / 256,
    0.1 % of the variance and an offset of at most half a bin. For so smooth a density a normal q of half a bin's
    deviation is far from p(x | v), which is flat in the bin: the loss is what its entropy says, 0.2 to 0.8 bits.
    """
    prior, sigma = Gaussian(0.0, 0.09), 0.002
    x0 = prior.sample(SeededNoise(range(64)), torch.empty(64, 1, 8, 8, dtype=torch.float64))
    values = ((x0 + 1) * 127.5).round().clamp(0, 255)
    edges = [(values + side - 0.5) / 127.5 - 1 for side in (0, 1)]
    low, high = (torch.special.ndtr(edge / 0.3) for edge in edges)
    truth = -(high - low).log2().mean().item()
    made = dequantised(values.to(torch.uint8), way, SeededNoise(range(64)), sigma)
    assert made.x.dtype == torch.float32
    log_p = prior.log_prob(made.x.double(), sigma)
    found_bits = bits(made.log_q - log_p, made.x).mean().item()
    assert -0.005 < found_bits - truth < excess
    assert (made.x - (values / 127.5 - 1)).abs().max() <= (1.01 if way != "unit" else 2.01) / 255


def test_floats_are_refused():
    with pytest.raises(ValueError, match="8-bit pictures"):
        dequantised(torch.zeros(1, 1, 2, 2), "uniform", SeededNoise([0]), 0.01)
