"""Size students: the share that was asked for, the teacher's weights where they fit, and matching it level by level."""

import math

import pytest
import torch
from torch import nn

from tests.networks.weights import seeded
from undiffuse.checkpoints import PriorConfig
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.distil.matching import Matching
from undiffuse.distil.students import inherit, parameters, student
from undiffuse.distil.teacher import Guided
from undiffuse.priors import Prior, scalings
from undiffuse.training import WEIGHTS, denoising_loss, lognormal

PHOTO = {"name": "photo", "widths": [64, 96, 128], "blocks": 2}
DDPM = {"name": "ddpm", "width": 128, "multipliers": [1, 2, 2, 2], "blocks": 2, "attention": [1]}
ADM = {
    "name": "adm", "width": 192, "multipliers": [1, 2, 3, 4], "blocks": 3, "attention": [1, 2, 3],
    "head_channels": 64, "resblock_updown": True, "learned_variance": True,
}  # fmt: skip
SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def described(network, **options):
    levels = (
        {"prediction": "edm"} if network["name"] == "photo" else {"prediction": "eps", "schedule": "cosine"}
    )
    return PriorConfig(network=network, channels=3, size=(32, 32), **levels, **options)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("network", [PHOTO, DDPM, ADM], ids=lambda network: network["name"])
def test_a_student_has_its_share_of_parameters(network, share):
    teacher = described(network)
    made = student(teacher, share)
    # 10 % is what is promised; share 1 leaves out a learned variance, which is less than that.
    assert parameters(made) == pytest.approx(share * parameters(teacher), rel=0.1)
    levels = len(made.network_config().widths)
    assert levels == len(teacher.network_config().widths) - (share < 0.1)
    assert made.model_copy(update={"network": None}) == teacher.model_copy(update={"network": None})


@pytest.mark.parametrize("network", [PHOTO, DDPM], ids=lambda network: network["name"])
@pytest.mark.parametrize("share", (0.05, 0.3))
def test_a_student_is_a_network_that_runs(network, share):
    net = student(described(network), share).build_network()
    x = torch.randn(1, 3, 32, 32)
    assert net(x, torch.tensor([1.0])).shape == x.shape


@pytest.mark.parametrize("share", (0.0, -0.3, 1.01, math.nan))
def test_shares_that_are_none(share):
    with pytest.raises(ValueError, match="more than 0, at most 1"):
        student(described(PHOTO), share)


def test_a_share_that_no_network_has():
    tiny = described({"name": "photo", "widths": [4], "blocks": 1, "embedding": 2, "groups": 1})
    with pytest.raises(ValueError, match=r"size 0.01 of [\d,]+ parameters: no such network; the nearest has"):
        student(tiny, 0.01)


def test_the_whole_teacher_is_the_teacher_exactly():
    teacher = described({**PHOTO, "widths": [8, 16]})
    net = seeded(teacher.build_network(), 0)
    copy = student(teacher, 1.0).build_network()
    assert inherit(copy, net) == 1.0
    x, noise = torch.randn(2, 3, 16, 16), torch.tensor([0.1, -0.4])
    assert torch.equal(copy(x, noise), net(x, noise))


def test_the_whole_teacher_without_its_variance_answers_the_same():
    sizes = {"width": 32, "multipliers": [1, 1], "blocks": 1, "attention": [1], "heads": 4}
    teacher = described({"name": "adm", **sizes, "learned_variance": True})
    net = seeded(teacher.build_network(), 0)
    copy = student(teacher, 1.0).build_network()
    assert inherit(copy, net) == 1.0
    x, noise = torch.randn(2, 3, 16, 16), torch.tensor([10.0, 400.0])
    answer, whole = copy(x, noise), net(x, noise)
    assert answer.shape[1] == 3 and whole.shape[1] == 6
    # The last convolution has half the filters: its sums are taken in another order.
    torch.testing.assert_close(answer, whole[:, :3], rtol=1e-5, atol=1e-5)


def test_weights_are_inherited_from_the_front_and_others_stay():
    teacher, mine = nn.Linear(4, 5), nn.Linear(3, 5)
    other = nn.Sequential(nn.Linear(6, 2))
    before = other[0].weight.clone()
    share = inherit(mine, teacher)
    assert share == 1.0
    assert torch.equal(mine.weight, teacher.weight[:, :3]) and torch.equal(mine.bias, teacher.bias)
    assert (
        inherit(other, nn.Sequential(nn.Linear(5, 2))) == 2 / 14
    )  # the bias fits, the wider weight does not
    assert torch.equal(other[0].weight, before)


class Slope(nn.Module):
    """x0 = slope x, with the scaling of `plain`."""

    def __init__(self, slope, classes=False):
        super().__init__()
        self.slope, self.classes = nn.Parameter(torch.tensor(float(slope))), classes

    def forward(self, x, noise, labels=None):
        return self.slope * x * (1 if not self.classes or labels is None else 1 + labels.reshape(-1, 1, 1, 1))


def plain(slope, classes=None):
    scaling = scalings.edm(1.0)
    return Prior(
        Slope(slope, classes is not None),
        scaling,
        channels=1,
        num_classes=classes,
        null_class=classes is not None,
    )


def loss_of(objective, clean, labels=None):
    return objective(clean, labels, SeededNoise(image_seeds(3, [f"train/{i}" for i in range(len(clean))])))


def test_matching_is_zero_for_the_teacher_itself_and_trains_the_student_only():
    teacher, clean = plain(0.7), torch.randn(6, 1, 4, 4)
    same, other = Matching(plain(0.7), teacher, lognormal(), WEIGHTS["v"]), plain(0.2)
    assert loss_of(same, clean).abs().max() == 0
    objective = Matching(other, teacher, lognormal(), WEIGHTS["v"])
    loss_of(objective, clean).sum().backward()
    assert other.net.slope.grad is not None and other.net.slope.grad != 0
    assert teacher.net.slope.grad is None
    assert list(objective.state_dict()) == ["model.net.slope"]


def test_the_truth_is_a_share_of_the_loss():
    student_, teacher, clean = plain(0.2), plain(0.7), torch.randn(6, 1, 4, 4)
    parts = [
        loss_of(Matching(student_, teacher, lognormal(), WEIGHTS["v"], truth=t), clean)
        for t in (0.0, 0.25, 1.0)
    ]
    torch.testing.assert_close(parts[1], 0.75 * parts[0] + 0.25 * parts[2])

    class Plain(Matching):
        def _losses(self, clean, labels, cond, sigma, n):
            return denoising_loss(self.model, clean, labels, sigma, n, weight=self.weight)

    torch.testing.assert_close(loss_of(Plain(student_, teacher, lognormal(), WEIGHTS["v"]), clean), parts[2])


def test_refusals():
    with pytest.raises(ValueError, match="truth = 1.5"):
        Matching(plain(0.2), plain(0.7), lognormal(), WEIGHTS["v"], truth=1.5)
    with pytest.raises(ValueError, match="label"):
        Matching(plain(0.2, 2), Guided(plain(0.7, 2), 2.0), lognormal(), WEIGHTS["v"], label_dropout=0.1)


def test_the_minimum_of_matching_is_the_teacher():
    """The teacher's slope is where the gradient vanishes, whatever the clean images are: the floor is 0."""
    teacher, clean = plain(0.7), 3 * torch.randn(64, 1, 4, 4)
    found = plain(0.1)
    objective = Matching(found, teacher, lognormal(), WEIGHTS["edm"])
    optimizer = torch.optim.LBFGS(found.parameters(), max_iter=20)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(objective, clean).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert found.net.slope.item() == pytest.approx(0.7, abs=1e-5)  # float32 sums over 64 images
