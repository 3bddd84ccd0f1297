"""deepinv's physics passes our contract, data change their units rightly, and its algorithms take our priors."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

from tests.pictures import photograph
from undiffuse.contracts.operator import check
from undiffuse.core import SeededNoise, last, sample
from undiffuse.core.images import to_unit, write
from undiffuse.interop import deepinv as bridge
from undiffuse.priors import photo_gaussian
from undiffuse.restore import certify, dpir
from undiffuse.restore.dpir import begin, levels

if importlib.util.find_spec("deepinv") is None:
    pytest.skip("no deepinv", allow_module_level=True)

SHAPE = (3, 8, 12)
LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


@pytest.fixture(scope="module")
def deepinv():
    """The package; a torchvision made for another torch is given the operators that it does not import without."""
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for op in ("nms", "qnms"):
            LIBRARY.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import deepinv

    return deepinv


def kernel():
    taps = torch.tensor([[1.0, 2, 4, 0, 1], [0, 3, 5, 1, 2], [1, 1, 2, 2, 0]])  # no symmetry
    return (taps / taps.sum())[None, None]


PHYSICS = {
    "blur": lambda p: p.Blur(filter=kernel(), padding="circular"),
    "cropped blur": lambda p: p.Blur(filter=kernel(), padding="valid"),
    "blur in frequencies": lambda p: p.BlurFFT(img_size=SHAPE, filter=kernel()),  # complex tensors
    "reduction": lambda p: p.Downsampling(img_size=SHAPE, factor=2, filter=kernel(), padding="circular"),
    "missing pixels": lambda p: p.Inpainting(
        img_size=SHAPE, mask=0.6, rng=torch.Generator().manual_seed(3), device="cpu"
    ),
    "grey": lambda p: p.Decolorize(),
}


@pytest.mark.parametrize("make", PHYSICS.values(), ids=list(PHYSICS))
def test_physics_passes_the_contract(deepinv, make):
    physics = make(deepinv.physics)
    before = physics.A(photograph(8, 12)[None])
    A = bridge.operator(physics, SHAPE)
    check(A, tolerance=1e-10, solved=1e-6)  # conjugate gradient stops at 1e-8 of the residual
    assert torch.equal(physics.A(photograph(8, 12)[None]), before)  # what was given is as it was
    y = A(photograph(8, 12)[None].double())
    assert (y - before).abs().max() < 1e-5  # float32 there


def test_to_keeps_complex_tensors(deepinv):
    A = bridge.operator(deepinv.physics.BlurFFT(img_size=SHAPE, filter=kernel()), SHAPE)
    x = photograph(8, 12)[None]
    wide = A(x.double())
    assert (A.to(torch.float32)(x) - wide).abs().max() < 1e-5
    assert (A.to(torch.float64)(x.double()) - wide).abs().max() < 1e-5  # its kernel was rounded in between


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: p.Blur(filter=kernel(), padding="circular").stack(p.Denoising()), "TensorList"),
        (lambda p: p.Physics(A=lambda x: x**2), "no A_adjoint"),
        (lambda p: p.LinearPhysics(A=torch.fft.fft2, A_adjoint=torch.fft.ifft2), "complex64"),
        (lambda p: p.LinearPhysics(A=lambda x: x * x.element_size(), A_adjoint=lambda y: y), "something else"),
        (lambda p: p.LinearPhysics(A=lambda x: x @ torch.eye(12), A_adjoint=lambda y: y), "compute in float64"),
    ],
    ids=["stacked", "no adjoint", "complex", "depends on type", "float32 only"],
)  # fmt: skip
def test_physics_that_is_no_operator_here(deepinv, make, said):
    physics = make(deepinv.physics)
    with pytest.raises(ValueError, match=said):
        bridge.operator(physics, SHAPE)


@pytest.mark.parametrize("make", PHYSICS.values(), ids=list(PHYSICS))
def test_data_in_our_units(deepinv, make):
    """A of our picture is what their data become, whether or not A keeps the mean."""
    physics, x = make(deepinv.physics), photograph(8, 12)[None]
    problem = bridge.problem(physics, physics.A(to_unit(x)), SHAPE, 0.05)
    assert (problem.A(x) - problem.y).abs().max() < 1e-5 and problem.sigma_y == pytest.approx(0.1)


def test_our_algorithms_restore_what_deepinv_measured(deepinv):
    """From their data to a certified picture that is closer to the truth, in their scale."""
    x = to_unit(photograph(32, 32)[None])
    physics = deepinv.physics.Inpainting(img_size=(3, 32, 32), mask=0.6, rng=torch.Generator().manual_seed(1))
    physics.noise_model = deepinv.physics.GaussianNoise(0.05, rng=torch.Generator().manual_seed(0))
    y = physics(x)
    problem, noise = bridge.problem(physics, y, (3, 32, 32), 0.05), SeededNoise([0])
    sigmas = levels(12, problem.sigma_y)
    start = begin(problem, sigmas[0], noise)
    restored = last(sample(dpir(photo_gaussian(), problem, noise), start, sigmas)).x
    assert certify(problem, restored)[0].verdict != "inconsistent"
    assert (to_unit(restored) - x).square().mean() < (to_unit(start) - x).square().mean() / 2


def test_the_denoiser_has_their_units(deepinv):
    prior = photo_gaussian()
    theirs = bridge.denoiser(prior)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for sigma in (
        0.1,
        torch.tensor(0.1),
        torch.tensor([0.1]),
        torch.full((2,), 0.1),
        torch.full((2, 1, 1, 1), 0.1),
    ):
        assert torch.allclose(theirs(x, sigma), (prior(2 * x - 1, torch.tensor(0.2)) + 1) / 2, atol=1e-6)
    mixed = theirs(x, torch.tensor([0.05, 0.3]))
    assert torch.allclose(mixed[1:], theirs(x[1:], 0.3), atol=1e-6) and not torch.allclose(
        mixed[:1], theirs(x[:1], 0.3)
    )
    with pytest.raises(ValueError, match="3 noise levels for 2"):
        theirs(x, torch.ones(3))


def test_deepinvs_plug_and_play_takes_our_prior(deepinv):
    """One step of its proximal gradient: the denoiser at the gradient step."""
    x = to_unit(photograph(32, 32)[None])
    physics = deepinv.physics.Inpainting(img_size=(3, 32, 32), mask=0.7, rng=torch.Generator().manual_seed(1))
    y = physics.A(x)
    ours = bridge.denoiser(photo_gaussian())
    model = deepinv.optim.PGD(
        data_fidelity=deepinv.optim.L2(), prior=deepinv.optim.PnP(denoiser=ours), stepsize=1.0, sigma_denoiser=0.05,
        max_iter=1, early_stop=False,
    )  # fmt: skip
    with torch.no_grad():
        found, start = model(y, physics), physics.A_adjoint(y)
        wanted = ours(start - physics.A_adjoint(physics.A(start) - y), 0.05)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_snippets_of_the_document(deepinv, tmp_path, monkeypatch):
    write(photograph(32, 48), tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "interop.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(snippets) >= 3
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, "interop.md", "exec"), names)
