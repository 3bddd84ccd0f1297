"""Losses by band of noise: known for a Gaussian, the same for any batches."""

import pytest
import torch
from torch import nn

from undiffuse.core.noise import SeededNoise
from undiffuse.priors import DiscreteSchedule, NoisyClassifier, Prior, scalings, schedules
from undiffuse.training import Band, LowRes, validate, validate_classifier

SPREAD = 0.25
EDGES = (0.05, 0.5, 2.0, 20.0)
IMAGES = 40


class Linear(nn.Module):
    """The exact F of N(0, SPREAD) for EDM's scaling with that deviation, which is 0; and a dropout, to have a mode."""

    def __init__(self):
        super().__init__()
        self.dropout, self.calls, self.seen = nn.Dropout(0.5), 0, []

    def forward(self, x, noise, labels):
        assert not self.training and not torch.is_grad_enabled()
        self.calls += 1
        self.seen.append((x.shape[1], (4 * noise).exp()))
        return torch.zeros_like(x[:, :3])


def exact(**options):
    return Prior(Linear(), scalings.edm(SPREAD**0.5), channels=3, **options)


def batches(size, count=IMAGES):
    clean = SPREAD**0.5 * SeededNoise(range(100, 100 + count))(torch.empty(count, 3, 8, 8))
    return [(part, None) for part in clean.split(size)]


def test_the_exact_denoiser_of_a_gaussian():
    """The loss of x0 at a level is v s^2 / (v + s^2); its mean over ln s is a logarithm, and so are the others'."""
    found = validate(exact(), batches(16), edges=EDGES, seed=0)
    assert [(band.low, band.high, band.images) for band in found] == [
        (0.05, 0.5, IMAGES),
        (0.5, 2.0, IMAGES),
        (2.0, 20.0, IMAGES),
    ]
    for band in found:
        s = torch.linspace(torch.tensor(band.low).log(), torch.tensor(band.high).log(), 10001).double().exp()
        x0 = SPREAD * s**2 / (SPREAD + s**2)
        for name, loss in {"x0": x0, "eps": x0 / s**2, "v": x0 * (1 + s**2) / s**2}.items():
            # 40 levels, and 192 numbers an image: 4 deviations of their mean, or of a few percent of it.
            floor = 4 * ((loss.std().item() / IMAGES**0.5) ** 2 + (0.016 * loss.mean().item()) ** 2) ** 0.5
            assert getattr(band, name) == pytest.approx(loss.mean().item(), abs=floor)


def test_levels_are_spread_over_their_band():
    prior = exact()
    validate(prior, batches(10**6, 2000), edges=(0.1, 10.0), seed=3)
    (_, levels), *_ = prior.net.seen
    logs = levels.log10()
    assert logs.min() >= -1 and logs.max() <= 1
    assert logs.mean() == pytest.approx(0, abs=4 * 2 / (12 * 2000) ** 0.5)
    assert logs.std() == pytest.approx(2 / 12**0.5, abs=0.03)


def test_each_band_has_draws_of_its_own():
    prior = exact()
    validate(prior, batches(40), edges=(0.1, 1.0, 10.0), seed=0)
    (_, one), (_, two) = prior.net.seen
    assert (two / one / 10 - 1).abs().min() > 1e-4  # the same places in both bands would be 10 apart


@pytest.mark.parametrize("size", [1, 7, 40])
def test_batches_do_not_matter(size):
    whole = validate(exact(), batches(16), edges=EDGES, seed=0)
    other = validate(exact(), batches(size), edges=EDGES, seed=0)
    for a, b in zip(whole, other, strict=True):
        assert a == pytest.approx(b, rel=1e-5)  # float32 sums in another order


def test_the_same_every_time_and_another_with_another_seed():
    first, again, other = (validate(exact(), batches(16), edges=EDGES, seed=seed) for seed in (0, 0, 1))
    assert first == again and first[0].x0 != other[0].x0
    wide = validate(exact(), batches(16), edges=(*EDGES, 40.0), seed=0)
    assert wide[:3] == first  # a band's noise does not depend on the others


def test_it_leaves_the_prior_as_it_was():
    prior = exact()
    prior.train()
    prior.net.dropout.eval()  # a part that is kept still
    validate(prior, batches(16), edges=EDGES, seed=0)
    assert prior.training and prior.net.training and not prior.net.dropout.training
    assert torch.is_grad_enabled()
    with pytest.raises(ValueError, match="this prior takes"):
        validate(prior, [(torch.zeros(1, 1, 4, 4), None)], edges=EDGES, seed=0)
    assert prior.training and torch.is_grad_enabled()


def test_conditions_are_made_for_it():
    condition = LowRes("sr4", (3, 8, 8), augmentation=0.3)
    prior = exact(conditions=4)
    whole = validate(prior, batches(16), edges=EDGES, seed=0, condition=condition)
    assert {channels for channels, _ in prior.net.seen} == {7}
    assert whole == validate(exact(), batches(16), edges=EDGES, seed=0)  # the same levels and noise


class Sign(nn.Module):
    """The exact logits for two means, -1 and 1 in one number, with deviation 1/2."""

    def forward(self, x, t):
        sigma = SCHEDULE.sigma(t.double()).to(x)
        total = (x.flatten(1) * (1 + sigma[:, None] ** 2).sqrt()).sum(1)
        half = total / (0.25 + sigma**2)
        return torch.stack((-half, half), 1)


SCHEDULE = DiscreteSchedule.from_betas(schedules.linear(1000))


def test_the_exact_classifier():
    """Right with probability Phi(1 / sqrt(1/4 + s^2)), within 4 deviations of 4000 images' mean."""
    count = 4000
    labels = torch.arange(count) % 2
    clean = (2.0 * labels - 1).reshape(-1, 1, 1, 1) + 0.5 * SeededNoise(range(count))(
        torch.empty(count, 1, 1, 1)
    )
    classifier = NoisyClassifier(Sign(), SCHEDULE)
    for size in (500, count):
        data = list(zip(clean.split(size), labels.split(size), strict=True))
        found = validate_classifier(classifier, data, edges=EDGES, seed=0)
        for band in found:
            s = (
                torch.linspace(torch.tensor(band.low).log(), torch.tensor(band.high).log(), 10001)
                .double()
                .exp()
            )
            right = torch.special.ndtr((0.25 + s**2).rsqrt()).mean().item()
            floor = 4 * (right * (1 - right) / count) ** 0.5
            assert band.accuracy == pytest.approx(right, abs=floor) and band.images == count
            assert 0 < band.cross_entropy < 0.7  # ln 2 for one who knows nothing
    assert [band.accuracy for band in found] == sorted((band.accuracy for band in found), reverse=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: validate(exact(), batches(16), edges=(1.0,), seed=0), "two or more noise levels"),
        (lambda: validate(exact(), batches(16), edges=(0.0, 1.0), seed=0), "the first above 0"),
        (lambda: validate(exact(), batches(16), edges=(1.0, 1.0), seed=0), "that rise"),
        (lambda: validate(exact(), [], edges=EDGES, seed=0), "no images"),
        (
            lambda: validate_classifier(NoisyClassifier(Sign(), SCHEDULE), batches(9), edges=EDGES, seed=0),
            "without labels",
        ),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_rows_have_names():
    assert Band._fields == ("low", "high", "eps", "x0", "v", "images")
