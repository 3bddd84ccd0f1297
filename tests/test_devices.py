"""Every operator, sampler, restorer and network on a device that is not the CPU, with float64 and without."""

import copy

import pytest
import torch
from torch import nn

from tests.accelerator import DEVICE, Accelerator
from tests.networks.test_contract import EVERY, inputs
from tests.restore.test_contract import OPTIONS, example
from tests.small import PHOTO, prior_of
from undiffuse.contracts.restorer import run
from undiffuse.core.dct import _turn, _turn_back
from undiffuse.core.devices import moved
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.interop.deepinv import PhysicsOperator
from undiffuse.operators import LinearOperator, build
from undiffuse.priors import photo_gaussian
from undiffuse.registry import OPERATORS, RESTORERS, SAMPLERS
from undiffuse.restore import Problem, measure

SHAPE, SMALL = (3, 16, 16), (3, 8, 8)
FORMS = (
    "sr2",
    "blur:motion,taps=3,angle=30",
    "jpeg:quality=50",
)  # with a decomposition, by a search, not linear

kinds = pytest.mark.parametrize("float64", [False, True], ids=["float32 only", "float64"])


@pytest.fixture(autouse=True)
def forgotten():
    """Constants that one kind of device was given are not there for the other."""
    _turn.cache_clear()
    _turn_back.cache_clear()


def same(found, expected):
    """What is computed elsewhere is what is computed here, and stays there."""
    assert found.device == DEVICE
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0)


def pictures(shape=SHAPE):
    return SeededNoise([0, 1])(torch.empty(2, *shape)).clamp(-1, 1)


@kinds
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_operators(name, float64, tmp_path):
    A, x = build(example(name, tmp_path), SHAPE).float(), pictures()
    y, lam = A(x), torch.tensor([0.3, 0.0]).reshape(2, 1, 1, 1)
    with Accelerator(float64):
        there, x_there, y_there = (
            build(example(name, tmp_path), SHAPE).float().to(DEVICE),
            x.to(DEVICE),
            y.to(DEVICE),
        )
        same(there(x_there), y)
        if isinstance(A, LinearOperator):
            same(there.adjoint(y_there), A.adjoint(y))
            same(there.pinv(y_there), A.pinv(y))
            same(there.ridge(x_there, y_there, 0.1), A.ridge(x, y, 0.1))
            same(there.ridge(x_there, y_there, lam.to(DEVICE)), A.ridge(x, y, lam))


class Dimmed(nn.Module):
    """Physics as deepinv has it, in our pictures."""

    def __init__(self):
        super().__init__()
        self.register_buffer("share", torch.linspace(0.5, 1, SHAPE[2]))

    def A(self, x):
        return self.share * x

    A_adjoint = A

    def clone(self):
        return copy.deepcopy(self)


@kinds
def test_operators_that_hold_what_is_no_buffer(float64):
    A, x = PhysicsOperator(Dimmed(), SHAPE).float(), pictures()
    expected = A(x)
    with Accelerator(float64):
        there = A.on(DEVICE)
        same(there(x.to(DEVICE)), expected)
        assert there.on(DEVICE) is there
    torch.testing.assert_close(A(x), expected)


@kinds
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_samplers(name, float64):
    options = {"churn": {"steps": 5}}.get(name, {})
    start, sigmas = 5 * SeededNoise([0, 1])(torch.empty(2, 3, 8, 8)), karras(5, 0.05, 5)

    def drawn(prior, x):
        return last(sample(SAMPLERS[name](prior, SeededNoise([2, 3]), **options), x, sigmas)).x

    expected = drawn(prior_of(PHOTO), start)
    with Accelerator(float64):
        same(drawn(prior_of(PHOTO).to(DEVICE), start.to(DEVICE)), expected)


@kinds
@pytest.mark.parametrize("degradation", FORMS)
@pytest.mark.parametrize("sigma_y", [0.0, 0.1])
@pytest.mark.parametrize("name", sorted(RESTORERS))
def test_restorers(name, degradation, sigma_y, float64):
    """2 steps; whoever refuses this degradation (tests/restore/test_contract.py) has nothing to show."""
    A, options, entry = build(degradation, SMALL).float(), OPTIONS.get(name, {}), RESTORERS[name]
    problem = Problem(A, measure(A, pictures(SMALL), sigma_y, SeededNoise([4, 5])), sigma_y)
    prior = photo_gaussian if name == "exact" else lambda: prior_of(PHOTO)
    try:
        entry(prior(), problem, SeededNoise([0, 1]), **options)
    except ValueError:
        return
    expected = run(entry, prior(), problem, [0, 1], steps=2, **options)
    with Accelerator(float64):
        posed = Problem(build(degradation, SMALL).float().to(DEVICE), problem.y.to(DEVICE), sigma_y)
        same(run(entry, moved(prior(), DEVICE), posed, [0, 1], steps=2, **options), expected)


@kinds
@pytest.mark.parametrize("name", EVERY)
def test_networks(name, float64):
    """With their gradients, to rounding: attention has a kernel of its own on the CPU."""
    net, given = EVERY[name].build().eval(), inputs(name)
    expected = net(*given)
    expected.square().sum().backward()
    gradients = [p.grad for p in net.parameters()]
    net.zero_grad()
    with Accelerator(float64):
        found = net.to(DEVICE)(*(one.to(DEVICE) for one in given))
        found.square().sum().backward()
        for one, other in zip(
            [found, *(p.grad for p in net.parameters())], [expected, *gradients], strict=True
        ):
            assert one.device == DEVICE
            torch.testing.assert_close(one.cpu(), other, rtol=1e-4, atol=1e-6)
