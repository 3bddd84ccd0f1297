import math

import pytest
import torch

from undiffuse.analysis.geometry import distance, rms
from undiffuse.analysis.trajectory import Recorder, Sketch, fitting, together
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.priors.exact import Gaussian, GaussianMixture
from undiffuse.samplers.ddim import ddim

SHAPE = (1, 6, 5)


def start(n=4, dtype=torch.float64):
    return 80 * SeededNoise(range(n))(torch.empty(n, *SHAPE, dtype=dtype))


def recorded(denoise, x, steps=20, sketch=None):
    sigmas = karras(steps)
    recorder = Recorder(sketch or Sketch(SHAPE, math.prod(SHAPE)), range(steps + 1))
    end = last(recorder(sample(ddim(denoise, SeededNoise([])), x, sigmas)))
    return recorder.trajectories("prior"), end, sigmas


def test_ddim_on_a_gaussian_goes_straight_by_known_steps():
    """x - m shrinks by (d^2 + s s') / (d^2 + s^2) a step: DDIM's with E[x0 | x] - m = d^2 / (d^2 + s^2) (x - m)."""
    m, d, x = 0.3, 0.5, start()
    found, end, sigmas = recorded(Gaussian(m, d**2), x)
    factors = (d**2 + sigmas[:-1] * sigmas[1:]) / (d**2 + sigmas[:-1] ** 2)
    share = torch.cat([torch.ones(1), factors.cumprod(0)]).double()
    expected = m + share[:, None, None] * (x - m).flatten(1)
    assert torch.allclose(found.states.double(), expected, rtol=1e-6)  # kept in float32
    assert torch.allclose(found.path.length, rms(x.flatten(1) - m) * (1 - share[-1]), rtol=1e-10)
    assert torch.allclose(found.path.straightness, torch.ones(4).double(), atol=1e-12)
    assert found.path.turning.max() < 1e-5  # rounding of steps that get small
    shrink = d**2 / (d**2 + sigmas[:-1] ** 2)
    guess = m + shrink[:, None, None] * (expected[:-1] - m)
    assert torch.allclose(found.estimates[:-1].double(), guess, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.estimates[-1], end.x.flatten(1).float())
    assert torch.allclose(found.sigmas, sigmas, rtol=1e-6)


def test_a_mixture_bends_the_path():
    means = torch.stack([torch.full(SHAPE, v, dtype=torch.float64) for v in (-1.0, 0.2, 1.0)])
    means[1, :, :3] = -0.5
    found, _, _ = recorded(GaussianMixture(means, 0.01), start())
    assert (found.path.straightness < 1 - 1e-6).all() and (found.guess.straightness < 0.999).any()


def test_the_recorder_changes_nothing_and_batches_are_joined():
    denoise, x = Gaussian(0.0, 1.0), start(dtype=torch.float32)
    plain = list(sample(ddim(denoise, SeededNoise([])), x, karras(6)))
    recorder = Recorder(Sketch(SHAPE, 30), range(7))
    passed = list(recorder(iter(plain)))
    assert all(one is other for one, other in zip(passed, plain, strict=True))
    whole, _, _ = recorded(denoise, x)
    parts = together([recorded(denoise, x[:1])[0], recorded(denoise, x[1:])[0]])
    for name in ("sigmas", "states", "estimates"):
        assert torch.allclose(getattr(parts, name), getattr(whole, name), atol=1e-6)
    assert torch.allclose(parts.path.length, whole.path.length) and parts.n == 4


def test_the_same_prior_is_at_no_distance_at_any_level():
    one, other = (recorded(Gaussian(0.1, 0.5), start(dtype=torch.float32))[0] for _ in range(2))
    assert torch.equal(distance(one.states, other.states), torch.zeros(21, 4).double())
    assert torch.equal(distance(one.estimates, other.estimates), torch.zeros(21, 4).double())


def test_some_levels_are_kept():
    recorder = Recorder(Sketch(SHAPE, 30), [0, 3, 6])
    last(recorder(sample(ddim(Gaussian(0.0, 1.0), SeededNoise([])), start(), karras(6))))
    found, whole = recorder.trajectories("some"), recorded(Gaussian(0.0, 1.0), start(), 6)[0]
    assert torch.equal(found.states, whole.states[[0, 3, 6]])
    assert torch.equal(found.estimates, whole.estimates[[0, 3, 6]])
    assert len(found.path.steps) == 6  # lengths and angles are of all


def test_what_diverges_is_refused():
    recorder = Recorder(Sketch(SHAPE, 30), range(4))
    last(recorder(sample(ddim(lambda x, s: x * math.nan, SeededNoise([])), start(), karras(3))))
    with pytest.raises(ValueError, match="prior: a trajectory is not finite"):
        recorder.trajectories("prior")


def test_a_whole_sketch_is_the_picture():
    x = start()
    sketch = Sketch(SHAPE, 30)
    assert sketch.exact and sketch.error == 0 and torch.equal(sketch(x), x.flatten(1))


def test_a_sketch_keeps_root_mean_squares():
    """Over 400 pictures that are anything but noise: no bias, and the deviation that it states."""
    shape, n = (3, 16, 16), 400
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, 1, 1, generator=generator) + torch.linspace(-1, 1, 16) * torch.randn(
        n, 1, 16, 1, generator=generator
    )
    ratios = []
    for seed in range(20):
        sketch = Sketch(shape, 96, seed)
        ratios.append(rms(sketch(x)) / rms(x.flatten(1)))
    ratio = torch.stack(ratios)
    assert sketch.error == pytest.approx(((1 - 96 / 768) / 192) ** 0.5)
    # pictures of one sketch move together: 20 sketches know the mean to error / sqrt(20), some 0.015
    assert abs(ratio.mean().item() - 1) < 4 * sketch.error / 20**0.5
    assert ratio.std().item() == pytest.approx(sketch.error, rel=0.5)
    assert torch.allclose(sketch(2 * x[:3] - x[3:6]), 2 * sketch(x[:3]) - sketch(x[3:6]), atol=1e-5)


def test_memory_is_bounded():
    sketch, kept = fitting((3, 256, 256), 64, 1000)
    assert 2 * 4 * 64 * len(kept) * sketch.k <= 2**27 and not sketch.exact
    assert kept[0] == 0 and kept[-1] == 1000 and len(kept) == 65
    sketch, kept = fitting((1, 28, 28), 64, 50)
    assert sketch.exact and kept == list(range(51))
    with pytest.raises(ValueError, match="say --n"):
        fitting((3, 256, 256), 100_000, 1000)
