"""The loop: its states, its grad mode, its laziness; climbing."""

import pytest
import torch

from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample, time_travel
from undiffuse.core.noise import SeededNoise
from undiffuse.core.state import State, fresh_noise, like_image, renoise

X = torch.zeros(2, 3, 4, 4, dtype=torch.float64)


def to_level(state, sigma_next):
    return State(state.x + 1, sigma_next, state.x, memory=(state.memory or 0) + 1)


def test_states():
    states = list(sample(to_level, X, karras(5)))
    assert [s.sigma.item() for s in states] == karras(5).tolist()
    assert states[0].x is X and states[0].x0 is None and states[0].memory is None
    assert torch.equal(states[-1].x, X + 5) and states[-1].memory == 5


def test_sigma_has_the_type_of_x():
    for state in sample(to_level, X.float(), karras(2)):
        assert state.sigma.dtype == torch.float32


def test_a_grid_for_each_image():
    sigmas = torch.stack([karras(3), karras(3, sigma_max=5.0)], 1)[:, :, None, None, None]
    assert last(sample(to_level, X, sigmas)).sigma.shape == (2, 1, 1, 1)
    with pytest.raises(ValueError, match="does not broadcast"):
        next(sample(to_level, X, sigmas[..., 0, 0, 0]))


def test_an_image_whose_grid_has_ended_is_left_alone():
    """Steps divide by sigma: what they say of an image at 0 is not asked."""

    def step(state, sigma_next):
        return State(state.x + sigma_next / state.sigma, sigma_next, state.x / state.sigma)

    ended = torch.tensor([2.0, 0.0, 0.0, 0.0]).double()
    sigmas = torch.stack([karras(3), ended], 1)[:, :, None, None, None]
    states = list(sample(step, X, sigmas))
    assert all(state.x.isfinite().all() and state.x0.isfinite().all() for state in states[1:])
    assert torch.equal(states[-1].x[1], states[1].x[1]) and torch.equal(states[-1].x0[1], states[1].x0[1])
    assert not torch.equal(states[-1].x[0], states[1].x[0])


@pytest.mark.parametrize("outside", [True, False])
def test_grad_mode_inside_and_outside(outside):
    inside = []

    def step(state, sigma_next):
        inside.append(torch.is_grad_enabled())
        return State(state.x, sigma_next)

    with torch.set_grad_enabled(outside):
        for _ in sample(step, X, karras(3)):
            assert torch.is_grad_enabled() == outside
        assert torch.is_grad_enabled() == outside
    assert inside == [False] * 3


def test_grad_mode_after_an_error_and_an_early_end():
    def fails(state, sigma_next):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        last(sample(fails, X, karras(3)))
    assert torch.is_grad_enabled()
    for _ in sample(to_level, X, karras(3)):
        break
    assert torch.is_grad_enabled()


def test_a_step_may_ask_for_gradients():
    def step(state, sigma_next):
        with torch.enable_grad():
            leaf = state.x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(leaf.square().sum(), leaf)
        return State(state.x - 0.5 * gradient + 1, sigma_next)

    assert torch.equal(last(sample(step, X, karras(3))).x, X + 1)


def test_only_what_is_asked_for_is_computed():
    states = sample(to_level, X, karras(1000))
    assert [next(states).sigma.item() for _ in range(3)] == karras(1000)[:3].tolist()


def test_last_of_nothing():
    with pytest.raises(ValueError, match="already used up"):
        last(iter(()))


def test_climbing_adds_the_missing_noise():
    """16384 pixels: a deviation is known to 0.6 %."""
    noise = SeededNoise([0])
    like = torch.zeros(1, 1, 128, 128, dtype=torch.float64)
    climb = time_travel(to_level, noise)
    state = State(0.5 + 2 * noise(like), torch.tensor(2.0).double(), like, memory="path")
    up = climb(state, torch.tensor(5.0).double())
    assert (up.x - 0.5).std().item() == pytest.approx(5, rel=0.025)
    assert (up.x - state.x).std().item() == pytest.approx(21**0.5, rel=0.025)
    assert up.memory is None and up.x0 is state.x0 and up.sigma == 5


def test_descending_is_the_step_itself():
    def never(like):
        raise AssertionError("noise drawn")

    state = State(X, torch.tensor(2.0).double())
    assert torch.equal(time_travel(to_level, never)(state, torch.tensor(1.0).double()).x, X + 1)


def test_images_turn_together():
    sigma = torch.tensor([2.0, 2.0]).double().reshape(2, 1, 1, 1)
    state = State(X, sigma)
    with pytest.raises(ValueError, match="turn together"):
        time_travel(to_level, SeededNoise([0, 1]))(
            state, sigma * torch.tensor([0.5, 2.0]).reshape(2, 1, 1, 1)
        )


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_renoise_keeps_the_level(eta):
    noise, like = SeededNoise([0]), torch.zeros(1, 1, 128, 128, dtype=torch.float64)
    eps, sigma = noise(like), torch.tensor(3.0).double()
    out = renoise(like + 0.5, eps, sigma, eta, noise) - 0.5
    assert out.std().item() == pytest.approx(3, rel=0.025)
    assert (out * eps).mean().item() / 3 == pytest.approx((1 - eta**2) ** 0.5, abs=0.04)


def test_fresh_noise_splits_the_level():
    sigma, sigma_next = torch.tensor(3.0).double(), torch.tensor(2.0).double()
    for eta in (0.0, 0.4, 1.0):
        down, up = fresh_noise(sigma, sigma_next, eta)
        assert (down**2 + up**2).item() == pytest.approx(4)
        assert up.item() == pytest.approx(eta * (4 * (9 - 4) / 9) ** 0.5)
    assert down.item() == pytest.approx(4 / 3)  # eta = 1: the mean of DDPM's posterior


def test_fresh_noise_of_a_long_step_in_float32():
    """down = sigma'^2 / sigma to rounding, where sigma'^2 - up^2 has lost every digit; at sigma = 0 nothing."""
    sigma, sigma_next = torch.tensor([80.0, 0.0]), torch.tensor([0.01, 0.0])
    down, up = fresh_noise(sigma, sigma_next, 1.0)
    assert down[0].item() == pytest.approx(1.25e-6, rel=1e-6) and up[0].item() == pytest.approx(0.01)
    assert down[1] == 0 and up[1] == 0


def test_like_image():
    assert like_image(2.0, X).dtype == torch.float64
    with pytest.raises(ValueError, match=r"sigma of shape \(2,\)"):
        like_image(torch.ones(2), X)
