"""Students that look where their teacher's layers look."""

import copy

import pytest
import torch
from torch import nn

from tests.app.tiny_run import CONFIG
from tests.distil.closed import prior_of
from undiffuse.config.train import checked_train
from undiffuse.core.noise import SeededNoise
from undiffuse.distil import Guided
from undiffuse.distil.features import apart, watched
from undiffuse.distil.matching import Matching
from undiffuse.priors import Prior, scalings
from undiffuse.registry import NETWORKS
from undiffuse.training import WEIGHTS, lognormal

SIZES = {
    "photo": dict(widths=(16, 32), blocks=1, embedding=16),
    "ddpm": dict(width=16, multipliers=(1, 2), blocks=1, groups=8),
    "adm": dict(width=16, multipliers=(1, 2), blocks=1, attention=(), groups=8),
}
IMAGES = 0.5 * SeededNoise(range(8))(torch.zeros(8, 3, 16, 16))


def prior(name, seed=0, **changed):
    """With random weights, where a fresh network answers 0."""
    torch.manual_seed(seed)
    net = NETWORKS[name](**{**SIZES[name], **changed}).build()
    for weights in net.parameters():
        weights.data += 0.1 * torch.randn(weights.shape)
    return Prior(net, scalings.edm(0.5), channels=3).eval()


def lesson(student, teacher, **options):
    return Matching(student, teacher, lognormal(-0.5, 1.0), WEIGHTS["edm"], **options)


@pytest.mark.parametrize("name", SIZES)
def test_a_copy_looks_where_its_teacher_does(name):
    """At every resolution, whatever the network: then there is nothing to add. Of another it is."""
    teacher = prior(name)
    plain, more = (
        lesson(copy.deepcopy(teacher), teacher, features=features)(IMAGES, None, SeededNoise(range(8)))
        for features in (0.0, 1.0)
    )
    torch.testing.assert_close(more, plain, rtol=0, atol=1e-6)
    other = lesson(prior(name, seed=1), teacher, features=1.0)(IMAGES, None, SeededNoise(range(8)))
    assert bool((other > lesson(prior(name, seed=1), teacher)(IMAGES, None, SeededNoise(range(8)))).all())
    with watched(teacher.net) as maps:
        teacher(IMAGES, torch.tensor(0.5))
    assert len(maps) == 2
    for size, seen in maps.items():
        assert seen.shape == (8, *size)
        torch.testing.assert_close(seen.square().sum((1, 2)), torch.ones(8))
    assert not any(module._forward_hooks for module in teacher.modules())


def test_maps_do_not_depend_on_how_wide_a_network_is():
    """Every channel twice is the same map; a level that only one of the two has plays no part."""
    h = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    seen = []
    for channels in (h, torch.cat([h, h], 1)):
        block = prior("photo").net.mid[0]
        with watched(nn.ModuleList([block])) as maps:
            for hook in block._forward_hooks.values():
                hook(block, (), channels)
        seen.append(maps)
    torch.testing.assert_close(seen[0][3, 5], seen[1][3, 5])
    assert float(apart(seen[0], {**seen[1], (1, 1): torch.ones(2, 1, 1)}).abs().max()) < 1e-6


def test_a_narrow_student_learns_to_look_there():
    """Forty steps from the same start: the maps are less than half as far as after those without features."""
    teacher, found = prior("photo"), {}
    for features in (0.0, 1.0):
        student = prior("photo", seed=1, widths=(8, 16))
        learned = lesson(student, teacher, features=features)
        rule = torch.optim.Adam(student.parameters(), 2e-3)
        for step in range(40):
            rule.zero_grad()
            learned(IMAGES, None, SeededNoise(range(8 * step, 8 * step + 8))).mean().backward()
            rule.step()
        with torch.no_grad(), watched(student.net) as own, watched(teacher.net) as shown:
            for one in (student, teacher):
                one(IMAGES, torch.tensor(0.5))
        found[features] = float(apart(own, shown).mean())
    assert found[1.0] < found[0.0] / 2, found


def test_what_has_no_features_is_refused():
    with pytest.raises(ValueError, match="are of one network.s answer"):
        lesson(prior("photo"), Guided(prior("photo"), 1.0), features=1.0)
    with pytest.raises(ValueError, match="expected a weight"):
        lesson(prior("photo"), prior("photo"), features=-1.0)
    bare = prior_of(nn.Conv2d(1, 1, 1))
    with pytest.raises(ValueError, match="Conv2d has no residual blocks"):
        lesson(bare, prior("photo"), features=1.0)


def test_compiled_layers_show_nothing():
    told = {"method": "match", "teacher": "run", "sha256": 64 * "0", "features": 1.0}
    assert checked_train({**CONFIG, "distil": told}, [], "it").distil.features == 1
    with pytest.raises(ValueError, match="distil.features with train.compile: compiled layers show nothing"):
        checked_train({**CONFIG, "distil": told}, ["train.compile=true"], "it")
