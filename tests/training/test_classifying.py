"""A classifier of noisy images, against the posterior of a mixture whose classes are known."""

import pytest
import torch
from torch import nn

from undiffuse.core.noise import SeededNoise
from undiffuse.priors import (
    DiscreteSchedule,
    Gaussian,
    GaussianMixture,
    NoisyClassifier,
    classifier_guided,
    schedules,
)
from undiffuse.training import Classifying, levels_of, validate_classifier

SCHEDULE = DiscreteSchedule.from_betas(schedules.linear(200))
MEANS = torch.tensor([[-0.5, -0.2], [0.4, 0.5]]).reshape(2, 2, 1, 1)
SPREAD = 0.15
MIXTURE = GaussianMixture(MEANS, SPREAD)
LEVELS = (0.03, 0.3, 1.0, 4.0)


class Posterior(nn.Module):
    """The exact logits, from what a variance-preserving network is shown and told."""

    def forward(self, x, t):
        sigma = SCHEDULE.sigma(t.double()).to(x).reshape(-1, 1, 1, 1)
        return MIXTURE.responsibilities(x * (1 + sigma**2).sqrt(), sigma).log()


class Small(nn.Module):
    """Two hidden layers on two numbers and the sines of the timestep."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(10, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)
        )
        self.register_buffer("waves", 2.0 ** torch.arange(4) / 200)

    def forward(self, x, t):
        told = t.reshape(-1, 1) * self.waves
        return self.layers(torch.cat([x.flatten(1), told.sin(), told.cos()], 1).to(x.dtype))


def data(noise, count):
    labels = torch.arange(count) % 2
    return MEANS[labels] + SPREAD**0.5 * noise(torch.empty(count, 2, 1, 1)), labels


@pytest.mark.parametrize("level", LEVELS)
def test_it_is_shown_and_told_what_a_variance_preserving_network_knows(level):
    classifier = NoisyClassifier(Posterior(), SCHEDULE).double()
    x = 2 * torch.randn(5, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor(level, dtype=torch.float64)
    exact = MIXTURE.responsibilities(x, sigma)
    torch.testing.assert_close(classifier(x, sigma).softmax(1), exact, rtol=1e-6, atol=1e-9)
    labels = torch.tensor([0, 1, 1, 0, 1])
    found = classifier.log_prob(labels)(x, sigma.expand(5, 1, 1, 1))
    torch.testing.assert_close(found.exp(), exact[torch.arange(5), labels], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("level", LEVELS)
def test_the_exact_one_guides_the_mixture_to_its_class(level):
    """Bayes: the guided denoiser of all classes is that of the one, so that the gradient is right in scale too."""
    classifier = NoisyClassifier(Posterior(), SCHEDULE)
    x = 2 * torch.randn(5, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor(level, dtype=torch.float64)
    guided = classifier_guided(MIXTURE, classifier.log_prob(torch.ones(5, dtype=torch.long)))
    one = Gaussian(MEANS[1].double(), SPREAD)(x, sigma)
    torch.testing.assert_close(guided(x, sigma), one, rtol=0, atol=1e-6)  # MEANS are float32


def test_training_approaches_the_posterior():
    """By level: the mean error of the probability and of the guidance falls far below that of not knowing the class."""
    torch.manual_seed(0)
    classifier = NoisyClassifier(Small(), SCHEDULE)
    objective = Classifying(classifier, levels_of(SCHEDULE))
    assert objective.model is classifier
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-2)
    steps = 500
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, steps)
    generator = torch.Generator().manual_seed(0)

    def noise(like):
        return torch.randn(like.shape, generator=generator, dtype=like.dtype)

    for _ in range(steps):
        optimizer.zero_grad()
        objective(*data(noise, 512), noise).mean().backward()
        optimizer.step()
        scheduler.step()
    clean, labels = data(noise, 4000)
    n = noise(clean)
    for level in LEVELS:
        sigma = torch.tensor(level)
        x = clean + sigma * n
        exact = MIXTURE.responsibilities(x, sigma)[:, 1]
        with torch.no_grad():
            found = classifier(x, sigma).softmax(1)[:, 1]
        mean = MEANS[labels]
        wanted = mean + SPREAD / (SPREAD + sigma**2) * (x - mean) - MIXTURE(x, sigma)
        guided = classifier_guided(MIXTURE, classifier.log_prob(labels))(x, sigma) - MIXTURE(x, sigma)
        assert (
            found - exact
        ).abs().mean() < 0.02  # of a network with 5000 weights; p = 1/2 errs by 0.06 to 0.43
        assert (guided - wanted).square().mean() < 0.06 * wanted.square().mean()
    edges = (0.03, 0.3, 1.0, 4.0)
    best = NoisyClassifier(Posterior(), SCHEDULE)
    for ours, floor in zip(
        validate_classifier(classifier, [(clean, labels)], edges=edges, seed=0),
        validate_classifier(best, [(clean, labels)], edges=edges, seed=0),
        strict=True,
    ):
        # The same images and noise: the excess is the mean divergence of the probabilities, 0 or more but for chance.
        assert -0.002 < ours.cross_entropy - floor.cross_entropy < 0.01
        assert ours.accuracy == pytest.approx(floor.accuracy, abs=0.01)


def test_an_image_has_the_same_loss_in_any_batch():
    torch.manual_seed(0)
    objective = Classifying(NoisyClassifier(Small(), SCHEDULE), levels_of(SCHEDULE))
    clean, labels = data(SeededNoise(range(6)), 6)
    together = objective(clean, labels, SeededNoise(range(6)))
    for i in range(6):
        alone = objective(clean[i : i + 1], labels[i : i + 1], SeededNoise([i]))
        torch.testing.assert_close(alone, together[i : i + 1])


def test_the_answer_is_as_wide_as_the_image():
    classifier = NoisyClassifier(Small().bfloat16(), SCHEDULE)
    assert classifier(torch.zeros(3, 2, 1, 1), torch.tensor(1.0)).dtype == torch.float32


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "without labels"),
        (torch.zeros(2), "float32; expected one integer an image"),
        (torch.zeros(3, dtype=torch.long), r"expected one integer an image, \(2,\)"),
    ],
)
def test_refuses_to_train(labels, message):
    objective = Classifying(NoisyClassifier(Small(), SCHEDULE), levels_of(SCHEDULE))
    with pytest.raises(ValueError, match=message):
        objective(torch.zeros(2, 2, 1, 1), labels, SeededNoise(range(2)))


def test_refuses_labels_that_it_does_not_know():
    classifier = NoisyClassifier(Small(), SCHEDULE)
    with pytest.raises(ValueError, match="labels from 1 to 2; this classifier has classes 0 to 1"):
        classifier.log_prob(torch.tensor([1, 2]))(torch.zeros(2, 2, 1, 1), torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"expected one integer an image, \(2,\)"):
        classifier.log_prob(torch.tensor([1]))(torch.zeros(2, 2, 1, 1), torch.tensor(1.0))
    with pytest.raises(ValueError, match="expected one integer an image"):
        classifier.log_prob(torch.tensor(1))
