"""Checks for any denoiser: call them with yours, and with images x0 (B, C, H, W) drawn from what it knows."""

import pytest
import torch
from torch import Tensor

from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import Denoise

LEVELS = (0.01, 0.5, 3.0, 80.0)


def _noisy(x0: Tensor, sigma: float) -> Tensor:
    return x0 + sigma * SeededNoise(range(len(x0)))(x0)


def keeps_shape_and_dtype(denoise: Denoise, x0: Tensor) -> None:
    """The answer has the shape, dtype and device of x, and is finite at every level, 0 and 1000 included."""
    for sigma in (0.0, *LEVELS, 1000.0):
        x = _noisy(x0, sigma)
        answer = denoise(x, x.new_tensor(sigma))
        assert (answer.shape, answer.dtype, answer.device) == (x.shape, x.dtype, x.device)
        assert answer.isfinite().all(), sigma


def one_sigma_or_one_an_image(denoise: Denoise, x0: Tensor, tolerance: float = 1e-6) -> None:
    """sigma () and the same (B, 1, 1, 1) give the same answer."""
    for sigma in LEVELS:
        x = _noisy(x0, sigma)
        single, each = x.new_tensor(sigma), x.new_full((len(x), 1, 1, 1), sigma)
        torch.testing.assert_close(denoise(x, each), denoise(x, single), rtol=tolerance, atol=tolerance)


def images_do_not_mix(denoise: Denoise, x0: Tensor, tolerance: float = 1e-6) -> None:
    """Row i depends on row i only, also where each image has a level of its own."""
    assert len(x0) > 1, "give a batch of two or more"
    sigma = torch.logspace(-1.5, 1.5, len(x0)).to(x0).reshape(-1, 1, 1, 1)
    x = x0 + sigma * SeededNoise(range(len(x0)))(x0)
    together = denoise(x, sigma)
    for i in range(len(x)):
        alone = denoise(x[i : i + 1], sigma[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=tolerance, atol=tolerance)
    moved = x.clone()
    moved[0] += 1
    torch.testing.assert_close(denoise(moved, sigma)[1:], together[1:], rtol=tolerance, atol=tolerance)


def trusts_what_has_no_noise(denoise: Denoise, x0: Tensor) -> None:
    """x0 -> x as sigma -> 0: rms |denoise(x) - x| is at most 2 sigma for x at level sigma.

    E |E[x0|x] - x0|^2 is at most sigma^2 a pixel, for x itself is an estimate with that error; |x - x0| is
    sigma.
    """
    for sigma in (0.1, 0.01, 0.002):
        x = _noisy(x0, sigma)
        rms = (denoise(x, x.new_tensor(sigma)) - x).square().mean().sqrt().item()
        assert rms <= 2 * sigma, f"{rms:g} at sigma {sigma:g}"


def follows_its_density(denoise: Denoise, log_prob, x0: Tensor, tolerance: float = 1e-8) -> None:
    """Tweedie: denoise(x) = x + sigma^2 grad log p(x; sigma), `log_prob(x, sigma)` being (B,). In float64."""
    x0 = x0.double()
    for sigma in LEVELS:
        x = _noisy(x0, sigma).requires_grad_()
        level = x.new_tensor(sigma)
        (score,) = torch.autograd.grad(log_prob(x, level).sum(), x)
        torch.testing.assert_close(denoise(x, level), x + sigma**2 * score, rtol=tolerance, atol=tolerance)


def can_be_differentiated(denoise: Denoise, x0: Tensor) -> None:
    """The gradient by x equals a central difference along one direction, in float64."""
    x0 = x0.double()
    for sigma in (0.3, 2.0):
        x = _noisy(x0, sigma)
        direction, weight = SeededNoise(range(50, 50 + len(x0)))(x), SeededNoise(range(90, 90 + len(x0)))(x)
        level, h = x.new_tensor(sigma), 1e-5
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((denoise(leaf, level) * weight).sum(), leaf)
        difference = (denoise(x + h * direction, level) - denoise(x - h * direction, level)) / (2 * h)
        expected = (difference * weight).sum().item()
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-6, abs=1e-7)


def denoiser_contract(denoise: Denoise, x0: Tensor) -> None:
    """All that holds for every denoiser, networks too."""
    keeps_shape_and_dtype(denoise, x0)
    one_sigma_or_one_an_image(denoise, x0)
    images_do_not_mix(denoise, x0)
    trusts_what_has_no_noise(denoise, x0)
