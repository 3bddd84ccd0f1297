"""Priors by k-diffusion's convention, in both directions."""

import importlib.util

import pytest
import torch

from tests.small import CLASSES, PHOTO, prior_of
from undiffuse.core import SeededNoise, last, sample
from undiffuse.core.grids import karras
from undiffuse.interop import k_diffusion
from undiffuse.samplers import euler

X = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_sigma_may_have_one_level_an_image():
    prior = prior_of(PHOTO)
    model = k_diffusion.model(prior)
    levels = torch.tensor([0.1, 1.0, 30.0])
    for i, level in enumerate(levels):
        assert torch.allclose(
            model(X, levels)[i], prior(X, level)[i], atol=1e-5
        )  # batches are computed in other sums
    assert torch.equal(model(X, torch.tensor(1.0)), prior(X, torch.tensor(1.0)))
    assert (model.sigma_min, model.sigma_max) == prior.sigma_range


def test_labels_go_through():
    prior, x, labels = prior_of(CLASSES), X[:, :1], torch.tensor([0, 1, 2])
    model, sigma = k_diffusion.model(prior), torch.full((3,), 2.0)
    assert torch.equal(model(x, sigma, labels=labels), prior(x, torch.tensor(2.0), labels))
    assert not torch.equal(model(x, sigma, labels=labels), model(x, sigma))


def test_there_and_back_is_the_prior():
    prior, labels = prior_of(CLASSES), torch.tensor([2, 0, 1])
    denoise = k_diffusion.denoiser(k_diffusion.model(prior), labels=labels)
    for sigma in (torch.tensor(0.5), torch.tensor([0.1, 1.0, 9.0]).reshape(3, 1, 1, 1)):
        assert torch.allclose(denoise(X[:, :1], sigma), prior(X[:, :1], sigma, labels), atol=1e-6)


def test_a_model_that_answers_otherwise():
    with pytest.raises(ValueError, match="answers"):
        k_diffusion.denoiser(lambda x, sigma: x[:, :1])(X, torch.tensor(1.0))


def test_its_loop_ends_where_ours_does():
    """Euler's rule as k-diffusion writes it: d = (x - D(x, sigma)) / sigma, x + d (sigma_next - sigma)."""
    prior, sigmas = prior_of(PHOTO), karras(8, sigma_max=20).float()
    ours = last(sample(euler(prior, SeededNoise([0, 1, 2])), sigmas[0] * X, sigmas)).x
    model, x = k_diffusion.model(prior), sigmas[0] * X
    with torch.no_grad():
        for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
            x = x + (x - model(x, sigma * x.new_ones(3))) / sigma * (after - sigma)
    assert torch.allclose(x, ours, atol=1e-4)  # eight steps of float32 from 20


@pytest.mark.skipif(importlib.util.find_spec("k_diffusion") is None, reason="no k-diffusion")
def test_k_diffusions_own_loop():
    from k_diffusion.sampling import sample_euler

    prior, sigmas = prior_of(PHOTO), karras(8, sigma_max=20).float()
    ours = last(sample(euler(prior, SeededNoise([0, 1, 2])), sigmas[0] * X, sigmas)).x
    theirs = sample_euler(k_diffusion.model(prior), sigmas[0] * X, sigmas, disable=True)
    assert torch.allclose(theirs, ours, atol=1e-4)
