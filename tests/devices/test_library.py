"""Every operator, sampler, restorer, prior and network on a device that is not the CPU, with float64 and without."""

import pytest
import torch

from tests.devices.accelerator import DEVICE, Accelerator
from tests.networks.test_contract import CONFIGS, inputs
from tests.restore.test_contract import OPTIONS, example
from tests.small import CLASSES, PHOTO, prior_of
from undiffuse.contracts.restorer import run
from undiffuse.core.grids import karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.operators import LinearOperator, build
from undiffuse.registry import OPERATORS, RESTORERS, SAMPLERS
from undiffuse.restore import Problem, measure

SHAPE = (3, 16, 16)

kinds = pytest.mark.parametrize("float64", [True, False], ids=["float64", "float32 only"])


def same(found, expected):
    """What is computed elsewhere is what is computed here."""
    assert found.device == DEVICE
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0)


@kinds
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_operators(name, float64, tmp_path):
    A, noise = build(example(name, tmp_path), SHAPE).float(), SeededNoise([0, 1])
    x = noise(torch.empty(2, *SHAPE)).clamp(-1, 1)
    y = A(x)
    lams = [0.1, torch.tensor([0.3, 0.0]).reshape(2, 1, 1, 1)]
    with Accelerator(float64):
        there = build(example(name, tmp_path), SHAPE).float().to(DEVICE)
        same(there(x.to(DEVICE)), y)
        if isinstance(A, LinearOperator):
            same(there.adjoint(y.to(DEVICE)), A.adjoint(y))
            same(there.pinv(y.to(DEVICE)), A.pinv(y))
            for lam in lams:
                same(there.ridge(x.to(DEVICE), y.to(DEVICE), lam if isinstance(lam, float) else lam.to(DEVICE)), A.ridge(x, y, lam))


@kinds
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_samplers(name, float64):
    options = {"churn": {"steps": 6}}.get(name, {})
    prior, noise = prior_of(PHOTO), SeededNoise([0, 1])
    start = noise(torch.empty(2, 3, 8, 8)) * 5
    sigmas = karras(5, 0.05, 5).float()

    def drawn(prior, x, sigmas):
        return last(sample(SAMPLERS[name](prior, SeededNoise([2, 3]), **options), x, sigmas)).x

    expected = drawn(prior, start, sigmas)
    with Accelerator(float64):
        same(drawn(prior_of(PHOTO).to(DEVICE), start.to(DEVICE), sigmas), expected)


@kinds
@pytest.mark.parametrize("degradation", ["sr4", "inp:random,share=0.5", "blur:motion,angle=30", "cs4", "jpeg:quality=50", "clip:gain=1.5"])
@pytest.mark.parametrize("sigma_y", [0.0, 0.1])
@pytest.mark.parametrize("name", sorted(RESTORERS))
def test_restorers(name, degradation, sigma_y, float64):
    A, options = build(degradation, SHAPE).float(), OPTIONS.get(name, {})
    truth = SeededNoise([0, 1])(torch.empty(2, *SHAPE)).clamp(-1, 1)
    problem = Problem(A, measure(A, truth, sigma_y, SeededNoise([4, 5])), sigma_y)
    try:
        expected = run(RESTORERS[name], prior_of(PHOTO), problem, [0, 1], steps=3, **options)
    except (ValueError, TypeError, AttributeError) as refusal:
        pytest.skip(str(refusal))
    with Accelerator(float64):
        posed = Problem(build(degradation, SHAPE).float().to(DEVICE), problem.y.to(DEVICE), sigma_y)
        found = run(RESTORERS[name], prior_of(PHOTO).to(DEVICE), posed, [0, 1], steps=3, **options)
        same(found, expected)


@kinds
@pytest.mark.parametrize("name", CONFIGS)
def test_networks(name, float64):
    net = CONFIGS[name].build().eval() if hasattr(CONFIGS[name], "build") else None
    given = inputs(name)
    with torch.no_grad():
        expected = net(*given)
    with Accelerator(float64), torch.no_grad():
        same(net.to(DEVICE)(*(one.to(DEVICE) for one in given)), expected)
