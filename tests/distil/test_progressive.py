"""Progressive distillation against closed forms: what a student should answer is known for an exact teacher."""

import copy
import itertools

import pytest
import torch
from torch import nn

from tests.distil.closed import GRID, MEAN, VARIANCE, Asked, clean_of, prior_of, raw, teacher_of, walked
from undiffuse.core.noise import SeededNoise
from undiffuse.distil import Guided, Progressive, halvings, subgrid
from undiffuse.priors import Gaussian, GaussianMixture, Prior, class_guided, scalings
from undiffuse.training import WEIGHTS

EXACT = {"rtol": 0, "atol": 1e-10}  # float64: 16 steps of O(1) numbers, and x up to 100


class Table(nn.Module):
    """x0 = b + a x, with an a and a b for each of the given levels: the best student of a linear teacher."""

    def __init__(self, levels):
        super().__init__()
        self.levels = levels
        self.ab = nn.Parameter(torch.zeros(2, len(levels), dtype=torch.float64))

    def forward(self, x, sigma, labels):
        which = (sigma.double()[:, None] - self.levels).abs().argmin(1)
        a, b = self.ab[:, which, None, None, None].to(x)
        return b + a * x


def fitted(objective, images=64):
    """One Newton step of all of a Table's numbers on the objective's own loss, which is quadratic in them."""
    clean, noise = clean_of(images), lambda: SeededNoise(range(images))
    weights = objective.model.net.ab

    def loss(ab):
        found = torch.func.functional_call(objective, {"model.net.ab": ab}, (clean, None, noise()))
        return found.mean()

    gradient = torch.autograd.functional.jacobian(loss, weights.detach()).flatten()
    curvature = torch.autograd.functional.hessian(loss, weights.detach()).reshape(2 * [weights.numel()])
    with torch.no_grad():
        weights -= torch.linalg.solve(curvature, gradient).reshape(weights.shape)
    return objective(clean, None, noise())


def test_two_steps_of_a_gaussian_are_one_known_line():
    """D = m + a (x - m), a = v / (v + s^2): x'' - m = g' g (x - m), g = a + (s'/s) (1 - a), solved for the student."""
    objective = Progressive(
        prior_of(Table(GRID[:-1:2])), teacher_of(Gaussian(MEAN, VARIANCE)), GRID, WEIGHTS["x0"]
    )
    s, middle, low = GRID[:-2:2], GRID[1:-1:2], GRID[2::2]
    grow = [(VARIANCE + b / a * a**2) / (VARIANCE + a**2) for a, b in ((s, middle), (middle, low))]
    slope = (grow[0] * grow[1] - low / s) / (1 - low / s)
    x = s.reshape(-1, 1, 1, 1) * SeededNoise(range(8))(torch.zeros(8, 1, 3, 3, dtype=torch.float64))
    expected = MEAN + slope.reshape(-1, 1, 1, 1) * (x - MEAN)
    torch.testing.assert_close(objective.target(x, s), expected, **EXACT)


def test_the_best_linear_student_has_no_loss_and_every_stage_is_the_sixteen_steps():
    """16 -> 8 -> 4 -> 2 -> 1, each student fitted on the loss alone, and the teacher of the next."""
    exact = Gaussian(MEAN, VARIANCE)
    teacher, sigmas = teacher_of(exact), GRID
    x = GRID[0] * SeededNoise(range(4))(torch.zeros(4, 1, 3, 3, dtype=torch.float64))
    expected = walked(exact, x, GRID)
    assert (
        expected - walked(exact, x, GRID[::2])
    ).abs().max() > 1e-3  # eight steps of the teacher are others
    for steps in halvings(16, 1)[1:]:
        student = prior_of(Table(sigmas[:-1:2]))
        objective = Progressive(student, teacher, sigmas, WEIGHTS["x0"])
        losses = fitted(objective)
        # Squares of rounding, 1e-16 times x of 100, in a fit whose curvature is conditioned as 1e5.
        assert losses.max() < 1e-16
        sigmas = subgrid(sigmas)
        assert len(sigmas) == steps + 1
        with torch.no_grad():
            torch.testing.assert_close(walked(student, x, sigmas), expected, rtol=0, atol=1e-7)
        teacher = student


def test_stages_of_a_mixture_are_the_sixteen_steps():
    """Each student is the composed map itself: no loss at any level, and the same end."""
    exact = GaussianMixture(
        torch.tensor([-0.8, 0.1, 0.9], dtype=torch.float64)[:, None, None, None], torch.tensor([0.01, 0.05, 0.002])
    )  # fmt: skip
    x = GRID[0] * SeededNoise(range(6))(torch.zeros(6, 1, 1, 1, dtype=torch.float64))
    expected = walked(exact, x, GRID)
    denoise, sigmas = exact, GRID
    while len(sigmas) > 2:
        student = composed(denoise, sigmas)
        objective = Progressive(prior_of(Asked(student)), teacher_of(denoise), sigmas, WEIGHTS["v"])
        losses = objective(clean_of(200, 1), None, SeededNoise(range(200)))
        assert losses.max() < 1e-18  # squares of rounding; the weight is up to 2500
        sigmas, denoise = subgrid(sigmas), student
        torch.testing.assert_close(walked(denoise, x, sigmas), expected, **EXACT)


def composed(denoise, sigmas):
    """x0 that takes a DDIM step over two intervals to where two steps of `denoise` go, by the sampler itself."""

    def answer(x, sigma):
        sigma = sigma.reshape(-1, 1, 1, 1).expand(len(x), 1, 1, 1)
        found = torch.empty_like(x)
        for i, image in enumerate(x):
            at = int((sigmas - sigma[i].item()).abs().argmin())
            end = walked(denoise, image[None], sigmas[at : at + 3])[0]
            kept = sigmas[at + 2] / sigmas[at]
            found[i] = (end - kept * image) / (1 - kept)
        return found

    return answer


@pytest.mark.parametrize("last_level", [0.02, 2e-3, 1e-6])
def test_targets_keep_their_digits_in_float32(last_level):
    """At levels of 1e-6 and at gaps of 1e-4, where (x'' - k x) / (1 - k) would be left with four digits."""
    exact = Gaussian(MEAN, VARIANCE)
    tail = torch.tensor([1.0002, 1.0001, 1.0, 0.5, 0.0], dtype=torch.float64) * last_level
    sigmas = torch.cat((torch.tensor([10.0, 1.0], dtype=torch.float64), tail))
    objective = Progressive(prior_of(Asked(exact)), teacher_of(exact), sigmas, WEIGHTS["v"])
    tops = sigmas[:-1:2]
    x = clean_of(3) + tops.reshape(-1, 1, 1, 1) * SeededNoise(range(3))(clean_of(3))
    wide = objective.target(x, tops)
    narrow = objective.target(x.float(), tops)
    # Of O(1) numbers, x up to 30 at the highest level: some units in the last place.
    torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=3e-6)
    for sigma, target, image in zip(tops, wide, x, strict=True):
        at = int((sigmas - sigma).abs().argmin())
        if sigmas[at + 2] < 0.99 * sigma:  # the textbook's form, where it can be trusted
            end = walked(exact, image[None], sigmas[at : at + 3])[0]
            kept = sigmas[at + 2] / sigma
            torch.testing.assert_close(target, (end - kept * image) / (1 - kept), **EXACT)


def test_levels_are_the_upper_ones_each_as_often_and_losses_follow_their_images():
    exact = Gaussian(MEAN, VARIANCE)
    told = []

    class Listening(Asked):
        def forward(self, x, sigma, labels):
            told.append(sigma)
            return super().forward(x, sigma, labels)

    objective = Progressive(prior_of(Listening(exact)), teacher_of(exact), GRID, WEIGHTS["x0"])
    clean = clean_of(4000, 1)
    together = objective(clean, None, SeededNoise(range(4000)))
    values, counts = told[0].unique(return_counts=True)
    torch.testing.assert_close(values, GRID[:-1:2].flip(0), rtol=0, atol=0)
    spread = 5 * (4000 / 8 * 7 / 8) ** 0.5  # five deviations of a count
    assert ((counts - 500).abs() < spread).all()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    mixed = objective(clean[order], None, SeededNoise(order.tolist()))
    torch.testing.assert_close(mixed, together[order], rtol=1e-12, atol=0)


def test_only_the_student_is_trained_saved_and_seen():
    teacher = prior_of(Asked(Gaussian(MEAN, VARIANCE))).train()
    student = prior_of(Table(GRID[:-1:2]))
    objective = Progressive(student, teacher, GRID, WEIGHTS["x0"])
    assert objective.model is student
    assert {id(p) for p in objective.parameters()} == {id(p) for p in student.parameters()}
    assert set(objective.state_dict()) == {"model.net.ab"}
    objective.train()
    assert not teacher.training and student.training
    objective(clean_of(8), None, SeededNoise(range(8))).sum().backward()
    assert student.net.ab.grad.abs().max() > 0 and teacher.net.weight.grad is None
    assert objective.to(torch.float32) is objective
    assert teacher.net.weight.dtype == torch.float32  # it moves with the objective
    again = copy.deepcopy(objective)
    again.double()
    assert teacher.net.weight.dtype == torch.float32  # a copy has a teacher of its own
    with pytest.raises(ValueError, match="shares weights"):
        Progressive(student, student, GRID, WEIGHTS["x0"])


class Classes(nn.Module):
    """Class k is the constant (k - 1) / 2, seen through noise; class 3 is none. It counts its calls."""

    def __init__(self):
        super().__init__()
        self.shift, self.calls, self.labels = nn.Parameter(torch.zeros(())), 0, None

    def forward(self, x, sigma, labels):
        self.calls, self.labels = self.calls + 1, labels
        level = sigma.reshape(-1, 1, 1, 1)
        return ((labels.reshape(-1, 1, 1, 1) - 1) / 2 * level**2 + 0.1 * x) / (0.1 + level**2) + self.shift


def classes():
    return Prior(Classes(), raw, channels=1, num_classes=3, null_class=True).double()


def test_the_guided_answer_is_what_is_learned():
    """Target from `class_guided` and the sampler; one call of the teacher a step, of two."""
    teacher, labels = classes(), torch.arange(12) % 3
    objective = Progressive(classes(), Guided(teacher, 2.5), GRID, WEIGHTS["x0"])
    x = 3 * SeededNoise(range(12))(torch.zeros(12, 1, 2, 2, dtype=torch.float64))
    found = objective.target(x, GRID[4].repeat(12), labels)
    assert teacher.net.calls == 2
    with torch.no_grad():
        end = walked(class_guided(teacher, labels, scale=2.5), x, GRID[4:7])
        plain = walked(teacher.given(labels), x, GRID[4:7])
    kept = GRID[6] / GRID[4]
    torch.testing.assert_close(found, (end - kept * x) / (1 - kept), **EXACT)
    assert (end - plain).abs().max() > 0.1
    with pytest.raises(ValueError, match="set it to 0"):
        Progressive(classes(), Guided(teacher, 2.5), GRID, WEIGHTS["x0"], label_dropout=0.1)
    with pytest.raises(ValueError, match="images without labels"):
        objective(clean_of(2), None, SeededNoise(range(2)))
    unconditional = Prior(Classes(), raw, channels=1, num_classes=3)
    with pytest.raises(ValueError, match="without class dropout"):
        Guided(unconditional, 2.0)
    for bad in (dict(scale=float("nan")), dict(scale=2.0, interval=(2.0, 1.0))):
        with pytest.raises(ValueError, match="expected"):
            Guided(teacher, **bad)


def test_a_hidden_label_is_hidden_from_both():
    teacher = classes()
    student = copy.deepcopy(teacher)
    objective = Progressive(student, teacher, GRID, WEIGHTS["x0"], label_dropout=0.3)
    labels = torch.arange(300) % 3
    objective(clean_of(300), labels, SeededNoise(range(300)))
    assert torch.equal(student.net.labels, teacher.net.labels)
    assert 40 < (student.net.labels == 3).sum() < 140  # 90 expected, deviation 8
    plain = Progressive(student, Guided(teacher, 1.0), GRID, WEIGHTS["x0"], label_dropout=0.3)
    plain(clean_of(300), labels, SeededNoise(range(300)))  # guidance 1 is none


def test_halvings_and_subgrids():
    assert halvings(16, 1) == [16, 8, 4, 2, 1]
    assert halvings(20, 5) == [20, 10, 5]
    assert torch.equal(subgrid(GRID), GRID[::2])
    for a, b in itertools.product((0, 7, 12, 16), (0, 5, 16)):
        with pytest.raises(ValueError, match="halving"):
            halvings(a, b)
    for bad in (GRID[:-1], GRID[1:], GRID.flip(0), GRID[None], GRID[-1:]):
        with pytest.raises(ValueError, match="sigmas"):
            subgrid(bad)


def test_truncated_snr():
    """The larger of eps's and the image's errors."""
    sigma = torch.tensor([1e-3, 0.5, 1.0, 2.0, 80.0], dtype=torch.float64)
    torch.testing.assert_close(
        WEIGHTS["truncated_snr"](sigma), torch.maximum(WEIGHTS["eps"](sigma), WEIGHTS["x0"](sigma))
    )


def test_other_scalings_learn_the_same_target():
    """The loss is of x0, whatever the network predicts: an EDM student's raw error has weight 1 under edm."""
    exact = Gaussian(MEAN, VARIANCE)
    net = Asked(exact)
    student = Prior(net, scalings.edm(0.5), channels=1).double()
    objective = Progressive(student, teacher_of(exact), GRID, WEIGHTS["edm"])
    clean, s = clean_of(8), GRID[:-1:2]
    n = SeededNoise(range(8))(clean)
    level = s.reshape(-1, 1, 1, 1)
    c = scalings.edm(0.5)(level)
    x = clean + level * n
    wanted = (objective.target(x, s) - c.skip * x) / c.out
    with torch.no_grad():
        expected = (net(c.into * x, c.noise.reshape(-1), None) - wanted).square().flatten(1).mean(1)
        found = objective._losses(clean, None, None, s, n)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
