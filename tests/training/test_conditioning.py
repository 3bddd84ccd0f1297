"""What a prior is conditioned on: A^+ (A x0 + s e), and s."""

import pytest
import torch
from torch import nn

from undiffuse.core.noise import SeededNoise
from undiffuse.operators import build
from undiffuse.priors import Prior, scalings
from undiffuse.training import WEIGHTS, Denoising, LowRes, denoising_loss, lognormal

SHAPE = (3, 8, 8)
CLEAN = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def noise(count=6, first=0):
    return SeededNoise(range(first, first + count))


def test_without_noise_it_is_what_the_measurement_says_and_nothing_else():
    condition = LowRes("sr4", SHAPE)
    cond = condition(CLEAN, noise())
    means = nn.functional.avg_pool2d(CLEAN, 4)
    torch.testing.assert_close(cond[:, :3], nn.functional.interpolate(means, scale_factor=4))
    assert (cond[:, 3] == 0).all() and cond.shape == (6, condition.channels, 8, 8)
    torch.testing.assert_close(condition.measured(means), cond)


@pytest.mark.parametrize("term", ["sr2", "sr_bicubic4", "color", "inp:missing=0.5"])
def test_the_picture_measured_again_is_the_measurement(term):
    condition = LowRes(term, (3, 16, 16), augmentation=0.5).double()
    A, y = condition.operator, build(term, (3, 16, 16))(torch.randn(2, 3, 16, 16, dtype=torch.float64))
    cond = condition.measured(y, torch.tensor([0.0, 0.5]))
    assert cond.dtype == torch.float64
    torch.testing.assert_close(A(cond[:, :3]), y, rtol=0, atol=1e-6)  # float32 kernels, converted back
    assert (cond[:, 3] == torch.tensor([0.0, 0.5])[:, None, None]).all()


def test_the_noise_is_that_of_the_level_it_tells():
    """White in the measurement: its deviation there over s is 1 within 4 standard errors of 12288 numbers."""
    shape = (3, 256, 256)
    clean = torch.zeros(1, *shape)
    condition = LowRes("sr4", shape, augmentation=0.5)
    for seed in range(3):
        cond = condition(clean, noise(1, seed))
        s = cond[0, 3, 0, 0]
        ratio = condition.operator(cond[:, :3]).std() / s
        assert ratio == pytest.approx(1, abs=4 / (2 * 12288) ** 0.5)


def test_levels_are_uniform():
    """The mean of 4000 levels, whose deviation is a / sqrt(12), within 4 standard errors, and the quartiles near."""
    condition = LowRes("sr2", (1, 2, 2), augmentation=0.4)
    s = condition(torch.zeros(4000, 1, 2, 2), noise(4000))[:, 1, 0, 0]
    assert s.mean() == pytest.approx(0.2, abs=4 * 0.4 / (12 * 4000) ** 0.5)
    assert s.quantile(0.25) == pytest.approx(0.1, abs=0.012)  # 4 standard errors again
    assert s.min() >= 0 and s.max() <= 0.4


def test_each_image_has_its_own_draws():
    condition = LowRes("sr_bicubic4", (3, 16, 16), augmentation=0.5)
    clean = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    together = condition(clean, noise(4))
    for i in range(4):
        torch.testing.assert_close(condition(clean[i : i + 1], noise(1, i)), together[i : i + 1])


@pytest.mark.parametrize("term", ["sr_bicubic4", "color", "cs2"])
def test_autocast_does_not_reach_it(term):
    condition = LowRes(term, (3, 16, 16))
    clean = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    wide = condition(clean, noise(2)), condition.measured(condition.operator(clean))
    y = condition.operator(clean)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = condition(clean, noise(2)), condition.measured(y)
    assert torch.equal(narrow[0], wide[0]) and torch.equal(narrow[1], wide[1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LowRes("jpeg:quality=50", SHAPE), "not linear"),
        (lambda: LowRes("deblur_gauss", (3, 32, 32)), "enlarges noise .* times; expected at most 10"),
        (lambda: LowRes("sr3", SHAPE), "no degradation named 'sr3'"),
        (lambda: LowRes("sr4", SHAPE, augmentation=-1), "augmentation = -1"),
        (lambda: LowRes("sr4", SHAPE).measured(torch.zeros(1, 3, 4, 4)), r"'sr4' gives \(B, 3, 2, 2\)"),
        (
            lambda: LowRes("sr4", SHAPE).measured(torch.zeros(1, 3, 2, 2), 0.1),
            "sigma_y = 0.1; .* from 0 to 0",
        ),
        (
            lambda: LowRes("sr4", SHAPE).measured(torch.zeros(2, 3, 2, 2), torch.zeros(3)),
            r"number, or \(2,\)",
        ),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Net(nn.Module):
    """Told nothing of level or label; sees the condition."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(7, 3, 3, padding=1)

    def forward(self, x, level, labels):
        return self.conv(x)


def objective(**options):
    prior = Prior(Net(), scalings.edm(0.5), channels=3, conditions=4)
    return Denoising(prior, lognormal(), WEIGHTS["edm"], condition=LowRes("sr4", SHAPE, **options))


def test_training_shows_the_network_the_condition():
    """With noise muted the loss is the plain one, at one level, for cond = A^+ A x0."""
    found = objective(augmentation=0.3)
    loss = found(CLEAN, None, torch.zeros_like)
    cond = found.condition(CLEAN, torch.zeros_like)
    assert (cond[:, 3] == torch.tensor(0.15)).all()
    level = torch.tensor(-1.2).exp().expand(6)
    expected = denoising_loss(
        found.model, CLEAN, None, level, torch.zeros_like(CLEAN), weight=WEIGHTS["edm"], cond=cond
    )
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    assert found.model.net.conv.weight.grad[:, 3:6].abs().max() > 0


def test_an_image_has_the_same_loss_in_any_batch():
    found = objective(augmentation=0.3)
    together = found(CLEAN, None, noise())
    alone = torch.cat([found(CLEAN[i : i + 1], None, noise(1, i)) for i in range(6)])
    torch.testing.assert_close(alone, together)


def test_prior_and_condition_have_to_fit():
    prior = Prior(Net(), scalings.edm(0.5), channels=3, conditions=3)
    with pytest.raises(ValueError, match="a condition of 4 channels for a prior that takes 3"):
        Denoising(prior, lognormal(), WEIGHTS["edm"], condition=LowRes("sr4", SHAPE))
    with pytest.raises(ValueError, match="a condition of 0 channels for a prior that takes 3"):
        Denoising(prior, lognormal(), WEIGHTS["edm"])
