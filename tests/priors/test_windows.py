"""Denoisers in windows: the contract, the blend, the jitter, gradients, seams, and data kept exactly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.pictures import photograph
from tests.small import PHOTO, prior_of
from undiffuse.contracts import denoiser
from undiffuse.core.grids import exponential, karras
from undiffuse.core.loop import last, sample
from undiffuse.core.noise import SeededNoise
from undiffuse.operators import build
from undiffuse.priors import Gaussian, windowed
from undiffuse.priors.windows import line, shifts
from undiffuse.restore import Problem, ddrm, dpir
from undiffuse.restore.dpir import begin

SIZE, OVERLAP = (16, 24), 8
EXACT = Gaussian(0.2, 0.3)  # pixel by pixel
LEVELS = [exponential(20, sigma_min=0.02, sigma_max=2.0)[:-1], karras(20)[:-1], karras(100)[:-1]]


def pictures(batch=3, height=45, width=61):
    return 0.2 + 0.3 * SeededNoise(range(batch))(torch.empty(batch, 3, height, width, dtype=torch.float64))


def asked(x, sigma, size=SIZE, overlap=OVERLAP, batch=1):
    """What a denoiser in windows is called with, and with which levels."""
    seen = []

    def spy(crop, level, /):
        seen.append((crop.clone(), level))
        return crop

    answer = windowed(spy, size=size, overlap=overlap, batch=batch)(x, sigma)
    return answer, seen


@pytest.mark.parametrize(("height", "width"), [(45, 61), (16, 61), (17, 24), (16, 24), (7, 5), (1, 100)])
def test_contract(height, width):
    x0 = pictures(3, height, width)
    denoise = windowed(EXACT, size=SIZE, overlap=OVERLAP)
    denoiser.denoiser_contract(denoise, x0)
    denoiser.denoiser_contract(denoise, x0.float())
    denoiser.can_be_differentiated(denoise, x0)


def test_contract_of_a_network():
    """Row i depends on row i only, whatever the lattices of the others. 1e-5: float32 convolutions in batches."""
    denoise = windowed(prior_of(PHOTO), size=SIZE, overlap=OVERLAP, batch=2)
    x0 = pictures().float()
    denoiser.keeps_shape_and_dtype(denoise, x0)
    denoiser.images_do_not_mix(denoise, x0, 1e-5)
    denoiser.one_sigma_or_one_an_image(denoise, x0, 1e-5)


@pytest.mark.parametrize(("size", "overlap"), [(2, 1), (9, 1), (9, 4), (16, 8), (32, 5)])
def test_weights_sum_to_one_and_windows_cover(size, overlap):
    """To 1e-15: each weight is rounded once in float64."""
    for length in range(size, 5 * size):
        counts = set()
        for shift in (0.0, 0.3, 0.7, 0.999999):
            found = line(length, size, overlap, shift)
            total = torch.zeros(length, dtype=torch.float64)
            for start, weights in zip(found.starts, found.weights, strict=True):
                total[start : start + size] += weights
            assert (total - 1).abs().max() <= 1e-15
            assert found.starts[0] == 0 and found.starts[-1] == length - size
            steps = np.diff(found.starts)
            assert (steps > 0).all() and (steps <= size - overlap).all()
            counts.add(len(found.starts))
        assert len(counts) == 1


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("sigma", [torch.tensor(0.3), torch.tensor([0.1, 0.7]).reshape(2, 1, 1, 1)])
def test_a_local_denoiser_answers_as_on_the_whole(sigma, batch):
    """With reach up to a quarter of the overlap; further, the window's border shows. 1e-12: sums in float64."""
    x = pictures(2)

    def local(reach):
        kernel = torch.linspace(-1, 1, 3 * (2 * reach + 1) ** 2).reshape(3, 1, 2 * reach + 1, 2 * reach + 1)
        return lambda x, sigma, /: sigma * F.conv2d(x, kernel.to(x), padding=reach, groups=3)

    for reach, same in ((OVERLAP // 4, True), (OVERLAP // 4 + 2, False)):
        whole = local(reach)(x, sigma.double())
        found = windowed(local(reach), size=SIZE, overlap=OVERLAP, batch=batch)(x, sigma)
        assert torch.allclose(found, whole, rtol=0, atol=1e-12) == same


def test_a_window_of_the_pictures_size_is_the_denoiser_itself():
    prior, x = prior_of(PHOTO), pictures(2, *SIZE).float()
    sigma = torch.tensor([0.1, 2.0]).reshape(2, 1, 1, 1)
    assert torch.equal(windowed(prior, size=SIZE, overlap=OVERLAP)(x, sigma), prior(x, sigma))


@pytest.mark.parametrize(("height", "width"), [(5, 9), (2, 1), (16, 7)])
def test_a_small_picture_is_continued_by_reflection(height, width):
    x = pictures(1, height, width)
    answer, [(seen, _)] = asked(x, torch.tensor(0.5))
    missing = [s - n for s, n in zip(SIZE, (height, width), strict=True)]
    padding = [(m // 2, m - m // 2) for m in missing]
    assert np.array_equal(seen[0].numpy(), np.pad(x[0].numpy(), [(0, 0), *padding], "reflect"))
    assert torch.equal(answer, x)


def test_every_call_has_windows_of_the_size_and_the_levels_of_their_images():
    x, sigma = pictures(2), torch.tensor([0.1, 0.7], dtype=torch.float64).reshape(2, 1, 1, 1)
    _, seen = asked(x, sigma, batch=4)
    count = sum(len(crop) for crop, _ in seen)
    assert count == 2 * len(line(45, 16, 8, 0).starts) * len(line(61, 24, 8, 0).starts)
    for crop, level in seen:
        assert crop.shape[1:] == (3, *SIZE) and len(crop) <= 8
        assert torch.equal(level, sigma.repeat(len(crop) // 2, 1, 1, 1))


@pytest.mark.parametrize("sigmas", LEVELS)
def test_seams_move_with_the_level_and_nothing_else(sigmas):
    """From one level to the next always; and at no place do more than a quarter of the levels meet."""
    rows = torch.arange(1000.0)[:, None].expand(1, 1, 1000, 60).clone()
    lattices = []
    for sigma in sigmas.tolist():
        tops = [
            tuple(crop[0, 0, 0, 0].item() for crop, _ in asked(rows, torch.tensor(s), (256, 60), 30)[1])
            for s in (sigma, sigma, sigma * (1 + 1e-7))
        ]
        assert tops[0] == tops[1] and abs(tops[0][1] - tops[2][1]) <= 1
        lattices.append(tops[0])
    assert all(before != after for before, after in zip(lattices, lattices[1:], strict=False))
    assert max(lattices.count(one) for one in lattices) <= len(lattices) // 4


def test_shifts_do_not_depend_on_the_precision_of_sigma():
    for sigma in karras(40).tolist():
        single = torch.tensor(sigma, dtype=torch.float32).item()
        for a, b in zip(shifts(sigma), shifts(single), strict=True):
            assert min(abs(a - b), 1 - abs(a - b)) < 1e-5  # on the circle; float32 rounds sigma by 6e-8


def test_gradients_are_those_without_checkpoints(monkeypatch):
    prior, x, sigma = prior_of(PHOTO).double(), pictures(2), torch.tensor(0.4)
    calls = []

    def counted(x, sigma, /):
        calls.append(None)
        return prior(x, sigma)

    def gradients():
        leaf = x.clone().requires_grad_()
        answer = windowed(counted, size=SIZE, overlap=OVERLAP)(leaf, sigma)
        forward = len(calls)
        found = [torch.autograd.grad(answer, leaf, v, retain_graph=True)[0] for v in (x, x.flip(3))]
        return found, forward

    kept, forward = gradients()
    assert len(calls) == 3 * forward  # made again at each pass, so nothing of the network was held
    monkeypatch.setattr("undiffuse.priors.windows.checkpoint", lambda f, *a, **_: f(*a))
    calls.clear()
    plain, forward = gradients()
    assert len(calls) == forward
    assert all(torch.equal(a, b) for a, b in zip(kept, plain, strict=True))


def test_no_seams():
    """What depends on the whole window, as a normalisation does, steps from one to the next; the blend hides it.

    The picture: a slope of 0.005 a pixel and a wave of curvature 0.3 (2 pi / 40)^2 = 7.4e-3. The answer is shifted by
    0.2 times the window's mean, which differs by up to 0.3 between neighbours. Blended over 12 pixels this bends it by
    0.06 pi^2 / 2 / 12^2 = 2.1e-3 at most; a cut, by half the difference itself.
    """
    at = torch.arange(200, dtype=torch.float64)
    x = (0.005 * at + 0.3 * torch.sin(at * (2 * torch.pi / 40))).expand(1, 1, 64, 200)

    def shifted(crop, sigma, /):
        return crop + 0.2 * crop.mean((1, 2, 3), keepdim=True)

    def bend(overlap, sigma):
        answer = windowed(shifted, size=(64, 50), overlap=overlap)(x, torch.tensor(sigma))
        return (answer - x).diff(n=2, dim=3).abs().max().item()

    elsewhere = x.diff(n=2, dim=3).abs().max().item()
    for sigma in (0.1, 0.5, 2.0):
        assert 0 < bend(24, sigma) < elsewhere / 3
        assert bend(1, sigma) > elsewhere


@pytest.mark.parametrize("degradation", ["sr4", "inp", "deblur_gauss"])
@pytest.mark.parametrize("algorithm", [ddrm, dpir])
def test_data_without_noise_is_kept(degradation, algorithm):
    """The operator sees the whole picture, so no window comes between it and the data.

    1e-5 of float32 data of size 1, as without windows; deblurring only where a mode was measured at all, and the
    strongest inverse multiplies rounding by 1 / s: its projected answer is compared through A, which multiplies by s.
    """
    x0 = photograph(64, 96)[None]
    A = build(degradation, (3, 64, 96)).to(x0)
    problem = Problem(A, A(x0), 0.0)
    denoise = windowed(prior_of(PHOTO), size=(32, 32), overlap=8)
    noise = SeededNoise([0])
    sigmas = exponential(4, sigma_min=0.05, sigma_max=2.0)
    x = last(sample(algorithm(denoise, problem, noise), begin(problem, sigmas[0], noise), sigmas)).x
    torch.testing.assert_close(A(x), problem.y, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "overlap"), [((16, 24), 9), ((16, 24), 0), ((1, 24), 1)])
def test_impossible_overlaps(size, overlap):
    with pytest.raises(ValueError, match=f"overlap of {overlap}; expected 1 to"):
        windowed(EXACT, size=size, overlap=overlap)


def test_no_windows_in_a_call():
    with pytest.raises(ValueError, match="batch = 0"):
        windowed(EXACT, size=SIZE, overlap=OVERLAP, batch=0)
