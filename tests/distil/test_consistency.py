"""Consistency tuning and distillation against closed forms.

Of N(m, d^2) the consistency function is f(x, s) = m + (x - m) d / sqrt(d^2 + s^2). With s = d tan(angle), the DDIM step
from t to r shrinks what f answers by the cosine of the angle between them, so that all losses of f are trigonometry.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.distil.closed import MEAN, VARIANCE, Asked, clean_of, prior_of, raw, teacher_of, walked
from tests.training.runs import Run
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.distil import Consistency, Guided, Stages, pseudo_huber, squared
from undiffuse.priors import DiscreteSchedule, Gaussian, GaussianMixture, Prior, scalings, schedules
from undiffuse.priors.prior import Coefficients
from undiffuse.samplers import heun
from undiffuse.training import WEIGHTS, lognormal
from undiffuse.training.objective import Staged

EXACT = Gaussian(MEAN, VARIANCE)
D = VARIANCE**0.5


def bounded(sigma):
    """A scaling whose network answers with x0, but for sigma = 0, where x0 is x."""
    there = (sigma > 0).to(sigma)
    return Coefficients(1 - there, there, torch.ones_like(sigma), sigma)


def student_of(denoise):
    return Prior(Asked(denoise), bounded, channels=1).double()


def flowed(x, sigma):
    """The consistency function of N(m, d^2)."""
    return MEAN + (x - MEAN) * D / (VARIANCE + sigma**2).sqrt()


class Whitened:
    """Noise of 2 numbers an image for levels, then n: with the x0 below, of means and covariance exactly 0 and 1.

    A loss that is quadratic in x0 and n has then its expectation as its mean, to rounding.
    """

    def __init__(self, images=512):
        draws = SeededNoise(range(images))(torch.zeros(images, 2, dtype=torch.float64))
        draws = draws - draws.mean(0)
        draws = draws @ torch.linalg.inv(torch.linalg.cholesky(draws.T @ draws / images)).T
        self.clean = (MEAN + D * draws[:, :1]).reshape(-1, 1, 1, 1)
        self.n = draws[:, 1:].reshape(-1, 1, 1, 1)

    def __call__(self, like):
        return torch.zeros_like(like) if like.ndim == 2 else self.n


def at(level):
    return lambda u: torch.full_like(u.double(), level)


def gap_of(share):
    """r = (1 - share) t at once."""
    return Stages(q=1 / share, k=0.0, last=0)


def loss(student, teacher, t, schedule, **options):
    """Its expectation for N(m, d^2) at level t."""
    white = Whitened()
    objective = Consistency(student, teacher, at(t), schedule, WEIGHTS["x0"], distance=squared, **options)
    return objective(white.clean, None, white).mean()


def angle(t, share):
    return math.atan(t / D) - math.atan((1 - share) * t / D)


@pytest.mark.parametrize("t", [0.05, 0.5, 3.0, 40.0])
@pytest.mark.parametrize("share", [0.5, 0.1, 1 / 256])
def test_losses_of_the_consistency_function(t, share):
    """Distillation: d^2 (1 - cos)^2, its error. Tuning: d^2 sin^2 more, the scatter of x_r about E[x_r | x_t]."""
    f, a = student_of(flowed), angle(t, share)
    assert loss(f, teacher_of(EXACT), t, gap_of(share)).item() == pytest.approx(
        VARIANCE * (2 * math.sin(a / 2) ** 2) ** 2, rel=1e-6, abs=1e-26
    )
    assert loss(f, None, t, gap_of(share)).item() == pytest.approx(
        4 * VARIANCE * math.sin(a / 2) ** 2, rel=1e-9
    )


@pytest.mark.parametrize(("solver", "order"), [("ddim", 2), ("heun", 3)])
def test_the_error_vanishes_with_the_gap(solver, order):
    """The root of the loss is the local error of the teacher's step: of order 2, and 3 by Heun."""
    f, t = student_of(flowed), 0.8
    shares = [0.08, 0.04, 0.02, 0.01]
    roots = [loss(f, teacher_of(EXACT), t, gap_of(s), solver=solver).sqrt().item() for s in shares]
    seen = [math.log2(a / b) for a, b in zip(roots, roots[1:], strict=False)]
    assert seen == pytest.approx([order] * 3, abs=0.15), seen  # the next order: a share of the gap
    assert seen[-1] == pytest.approx(order, abs=0.03)


def test_tuning_and_distillation_pull_alike_where_f_is_linear():
    """One expectation of x_r given x_t: at the same r side, the same gradient; tuning's loss is higher by its floor."""
    t, share = 1.3, 0.25
    pulls, losses = [], []
    for teacher in (None, teacher_of(EXACT)):
        student = student_of(flowed)
        student.net.bend = nn.Parameter(torch.zeros((), dtype=torch.float64))
        net = student.net
        net.denoise = lambda x, sigma, net=net: flowed(x, sigma) + net.bend * (x - 2 * MEAN)
        found = loss(student, teacher, t, gap_of(share))
        found.backward()
        pulls.append(net.bend.grad.item())
        losses.append(found.item())
    assert abs(pulls[0]) > 1e-3 and pulls[0] == pytest.approx(pulls[1], rel=1e-10)
    r = (1 - share) * t
    floor = VARIANCE**2 * (t - r) ** 2 / ((VARIANCE + t**2) * (VARIANCE + r**2))
    assert losses[0] - losses[1] == pytest.approx(floor, rel=1e-10)


class Quadrature:
    """x0 of a mixture of N(-1/2, v) and N(1/2, v), and n, at the nodes of a grid: `mass` (B,) weighs the images."""

    def __init__(self, variance, points=45):
        nodes, mass = hermite(points)
        x0, self.n = (v.reshape(-1, 1, 1, 1) for v in torch.meshgrid(nodes, nodes, indexing="ij"))
        self.n = self.n.repeat(2, 1, 1, 1)
        self.mass = torch.outer(mass, mass).flatten().repeat(2) / 2
        self.clean = torch.cat([mean + variance**0.5 * x0 for mean in (-0.5, 0.5)])

    def __call__(self, like):
        return torch.zeros_like(like) if like.ndim == 2 else self.n


def test_the_bias_of_two_gaussians_is_of_second_order_in_the_gap():
    """What pulls the consistency function away: E[(f(x_t) - f(x_r)) x_t], 0 for none; f is the fine flow.

    f is curved here, so that the scatter of x_r adds to tuning's, and nothing to distillation's.
    """
    variance, t = 0.06, 0.6
    two = GaussianMixture(torch.tensor([-0.5, 0.5], dtype=torch.float64)[:, None, None, None], variance)
    nodes = Quadrature(variance)
    pulls = {}
    for taught in (False, True):
        for share in (0.1, 0.05, 0.025):
            student = student_of(None)
            net = student.net
            net.denoise = lambda x, sigma, net=net: fine(two, x, sigma.flatten()[0]) + net.weight * x
            schedule, teacher = gap_of(share), teacher_of(two) if taught else None
            objective = Consistency(student, teacher, at(t), schedule, WEIGHTS["x0"], distance=squared)
            (nodes.mass * objective(nodes.clean, None, nodes)).sum().backward()
            pulls.setdefault(taught, []).append(net.weight.grad.abs().item())
    for taught, found in pulls.items():
        assert found[-1] > 1e-6
        seen = [math.log2(a / b) for a, b in zip(found, found[1:], strict=False)]
        # The third order is about the gap, 0.1 and 0.05, of it; in log2 half of that is seen.
        assert seen == pytest.approx([2, 2], abs=0.15), (taught, found)
    assert pulls[False][0] > 1.2 * pulls[True][0]


def hermite(points):
    """Nodes and masses of a standard normal."""
    nodes, mass = np.polynomial.hermite_e.hermegauss(points)
    return torch.from_numpy(nodes), torch.from_numpy(mass / mass.sum())


def fine(denoise, x, sigma):
    """Where the probability flow takes x (N, 1, 1, 1) from sigma: Heun's method in 100 steps, right to 1e-3 far out."""
    grid = karras(100, 1e-3, sigma.item())
    return last(sample(heun(denoise, SeededNoise(range(len(x)))), x, grid)).x


def test_the_student_of_a_stage_is_ddim_down_its_chain():
    """Distillation's own fixed point: t, r(t), r(r(t)), ... to 0, or towards it; no loss at all, of a mixture too."""
    mixture = GaussianMixture(
        torch.tensor([-0.8, 0.1, 0.9], dtype=torch.float64)[:, None, None, None],
        torch.tensor([0.01, 0.05, 0.002]),
    )
    schedule = Stages(images=100, last=3)

    def student(stage):
        def answer(x, sigma):
            ends = []
            for image, level in zip(x, sigma.reshape(-1).expand(len(x)), strict=True):
                chain = [level]
                while chain[-1] > 1e-7:  # below, x0 is x to sigma^2 times the score
                    chain.append(schedule.below(chain[-1], stage))
                ends.append(walked(mixture, image[None], torch.stack([*chain, 0 * level]))[0])
            return torch.stack(ends)

        return answer

    for seen, stage in ((0, 0), (199, 1), (10**9, 3)):
        objective = Consistency(
            student_of(student(stage)), teacher_of(mixture), lognormal(-1.1, 2.0), schedule, WEIGHTS["x0"]
        )
        objective.images_seen = seen
        assert objective(clean_of(12, 1), None, SeededNoise(range(12))).max() < 1e-12  # rounding, x to 1e3
        objective.images_seen = 100 * (stage + 1) if stage < 3 else 0
        assert objective(clean_of(12, 1), None, SeededNoise(range(12))).max() > 1e-4  # another stage


def test_stages():
    schedule = Stages(images=1000, last=5)
    assert [schedule.at(seen) for seen in (0, 999, 1000, 4999, 5000, 10**9)] == [0, 0, 1, 4, 5, 5]
    t = torch.tensor([1e-4, 0.1, 1.0, 10.0, 80.0], dtype=torch.float64)
    shares = [1 - schedule.below(t, stage) / t for stage in range(6)]
    for stage, share in enumerate(shares):
        expected = (1 + 8 / (1 + t.exp())) / 2 ** (stage + 1)
        torch.testing.assert_close(share, expected.clamp(max=1), rtol=1e-12, atol=1e-12)
    assert (shares[0][:3] == 1).all()  # denoising, where 1 + 8 sigmoid(-t) > 2
    assert shares[5][-1].item() == pytest.approx(1 / 64)
    hour = Stages(q=256.0, last=0)
    torch.testing.assert_close(hour.below(t, 0), Stages().below(t, Stages().at(10**12)), rtol=1e-12, atol=0)
    for bad in (dict(images=0), dict(last=-1), dict(q=1.0), dict(q=math.inf), dict(k=-1.0), dict(b=math.nan)):
        with pytest.raises(ValueError, match="expected"):
            Stages(**bad)


@pytest.mark.parametrize(
    "scaling",
    [scalings.edm(0.5), scalings.flow()]
    + [make(DiscreteSchedule.from_betas(schedules.linear(1000))) for make in (scalings.v, scalings.eps)],
)
def test_the_end_of_a_path_is_itself(scaling):
    x = clean_of(4)
    student = Prior(Asked(EXACT), scaling, channels=1).double()
    assert torch.equal(student(x, torch.zeros((), dtype=torch.float64)), x)
    Consistency(student, None, lognormal(), Stages())
    with pytest.raises(ValueError, match="which has to be x"):
        bare = scalings.x0(DiscreteSchedule.from_betas(schedules.linear(1000)))
        Consistency(Prior(Asked(EXACT), bare, channels=1), None, lognormal(), Stages())


def test_no_network_is_believed_at_sigma_0():
    """Where r = 0 the end is x_r itself, though the network says nan there, as one does that takes a logarithm."""

    class Logarithmic(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x, sigma, labels):
            return self.gain * x + 0 * sigma.log().reshape(-1, 1, 1, 1)

    student = Prior(Logarithmic(), bounded, channels=1)
    levels = torch.tensor([0.1, 5.0], dtype=torch.float64)  # r = 0, and r > 0
    schedule = Stages()
    assert schedule.below(levels, 0)[0] == 0 < schedule.below(levels, 0)[1]
    clean, noise = clean_of(2), SeededNoise(range(2))
    noise(torch.empty(2, 2, dtype=torch.float64))
    n = noise(clean)
    objective = Consistency(student, None, lambda u: levels, schedule, WEIGHTS["x0"], distance=squared)
    found = objective(clean, None, SeededNoise(range(2)))
    gap = (levels - schedule.below(levels, 0)).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(found, squared(gap * n), rtol=1e-9, atol=0)
    found.sum().backward()
    assert student.net.gain.grad.isfinite()


class Dropping(nn.Module):
    """Answers with what dropout leaves of ones, and keeps it."""

    def __init__(self):
        super().__init__()
        self.drop, self.gain, self.masks = nn.Dropout(0.5), nn.Parameter(torch.ones(())), []

    def forward(self, x, sigma, labels):
        self.masks.append(self.drop(torch.ones_like(x)))
        return self.gain * self.masks[-1]


def test_both_sides_see_the_same_dropout_mask():
    """And the generator ends where one pass ends it."""
    net = Dropping()
    objective = Consistency(Prior(net, scalings.edm(0.5), channels=1), None, at(5.0), Stages()).train()
    torch.manual_seed(3)
    objective(clean_of(6).float(), None, SeededNoise(range(6)))
    after = torch.rand(3)
    assert len(net.masks) == 2 and torch.equal(net.masks[0], net.masks[1])
    assert 0 < (net.masks[0] == 0).sum() < net.masks[0].numel()
    torch.manual_seed(3)
    net.drop(torch.ones(6, 1, 3, 3))
    assert torch.equal(torch.rand(3), after)


class Bent(nn.Module):
    """A linear network that is told the level."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(1, 1)
        with torch.no_grad():
            self.one.weight.fill_(0.7)
            self.one.bias.fill_(0.1)

    def forward(self, x, sigma, labels):
        return self.one(x.movedim(1, -1)).movedim(-1, 1) + 0.1 * sigma.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("taught", [False, True])
def test_the_gradient_is_that_of_the_upper_side(taught):
    """Against autograd with the lower side computed beforehand; and not lost in half precision."""
    student = Prior(Bent(), scalings.edm(0.5), channels=1)
    schedule, t = Stages(images=10), 2.0
    objective = Consistency(student, teacher_of(EXACT) if taught else None, at(t), schedule, WEIGHTS["edm"])
    objective.images_seen = 20
    clean = clean_of(8).float()
    objective(clean, None, SeededNoise(range(8))).sum().backward()
    noise = SeededNoise(range(8))
    noise(torch.empty(8, 2, dtype=torch.float64))
    n, level = noise(clean), torch.tensor(t)
    r = schedule.below(level, 2)
    x = clean + t * n
    with torch.no_grad():
        mean = EXACT(x, level)
        end = student(mean + r / t * (x - mean) if taught else clean + r * n, r)
    expected = (student(x, level) - end).square().flatten(1).mean(1).sqrt() * WEIGHTS["edm"](level)
    wanted = torch.autograd.grad(expected.sum(), list(student.parameters()))
    for p, g in zip(student.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-4, atol=1e-5)
        p.grad = None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        objective(clean, None, SeededNoise(range(8))).sum().backward()
    for p, g in zip(student.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=0.1, atol=0.1 * g.abs().max().item())  # 8 bits, sums of 72


def test_weights_and_distances():
    """1 / (t - r) by default; the root of the mean square, 0 with gradient 0 where nothing is wrong."""
    student, share, t = student_of(flowed), 0.1, 2.0
    white = Whitened()
    losses = [
        Consistency(student, None, at(t), gap_of(share), weight)(white.clean, None, white)
        for weight in (None, WEIGHTS["x0"])
    ]
    torch.testing.assert_close(losses[0], losses[1] / (share * t), rtol=1e-9, atol=0)
    error = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    for distance in (pseudo_huber(), pseudo_huber(0.5)):
        (gradient,) = torch.autograd.grad(distance(error).sum(), error)
        assert gradient.isfinite().all() and (gradient[1] == 0).all()
    torch.testing.assert_close(pseudo_huber()(error), torch.tensor([12.5**0.5, 0.0]))
    torch.testing.assert_close(pseudo_huber(0.5)(error), torch.tensor([12.75**0.5 - 0.5, 0.0]))
    torch.testing.assert_close(squared(error), torch.tensor([12.5, 0.0]))
    with pytest.raises(ValueError, match="pseudo-Huber"):
        pseudo_huber(-1.0)


def test_images_of_different_levels_in_any_order():
    student = student_of(EXACT)
    objective = Consistency(student, teacher_of(EXACT), lognormal(-1.1, 2.0), Stages(), solver="heun")
    clean = clean_of(40)
    together = objective(clean, None, SeededNoise(range(40)))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    mixed = objective(clean[order], None, SeededNoise(order.tolist()))
    torch.testing.assert_close(mixed, together[order], rtol=1e-9, atol=1e-12)
    alone = objective(clean[7:8], None, SeededNoise([7]))
    torch.testing.assert_close(alone, together[7:8], rtol=1e-9, atol=1e-12)


def test_who_is_trained_and_what_is_refused():
    teacher, student = prior_of(Asked(EXACT)), student_of(flowed)
    objective = Consistency(student, teacher, lognormal(), Stages())
    assert objective.model is student and isinstance(objective, Staged)
    assert {id(p) for p in objective.parameters()} == {id(p) for p in student.parameters()}
    assert set(objective.state_dict()) == {"model.net.weight"}
    assert objective.to(torch.float32) is objective
    assert teacher.net.weight.dtype == torch.float32
    with pytest.raises(ValueError, match="no solver 'euler'"):
        Consistency(student, teacher, lognormal(), Stages(), solver="euler")
    classes = Prior(Asked(EXACT), raw, channels=1, num_classes=2, null_class=True)
    pupil = Prior(Asked(EXACT), bounded, channels=1, num_classes=2, null_class=True)
    with pytest.raises(ValueError, match="set it to 0"):
        Consistency(pupil, Guided(classes, 2.0), lognormal(), Stages(), label_dropout=0.1)


def test_a_guided_teacher_is_followed():
    """Class k is N(k - 1/2, 0.1), none is both: x_r is a DDIM step of 3 times the one less 2 times the other."""
    means = torch.tensor([-0.5, 0.5], dtype=torch.float64)[:, None, None, None]
    both = GaussianMixture(means, 0.1)

    class Classes(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, x, sigma, labels):
            level, kept = sigma.reshape(-1, 1, 1, 1), labels.clamp(max=1)
            one = means[kept] + 0.1 / (0.1 + level**2) * (x - means[kept])
            none = both(x, level)
            return torch.where((labels == 2).reshape(-1, 1, 1, 1), none, one) + 0 * self.weight

    teacher = Prior(Classes(), raw, channels=1, num_classes=2, null_class=True)
    student = Prior(Asked(flowed), bounded, channels=1, num_classes=2, null_class=True)
    t, share, labels = 0.7, 0.2, torch.tensor([0, 1, 1, 0])
    objective = Consistency(
        student, Guided(teacher, 3.0), at(t), gap_of(share), WEIGHTS["x0"], distance=squared
    )
    clean = clean_of(4)
    found = objective(clean, labels, SeededNoise(range(4)))
    noise, level = SeededNoise(range(4)), torch.tensor(t, dtype=torch.float64)
    noise(torch.empty(4, 2, dtype=torch.float64))
    x = clean + t * noise(clean)
    none = teacher(x, level)
    guided = none + 3 * (teacher(x, level, labels) - none)
    x_r = guided + (1 - share) * (x - guided)
    expected = squared(flowed(x, level) - flowed(x_r, (1 - share) * level))
    torch.testing.assert_close(found, expected.detach(), rtol=1e-9, atol=1e-12)


class Tuned(Run):
    """A miniature run of consistency tuning whose stages last 24 images, three steps."""

    def __init__(self, **recipe):
        super().__init__(**recipe)
        self.objective = Consistency(self.prior, None, lognormal(-1.1, 2.0), Stages(images=24))


def test_a_resumed_run_is_in_the_stage_that_it_was_in(tmp_path):
    """The loop tells the objective of the images seen: nothing else need be kept, and the weights are the same."""
    whole = Tuned()
    whole.finish(120)
    assert whole.objective.images_seen == 112  # told before the last step: stage 4 of 0 to 7
    first, again = Tuned(), Tuned()
    first.finish(56)
    first.save(tmp_path / "resume.safetensors")
    again.resume(tmp_path / "resume.safetensors")
    again.finish(120)
    for name, value in whole.weights().items():
        assert torch.equal(again.weights()[name], value), name
    stuck = Tuned()
    stuck.objective.schedule = Stages(images=10**9)
    stuck.finish(120)
    assert any(not torch.equal(value, stuck.weights()[name]) for name, value in whole.weights().items())


def test_parts_of_a_batch_are_in_one_stage():
    whole, parts = Tuned(batch=16), Tuned(batch=16, part=5)  # 24 images end amid a step
    for one, two in zip(whole.finish(96), parts.finish(96), strict=True):
        assert one.loss == pytest.approx(two.loss, rel=1e-3)  # float32 sums in another order, six Adam steps
