"""Networks as denoisers: from the network that a closed form implies, each scaling gives it back."""

import pickle

import pytest
import torch
from torch import nn

from tests.networks.weights import seeded
from undiffuse.contracts import denoiser
from undiffuse.core.noise import SeededNoise
from undiffuse.networks.photo import PhotoConfig
from undiffuse.priors import DiscreteSchedule, Gaussian, Prior, scalings, schedules

SHAPE = (3, 5, 7)
SCHEDULE = DiscreteSchedule.from_betas(schedules.linear())
EXACT = Gaussian(0.2, 0.3)


class Implied(nn.Module):
    """The F that a parameterisation wants for EXACT, from its input and the level it is told."""

    def __init__(self, into, level, answer, channels=1):
        super().__init__()
        self.into, self.level, self.answer, self.channels = into, level, answer, channels

    def forward(self, x_in, told, labels):
        sigma = self.level(told.double()).to(x_in).reshape(-1, 1, 1, 1)
        x = x_in / self.into(sigma)
        out = self.answer(x, EXACT(x, sigma), sigma)
        return out.repeat(1, self.channels, 1, 1)


def preserve(s):
    return (1 + s**2) ** -0.5


def from_t(t):
    return SCHEDULE.sigma(t)


NETS = {
    "eps": (scalings.eps(SCHEDULE), Implied(preserve, from_t, lambda x, x0, s: (x - x0) / s)),
    "v": (
        scalings.v(SCHEDULE),
        Implied(preserve, from_t, lambda x, x0, s: preserve(s) * ((x - x0) / s - s * x0)),
    ),
    "x0": (scalings.x0(SCHEDULE), Implied(preserve, from_t, lambda x, x0, s: x0)),
    "edm": (
        scalings.edm(0.5),
        Implied(
            lambda s: (s**2 + 0.25) ** -0.5,
            lambda told: (4 * told).exp(),
            lambda x, x0, s: (x0 - 0.25 / (s**2 + 0.25) * x) * (s**2 + 0.25) ** 0.5 / (0.5 * s),
        ),
    ),
    "flow": (
        scalings.flow(1000.0),
        Implied(lambda s: 1 / (1 + s), lambda told: told / (1000 - told), lambda x, x0, s: (x - x0) / s - x0),
    ),
}


@pytest.fixture(params=NETS)
def prior(request):
    scaling, net = NETS[request.param]
    return Prior(net, scaling, channels=3)


def test_every_scaling_gives_the_closed_form(prior):
    x = torch.randn(4, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for level in (0.011, 0.3, 2.0, 90.0):
        sigma = torch.tensor(level, dtype=torch.float64)
        torch.testing.assert_close(prior(x * level, sigma), EXACT(x * level, sigma), rtol=1e-9, atol=1e-9)
    each = torch.tensor([0.011, 0.3, 2.0, 90.0], dtype=torch.float64).reshape(4, 1, 1, 1)
    torch.testing.assert_close(prior(x * each, each), EXACT(x * each, each), rtol=1e-9, atol=1e-9)


class Tame(nn.Module):
    """A small network: row by row, finite everywhere, in float32."""

    def __init__(self, channels=3, outputs=3):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, x, level, labels):
        shift = 0 if labels is None else labels.to(x).reshape(-1, 1, 1, 1)
        return self.conv(x).tanh() + (level / 1000).sin().reshape(-1, 1, 1, 1) + shift


@pytest.mark.parametrize("name", ["eps", "v", "edm", "flow"])
def test_contract(name):
    """Not x0, whose network alone decides what it says as sigma goes to 0."""
    prior = Prior(Tame(), NETS[name][0], channels=3)
    x0 = 0.5 * torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        denoiser.denoiser_contract(prior, x0)


@pytest.mark.parametrize("name", sorted(NETS))
def test_travels_to_another_process(name):
    prior = Prior(Tame(), scalings.told(NETS[name][0], 2.0), channels=3)
    x, sigma = torch.randn(2, *SHAPE), torch.tensor(0.3)
    with torch.no_grad():
        assert torch.equal(pickle.loads(pickle.dumps(prior))(x, sigma), prior(x, sigma))


@pytest.mark.parametrize("name", ["eps", "v", "edm", "flow"])
def test_sigma_zero_returns_x(name):
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Prior(Tame(), NETS[name][0], channels=3)(x, torch.tensor(0.0)), x)


def test_state_stays_wide_around_a_narrow_network():
    """bfloat16 inside costs digits of the network's answer, not of the state."""
    prior = Prior(Tame().bfloat16(), NETS["eps"][0], channels=3)
    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    answer = prior(x, torch.tensor(0.01).double())
    assert answer.dtype == torch.float64
    torch.testing.assert_close(
        answer,
        Prior(Tame().double(), NETS["eps"][0], channels=3)(x, torch.tensor(0.01).double()),
        rtol=0,
        atol=4e-4,
    )


def test_learned_variance_is_kept_apart():
    prior = Prior(Tame(3, 6), NETS["eps"][0], channels=3)
    x = SeededNoise([0, 1])(torch.zeros(2, *SHAPE))
    sigma = torch.tensor(1.5)
    prediction = prior.predict(x, sigma)
    raw = prior.net(x * (1 + 1.5**2) ** -0.5, SCHEDULE.t(sigma).expand(2), None)
    torch.testing.assert_close(prediction.x0, x - 1.5 * raw[:, :3])
    torch.testing.assert_close(prediction.variance, raw[:, 3:])
    assert torch.equal(prior(x, sigma), prediction.x0)
    assert Prior(Tame(), NETS["eps"][0], channels=3).predict(x, sigma).variance is None


def test_labels():
    prior = Prior(Tame(), NETS["eps"][0], channels=3, num_classes=10)
    x, sigma = torch.zeros(2, *SHAPE), torch.tensor(1.0)
    labels = torch.tensor([3, 9])
    given = prior.given(labels)
    assert torch.equal(given(x, sigma), prior(x, sigma, labels))
    assert torch.equal(given.predict(x, sigma).x0, prior(x, sigma, labels))
    assert torch.equal(prior.given()(x, sigma), prior(x, sigma))
    assert not torch.equal(given(x, sigma), prior(x, sigma))


def test_null_class():
    """The label num_classes of training with dropped labels is the same as no labels."""
    config = PhotoConfig(in_channels=3, widths=(8, 8), blocks=1, embedding=8, num_classes=10, null_class=True)
    net = seeded(config.build(), 0)
    prior = Prior(net, scalings.edm(0.5), channels=3, num_classes=10, null_class=True)
    x, sigma = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor(1.0)
    dropped = prior(x, sigma, torch.tensor([3, 10]))
    assert torch.equal(dropped[1], prior(x, sigma)[1]) and not torch.equal(dropped[0], prior(x, sigma)[0])
    with pytest.raises(ValueError, match="labels from 3 to 11; .* 0 to 9, and 10 for none"):
        prior.given(torch.tensor([3, 11]))


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (None, torch.tensor([0, 0]), "without classes; leave them out"),
        (10, torch.tensor([0, 10]), "labels from 0 to 10; this prior has classes 0 to 9"),
        (10, torch.tensor([-1, 0]), "labels from -1"),
        (10, torch.tensor([1.0, 2.0]), "float32"),
        (10, torch.tensor([True, False]), "torch.bool"),
        (10, torch.tensor(1), r"shape \(\)"),
    ],
)
def test_refuses_labels(classes, labels, message):
    prior = Prior(Tame(), NETS["eps"][0], channels=3, num_classes=classes)
    with pytest.raises(ValueError, match=message):
        prior.given(labels)
    if "from" not in message:  # predict reads no values
        with pytest.raises(ValueError, match=message):
            prior(torch.zeros(2, *SHAPE), torch.tensor(1.0), labels)


def test_refuses_another_number_of_labels():
    prior = Prior(Tame(), NETS["eps"][0], channels=3, num_classes=10)
    with pytest.raises(ValueError, match=r"expected one integer an image, \(2,\)"):
        prior.given(torch.tensor([1]))(torch.zeros(2, *SHAPE), torch.tensor(1.0))


class Named(nn.Module):
    """A network that answers with the label it was given."""

    def __init__(self, labels):
        super().__init__()
        self.table = nn.Embedding(labels, 1)
        nn.init.zeros_(self.table.weight)
        with torch.no_grad():
            self.table.weight += torch.arange(labels)[:, None]

    def forward(self, x, level, labels):
        return self.table(labels).reshape(-1, 1, 1, 1).expand_as(x)


def test_null_class_of_any_network():
    """labels=None is the class of that number, asked for by number or not, whatever the network makes of None."""
    prior = Prior(Named(4), scalings.x0(SCHEDULE), channels=3, num_classes=3, null_class=True)
    x, sigma = torch.zeros(2, *SHAPE), torch.tensor(1.0)
    assert (prior.given(torch.tensor([3, 0]))(x, sigma)[:, 0, 0, 0] == torch.tensor([3.0, 0.0])).all()
    assert (prior(x, sigma) == 3).all()
    with pytest.raises(ValueError, match="labels from 0 to 4; this prior has classes 0 to 2, and 3 for none"):
        prior.given(torch.tensor([0, 4]))
    with pytest.raises(ValueError, match="classes 0 to 2$"):
        Prior(Named(4), scalings.x0(SCHEDULE), channels=3, num_classes=3).given(torch.tensor([0, 3]))


def test_labels_that_nobody_checked_are_refused_by_the_embedding():
    prior = Prior(Named(3), scalings.x0(SCHEDULE), channels=3, num_classes=3)
    with pytest.raises(IndexError):
        prior(torch.zeros(2, *SHAPE), torch.tensor(1.0), torch.tensor([0, 3]))


def test_predict_reads_no_values():
    """Which would stall an accelerator: tensors without data have none to read."""
    net = Tame(5, 3).to("meta")
    prior = Prior(net, scalings.edm(0.5), channels=3, num_classes=10, null_class=True, conditions=2)
    x, cond = torch.zeros(2, *SHAPE, device="meta"), torch.zeros(1, 2, *SHAPE[1:], device="meta")
    labels, sigma = torch.zeros(2, dtype=torch.long, device="meta"), torch.ones(2, 1, 1, 1, device="meta")
    assert prior(x, sigma, labels, cond).shape == x.shape
    assert prior(x, sigma, None, cond).shape == x.shape


class Shown(nn.Module):
    """A network that answers with its further channels, and keeps what it saw."""

    def forward(self, x, level, labels):
        self.x = x
        return x[:, 3:]


def test_the_condition_is_shown_as_it_is():
    """Behind x, and not scaled with it."""
    prior = Prior(Shown(), scalings.x0(SCHEDULE), channels=3, conditions=3)
    x, cond = (SeededNoise(seeds)(torch.zeros(2, *SHAPE)) for seeds in ([0, 1], [2, 3]))
    sigma = torch.tensor(7.0)
    assert torch.equal(prior(x, sigma, None, cond), cond)
    torch.testing.assert_close(prior.net.x[:, :3], x / 50**0.5)
    given = prior.given(cond=cond)
    assert torch.equal(given(x, sigma), cond) and torch.equal(given.predict(x, sigma).x0, cond)
    assert torch.equal(prior.given(cond=cond[:1])(x, sigma), cond[:1].expand_as(x))


@pytest.mark.parametrize(
    ("conditions", "cond", "message"),
    [
        (4, None, r"conditioned on a picture, \(B, 4, H, W\)"),
        (0, torch.zeros(2, 4, 5, 7), "this prior takes none, leave it out"),
        (4, torch.zeros(2, 3, 5, 7), r"expected floats \(2, 4, 5, 7\), or one for all"),
        (4, torch.zeros(3, 4, 5, 7), r"expected floats \(2, 4, 5, 7\)"),
        (4, torch.zeros(2, 4, 7, 5), r"expected floats \(2, 4, 5, 7\)"),
        (4, torch.zeros(2, 4, 5, 7, dtype=torch.uint8), "uint8; expected floats"),
    ],
)
def test_refuses_conditions(conditions, cond, message):
    prior = Prior(Tame(), NETS["eps"][0], channels=3, conditions=conditions)
    with pytest.raises(ValueError, match=message):
        prior(torch.zeros(2, *SHAPE), torch.tensor(1.0), None, cond)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Prior(Tame(), NETS["eps"][0], channels=3, sigma_range=(2.0, 1.0)), "lowest < highest"),
        (
            lambda: Prior(Tame(), NETS["eps"][0], channels=3)(torch.zeros(1, 1, 4, 4), torch.tensor(1.0)),
            "takes",
        ),
        (
            lambda: Prior(Tame(3, 4), NETS["eps"][0], channels=3)(torch.zeros(1, 3, 4, 4), torch.tensor(1.0)),
            "4 chan",
        ),
        (lambda: scalings.edm(0.0), "sigma_data = 0.0"),
        (lambda: Prior(Tame(), NETS["eps"][0], channels=3, null_class=True), "null_class without classes"),
        (lambda: Prior(Tame(), NETS["eps"][0], channels=3, conditions=-1), "conditions = -1"),
        (lambda: Prior(Tame(), NETS["eps"][0], channels=3, conditions=4).given(), "conditioned on a picture"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
