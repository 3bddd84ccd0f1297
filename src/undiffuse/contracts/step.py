"""Checks for any sampler: `make(denoise, noise)` returns its Step. Closed forms only, in seconds on a CPU."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import Denoise, Noise, State, Step
from undiffuse.priors import Gaussian, GaussianMixture

Make = Callable[[Denoise, Noise], Step]
SHAPE = (2, 3, 4)


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _prior() -> GaussianMixture:
    return GaussianMixture(_randn(2, *SHAPE), 0.05)


def _run(make: Make, seeds: list[int], sigmas: Tensor, denoise: Denoise | None = None) -> Tensor:
    """One image a seed. sigmas: (n + 1,) or (n + 1, B, 1, 1, 1)."""
    noise = SeededNoise(seeds)
    start = sigmas[0] * noise(torch.zeros(len(seeds), *SHAPE, dtype=torch.float64))
    return last(sample(make(denoise or _prior(), noise), start, sigmas)).x


def lands_on_each_level(make: Make) -> None:
    """Each state is at its sigma_next, has x0, and is finite; the last step ends at the estimate itself."""
    for dtype in (torch.float32, torch.float64):
        noise = SeededNoise(range(3))
        x = 80 * noise(torch.zeros(3, *SHAPE, dtype=dtype))
        sigmas = karras(6)
        states = list(sample(make(_prior(), noise), x, sigmas))
        assert len(states) == 7
        for state, sigma in zip(states[1:], sigmas[1:], strict=True):
            assert state.sigma == sigma.to(dtype)
            assert state.x.dtype == dtype and state.x.shape == x.shape and state.x.isfinite().all()
            assert state.x0 is not None and state.x0.shape == x.shape
        torch.testing.assert_close(states[-1].x, states[-1].x0)


def leaves_grad_mode(make: Make) -> None:
    """A step leaves the grad mode as it found it, and its input untouched."""
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            x = _randn(2, *SHAPE)
            before = x.clone()
            make(_prior(), SeededNoise([0, 1]))(State(x, x.new_tensor(2.0)), x.new_tensor(1.0))
            assert torch.is_grad_enabled() == mode
            assert torch.equal(x, before)


def calls_the_denoiser(make: Make, steps: int, expected: int) -> None:
    """Exactly `expected` calls for a grid of `steps` steps."""
    calls = 0
    prior = _prior()

    def counted(x: Tensor, sigma: Tensor, /) -> Tensor:
        nonlocal calls
        calls += 1
        return prior(x, sigma)

    _run(make, [0], karras(steps), counted)
    assert calls == expected


def same_alone_and_in_a_batch(make: Make, tolerance: float = 1e-9) -> None:
    """An image depends on its seed only: alone, in a batch, in reversed order."""
    seeds = [3, 1, 4, 15]
    sigmas = karras(6)
    together = _run(make, seeds, sigmas)
    backwards = _run(make, seeds[::-1], sigmas).flip(0)
    torch.testing.assert_close(backwards, together, rtol=tolerance, atol=tolerance)
    for i, seed in enumerate(seeds):
        torch.testing.assert_close(_run(make, [seed], sigmas)[0], together[i], rtol=tolerance, atol=tolerance)


def takes_a_sigma_for_each_image(make: Make, tolerance: float = 1e-9) -> None:
    """Images on grids of their own get what they get alone; one whose grid has ended stays where it is."""
    zeros = torch.zeros(3, dtype=torch.float64)
    grids = [karras(6), karras(6, 0.1, 10.0), torch.cat([karras(3, 0.05, 3.0), zeros])]
    sigmas = torch.stack(grids, 1)[:, :, None, None, None]
    together = _run(make, [0, 1, 2], sigmas)
    assert together.isfinite().all()
    for i, grid in enumerate([*grids[:2], karras(3, 0.05, 3.0)]):
        torch.testing.assert_close(_run(make, [i], grid)[0], together[i], rtol=tolerance, atol=tolerance)


def keeps_the_noise_level(make: Make, tolerance: float = 0.03) -> None:
    """For a prior that is one point, x - x0 has deviation sigma at every level, whatever the steps.

    16384 pixels: the deviation is known to 0.6 %.
    """
    sigmas = karras(8, 0.02, 20.0)
    noise = SeededNoise([7])
    like = torch.zeros(1, 1, 128, 128, dtype=torch.float64)
    step = make(lambda x, sigma: torch.full_like(x, 0.3), noise)
    for state in itertools.islice(sample(step, 0.3 + 20 * noise(like), sigmas), 8):
        assert (state.x - 0.3).std().item() == pytest.approx(state.sigma.item(), rel=tolerance)


def observed_order(make: Make, steps: tuple[int, ...] = (64, 128, 256)) -> list[float]:
    """log2 of the ratios of errors, at half the step each time, on the probability-flow ODE of a Gaussian.

    In closed form x(s') - m = sqrt((v + s'^2) / (v + s^2)) (x(s) - m). Uneven steps (rho = 7) from 20 to
    0.05: the step to 0, which every method takes with one call, is left out.
    """
    mean, variance = 0.4, 0.25
    x = _randn(1, *SHAPE, seed=8) * 20
    exact = mean + ((variance + 0.05**2) / (variance + 20.0**2)) ** 0.5 * (x - mean)
    errors: list[float] = []
    for n in steps:
        sigmas = karras(n, 0.05, 20.0)[:-1]
        found = last(sample(make(Gaussian(mean, variance), SeededNoise([0])), x, sigmas)).x
        errors.append((found - exact).norm().item())
    return [torch.tensor(a / b).log2().item() for a, b in itertools.pairwise(errors)]


def draws_no_noise(make: Make) -> None:
    """A deterministic method leaves the generators where they are."""

    def noise(like: Tensor) -> Tensor:
        raise AssertionError("a deterministic step asked for noise")

    x = _randn(2, *SHAPE) * 10
    last(sample(make(_prior(), noise), x, karras(5, sigma_max=10.0)))


def step_contract(make: Make) -> None:
    """All that holds for every sampler."""
    lands_on_each_level(make)
    leaves_grad_mode(make)
    same_alone_and_in_a_batch(make)
    takes_a_sigma_for_each_image(make)
