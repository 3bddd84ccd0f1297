"""Learning on what a restoration algorithm shows its network."""

import copy
import math

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tests.distil.closed import Asked, prior_of, teacher_of
from undiffuse.core.loop import sample
from undiffuse.core.noise import SeededNoise, image_seeds
from undiffuse.distil import restoring
from undiffuse.distil.restoring import Practice, Restoring
from undiffuse.metrics import psnr
from undiffuse.operators import build
from undiffuse.priors import Prior, photo_gaussian, scalings
from undiffuse.registry import RESTORERS
from undiffuse.restore import Problem, measure
from undiffuse.training import WEIGHTS, lognormal
from undiffuse.training.loop import Recipe, rates, train

SHAPE, CALLS = (1, 16, 16), 2
DPIR = RESTORERS["dpir"]


def practice(*tasks, noise=0.0, calls=CALLS, **options):
    return Practice(tuple(build(task, SHAPE).float() for task in tasks), noise, DPIR, options, calls)


def pictures(count, seed, dtype=torch.float32):
    like = torch.empty(count, *SHAPE, dtype=dtype)
    return (
        photo_gaussian().to(like).sample(SeededNoise(image_seeds(seed, [str(i) for i in range(count)])), like)
    )


def objective(student, asked, teacher=None):
    known = teacher or teacher_of(photo_gaussian().float())
    return Restoring(student, known, lognormal(-1.0, 1.0), WEIGHTS["edm"], asked)


def exact():
    return prior_of(Asked(photo_gaussian())).float()


@pytest.mark.parametrize("sigma_y", [0.0, 0.1])
@pytest.mark.parametrize("call", range(4))
def test_an_answer_is_what_the_algorithm_ends_with_after_so_many_calls(call, sigma_y):
    prior, asked, clean = exact(), practice("sr2", calls=4), pictures(1, 0)
    A, noise = asked.operators[0], SeededNoise([3])
    problem = Problem(A, measure(A, clean, sigma_y, noise), sigma_y)
    sigmas = asked.levels(sigma_y, torch.zeros(())).float()
    assert torch.equal(sigmas, DPIR.facts["grid"](4, sigma_y).float())
    with torch.no_grad():
        x = DPIR.facts["start"](problem, sigmas[0], noise)
        *_, end = sample(DPIR(prior, problem, noise), x, torch.cat([sigmas[: call + 1], torch.zeros(1)]))
    begun, found = asked.answer(prior, problem, sigmas, call, noise)
    assert torch.equal(found, end.x) and torch.equal(begun, x)


def test_lower_levels_are_practised_where_the_data_has_no_noise():
    asked = practice("sr2", calls=4)
    own = DPIR.facts["grid"](4, 0.0)
    torch.testing.assert_close(asked.levels(0.0, torch.ones(())), own / 4)
    torch.testing.assert_close(asked.levels(0.0, torch.tensor(0.5)), own / 2)
    assert torch.equal(asked.levels(0.1, torch.ones(())), DPIR.facts["grid"](4, 0.1))


def test_an_error_counts_in_decibels_above_the_start(monkeypatch):
    """A linear denoiser, pictures of a tenth of the contrast: a tenth of the error, and the same loss."""
    monkeypatch.setattr(restoring, "SHARE", 1.0)
    monkeypatch.setattr(Prior, "forward", lambda self, x, sigma: 0.9 * x)
    asked = practice("sr2", calls=1)
    taught, clean = objective(exact(), asked), pictures(1, 0)
    found = [taught(scale * clean, None, SeededNoise([0])) for scale in (1.0, 0.1)]
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)  # TINY and float32
    problem = Problem(asked.operators[0], asked.operators[0](clean), 0.0)
    begun, x0 = asked.answer(taught.model, problem, asked.levels(0.0, torch.zeros(())), 0, SeededNoise([0]))
    gained = psnr(x0, clean) - psnr(begun, clean)
    assert found[0].item() == pytest.approx(-restoring.WEIGHT * gained.item() * math.log(10) / 10, abs=1e-5)


def test_only_the_last_call_has_a_gradient():
    """Of `call` + 1 calls, and the weight's gradient is that of the error of the last answer."""
    asked, graded = practice("sr2", calls=4), []
    prior = exact()

    def denoise(x, sigma):
        graded.append(torch.is_grad_enabled())
        return prior(x, sigma)

    problem = Problem(asked.operators[0], asked.operators[0](pictures(1, 0)), 0.0)
    asked.answer(denoise, problem, asked.levels(0.0, torch.zeros(())), 2, SeededNoise([0]))
    assert graded == [False, False, True]


def test_an_image_has_its_loss_in_any_batch():
    """So that a resumed run, other parts and more processes learn the same, to rounding."""
    asked, clean = practice("sr2", "inp", noise=0.2), pictures(8, 0)
    taught = objective(exact(), asked)
    together = taught(clean, None, SeededNoise(range(8)))
    alone = [taught(clean[i : i + 1], None, SeededNoise([i])) for i in range(8)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-7)
    assert (together < 1e-12).any() and (together > 1e-6).any()  # as the teacher is the student


@pytest.mark.parametrize("share, restored", [(0.0, 0), (1.0, 16)])
def test_the_share_that_is_restored(monkeypatch, share, restored):
    monkeypatch.setattr(restoring, "SHARE", share)
    losses = objective(exact(), practice("sr2"))(pictures(16, 0), None, SeededNoise(range(16)))
    assert int((losses.abs() > 1e-12).sum()) == restored  # denoising, the teacher's own answers leave nothing


def test_operators_keep_their_precision_in_training_of_less():
    """The last answer without noise has the data to float32, whatever the network computes in."""
    asked, clean, seen = practice("sr2", calls=1), pictures(1, 0), []
    prior = exact()

    def denoise(x, sigma):
        seen.append(torch.is_autocast_enabled("cpu"))
        return prior(x, sigma)

    with torch.autocast("cpu", torch.bfloat16), restoring._full_precision("cpu") as as_before:
        problem = asked.problem(clean, torch.zeros(4), SeededNoise([0]))
        with as_before():
            assert torch.is_autocast_enabled("cpu")
        _, x0 = asked.answer(denoise, problem, asked.levels(0.0, torch.zeros(())), 0, SeededNoise([0]))
    assert seen == [False]
    torch.testing.assert_close(problem.A(x0), problem.y, rtol=0, atol=1e-5)


class Net(nn.Module):
    """Two layers of 5 x 5, told the level."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(2, 24, 5, padding=2), nn.SiLU(), nn.Conv2d(24, 1, 5, padding=2))

    def forward(self, x, noise, labels):
        return self.layers(torch.cat([x, noise.reshape(-1, 1, 1, 1).expand(-1, -1, *SHAPE[1:])], 1))


def restored(prior, clean):
    A = build("inp", SHAPE).float()
    sigmas = DPIR.facts["grid"](CALLS, 0.0).float()
    problem, noise = Problem(A, A(clean), 0.0), SeededNoise(range(len(clean)))
    with torch.no_grad():
        *_, end = sample(DPIR(prior, problem, noise), DPIR.facts["start"](problem, sigmas[0], noise), sigmas)
    return psnr(end.x, clean).mean().item()


def test_what_is_practised_gets_better(monkeypatch):
    """A small network of photographs' Gaussian, as long without practice as with: half the pixels in 2 calls."""
    images, held_out, steps = pictures(128, 1), pictures(32, 2), 120
    torch.manual_seed(0)
    untaught, found = Prior(Net(), scalings.edm(0.5), channels=1), {}
    for share in (0.0, 0.5):
        monkeypatch.setattr(restoring, "SHARE", share)
        taught = objective(copy.deepcopy(untaught), practice("inp"))
        recipe = Recipe(batch=8, rate=rates(warmup=0, decay="cosine", images=steps * 8))
        optimizer = torch.optim.Adam(taught.model.parameters(), lr=5e-3)
        data = lambda which: (images[torch.tensor(list(which)) % 128], None)  # noqa: E731
        list(train(taught, data, optimizer, [], recipe, accelerator=Accelerator(cpu=True), images=steps * 8))
        found[share] = restored(taught.model, held_out)
    assert found[0.5] > found[0.0] + 0.2, found  # dB; far above what rounding or another seed moves


def test_what_cannot_be_practised():
    with pytest.raises(ValueError, match="no degradation"):
        practice()
    with pytest.raises(ValueError, match="one of its own"):
        Practice((build("sr2", SHAPE),), 0.0, RESTORERS["diffpir"], {}, 4)
    with pytest.raises(ValueError, match="linear"):
        practice("sr2", "gamma . deno")
    classes = Prior(Net(), scalings.edm(0.5), channels=1, num_classes=3)
    with pytest.raises(ValueError, match="has classes"):
        objective(classes, practice("sr2"))
