"""Guidance on closed forms: a mixture's classes, whose guided answer is known."""

import pytest
import torch

from tests.small import CLASSES, changed, prior_of
from undiffuse.contracts import denoiser
from undiffuse.core.noise import SeededNoise
from undiffuse.priors import (
    Gaussian,
    GaussianMixture,
    autoguidance,
    cfg,
    cfg_interval,
    class_guided,
    classifier_guided,
    clipped,
)

MEANS = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
MIXTURE = GaussianMixture(MEANS, 0.1)
CLASS = Gaussian(MEANS[1], 0.1)
X = 2 * torch.randn(3, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
LEVELS = [torch.tensor(s, dtype=torch.float64) for s in (0.1, 1.0, 7.0)]


def log_class(x, sigma):
    return MIXTURE.responsibilities(x, sigma).log()[:, 1]


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sigma", LEVELS)
def test_exact_classifier_turns_the_mixture_into_its_class(sigma):
    """Bayes: log p(x|c) = log p(x) + log p(c|x) + const."""
    close(classifier_guided(MIXTURE, log_class, 1.0)(X, sigma), CLASS(X, sigma))


@pytest.mark.parametrize("sigma", LEVELS)
def test_cfg_is_classifier_guidance(sigma):
    for scale in (0.0, 0.5, 3.0):
        close(cfg(CLASS, MIXTURE, scale)(X, sigma), classifier_guided(MIXTURE, log_class, scale)(X, sigma))


def test_cfg_at_one_is_the_conditional_and_calls_nothing_else():
    def never(x, sigma, /):
        raise AssertionError("called")

    assert torch.equal(cfg(CLASS, never, 1.0)(X, LEVELS[1]), CLASS(X, LEVELS[1]))
    close(cfg(CLASS, MIXTURE, 0.0)(X, LEVELS[1]), MIXTURE(X, LEVELS[1]))


def test_cfg_on_an_interval():
    guided = cfg_interval(CLASS, MIXTURE, 3.0, 0.5, 2.0)
    sigma = torch.stack(LEVELS).reshape(3, 1, 1, 1)
    out = guided(X, sigma)
    close(out[[0, 2]], CLASS(X, sigma)[[0, 2]])
    close(out[1], cfg(CLASS, MIXTURE, 3.0)(X, sigma)[1])


def test_outside_the_interval_nothing_else_is_called():
    def never(x, sigma, /):
        raise AssertionError("called")

    for sigma in (LEVELS[0], LEVELS[2]):
        assert torch.equal(cfg_interval(CLASS, never, 3.0, 0.5, 2.0)(X, sigma), CLASS(X, sigma))
        assert torch.equal(autoguidance(CLASS, never, 3.0, (0.5, 2.0))(X, sigma), CLASS(X, sigma))


def test_guided_score_of_two_gaussians():
    """The extrapolated score has a closed form: that of N(m, v) with 1/(v + s^2) and m/(v + s^2) extrapolated."""
    to, away = Gaussian(MEANS[0], 0.1), Gaussian(MEANS[1], 0.5)
    for sigma in LEVELS:
        a, b = 1 / (0.1 + sigma**2), 1 / (0.5 + sigma**2)
        precision = b + 3 * (a - b)
        mean = (b * MEANS[1] + 3 * (a * MEANS[0] - b * MEANS[1])) / precision
        score = -precision * (X - mean)
        close(cfg(to, away, 3.0)(X, sigma), X + sigma**2 * score)


def test_autoguidance():
    bad = Gaussian(MEANS[1], 0.4)
    close(autoguidance(CLASS, bad, 2.0)(X, LEVELS[1]), 2 * CLASS(X, LEVELS[1]) - bad(X, LEVELS[1]))


def test_clipped():
    out = clipped(MIXTURE)(X, LEVELS[0])
    assert out.abs().max() == 1
    close(out, MIXTURE(X, LEVELS[0]).clamp(-1, 1))


def test_classifier_guidance_in_any_grad_mode():
    guided = classifier_guided(MIXTURE, log_class, 2.0)
    with torch.no_grad():
        quiet = guided(X, LEVELS[1])
        assert not torch.is_grad_enabled()
    assert not quiet.requires_grad
    leaf = X.clone().requires_grad_()
    close(guided(leaf, LEVELS[1]).detach(), quiet)
    assert not leaf.grad_fn and leaf.grad is None
    denoiser.can_be_differentiated(guided, X)


@pytest.mark.parametrize(
    "guided",
    [
        cfg(CLASS, MIXTURE, 1.5),
        cfg_interval(CLASS, MIXTURE, 1.5, 0.2, 5.0),
        classifier_guided(MIXTURE, log_class, 1.5),
    ],
)
def test_contract(guided):
    x0 = MIXTURE.sample(SeededNoise(range(3)), X)
    denoiser.denoiser_contract(guided, x0)


def test_refuses_an_empty_interval():
    with pytest.raises(ValueError, match="low < high"):
        cfg_interval(CLASS, MIXTURE, 2.0, 3.0, 1.0)
    with pytest.raises(ValueError, match="low < high"):
        class_guided(prior_of(CLASSES), torch.tensor([1]), scale=2.0, interval=(1.0, 1.0))


def test_guidance_in_one_call_equals_two():
    """In float64, where the sums of a larger batch differ in the last digits only."""
    prior = prior_of(CLASSES).double()
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    labels, calls = torch.tensor([2, 0, 1]), []
    prior.net.register_forward_hook(lambda *_: calls.append(1))
    for sigma in (torch.tensor(0.3).double(), torch.tensor([0.1, 1.0, 7.0]).double().reshape(3, 1, 1, 1)):
        expected = cfg(prior.given(labels), prior.given(), 2.5)(x, sigma)
        calls.clear()
        close(class_guided(prior, labels, scale=2.5)(x, sigma), expected)
        assert len(calls) == 1
        inside = class_guided(prior, labels, scale=2.5, interval=(0.2, 2.0))(x, sigma)
        close(inside, cfg_interval(prior.given(labels), prior.given(), 2.5, 0.2, 2.0)(x, sigma))
    close(class_guided(prior, labels, scale=1)(x, sigma), prior(x, sigma, labels))
    close(class_guided(prior, labels, scale=0)(x, sigma), prior(x, sigma))


def test_guidance_with_a_condition_and_a_variance():
    config = changed(CLASSES, {"in_channels": 3, "learned_variance": True}, prediction="eps", low_res="sr4")
    prior = prior_of(config).double()
    x, cond = torch.zeros(2, 1, 8, 8, dtype=torch.float64), torch.ones(2, 2, 8, 8, dtype=torch.float64)
    cond[1] = -0.5
    labels, sigma = torch.tensor([0, 2]), torch.tensor(1.0).double()
    for picture in (cond, cond[1:]):
        found = class_guided(prior, labels, picture, scale=3.0).predict(x, sigma)
        expected = cfg(prior.given(labels, picture), prior.given(None, picture), 3.0)(x, sigma)
        close(found.x0, expected)
        close(found.variance, prior.predict(x, sigma, labels, picture).variance)


def test_autoguidance_keeps_a_learned_variance():
    config = changed(CLASSES, {"learned_variance": True}, prediction="eps")
    good, bad = (prior_of(config, seed).double().given(torch.tensor([1, 2])) for seed in (0, 1))
    x, sigma = torch.ones(2, 1, 8, 8, dtype=torch.float64), LEVELS[1]
    found = clipped(autoguidance(good, bad, 2.0), -9, 9).predict(x, sigma)
    close(found.x0, 2 * good(x, sigma) - bad(x, sigma))
    close(found.variance, good.predict(x, sigma).variance)


def test_guidance_needs_a_null_class():
    config = changed(CLASSES, {"null_class": False}, null_class=False)
    prior = prior_of(config)
    assert class_guided(prior, torch.tensor([1]), scale=1).labels is not None
    with pytest.raises(ValueError, match="without class dropout"):
        class_guided(prior, torch.tensor([1]), scale=2)
    with pytest.raises(ValueError, match="classes 0 to 2"):
        class_guided(prior, torch.tensor([3]), scale=1)


def test_labels_of_another_number_than_the_images_are_refused():
    denoise = class_guided(prior_of(CLASSES), torch.tensor([0, 1, 2]), scale=2)
    with pytest.raises(ValueError, match=r"3 labels for 8 images; expected one an image, \(8,\)"):
        denoise(torch.zeros(8, 1, 8, 8), torch.tensor(1.0))
