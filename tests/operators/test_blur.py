"""Blur and reduction against direct convolution, and against the reductions that others use."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, signal

from undiffuse.contracts.operator import check
from undiffuse.operators import CircularBlur, Convolution, CosineBlur, Kronecker, SVDOperator, kernels
from undiffuse.operators.build import build
from undiffuse.registry import OPERATORS

SCIPY = {
    "reflect": "reflect",
    "zero": "constant",
    "circular": "wrap",
}  # scipy's reflect is half-sample symmetric


def image(shape, seed=0):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def direct(x, kernel, boundary):
    """scipy centres even kernels at K // 2, one pixel beyond (K - 1) // 2."""
    origin = [-1 if size % 2 == 0 else 0 for size in kernel.shape]
    planes = [
        ndimage.convolve(plane, kernel, mode=SCIPY[boundary], origin=origin)
        for plane in x.reshape(-1, *x.shape[-2:])
    ]
    return torch.from_numpy(np.stack(planes).reshape(x.shape))


@pytest.mark.parametrize("boundary", SCIPY)
@pytest.mark.parametrize("size", [(3, 3), (4, 6), (7, 2), (1, 5), (9, 9)], ids=str)
@pytest.mark.parametrize("kind", ["general", "mirrored", "separable", "symmetric"])
def test_any_kernel_is_a_convolution(kind, size, boundary, tmp_path):
    rng = np.random.default_rng(1)
    kernel = rng.random(size) if kind == "general" else np.outer(rng.random(size[0]), rng.random(size[1]))
    if kind == "symmetric":
        kernel = kernel + kernel[::-1]
        kernel = np.outer(kernel.sum(1), kernel.sum(0) + kernel.sum(0)[::-1])
    if kind == "mirrored":
        kernel = rng.random(size)
        kernel = kernel + kernel[::-1]
        kernel = kernel + kernel[:, ::-1]
    if kind in ("general", "mirrored"):
        kernel[(size[0] - 1) // 2, (size[1] - 1) // 2] += kernel.sum()  # singular values stay away from 0
    kernel /= kernel.sum()
    np.save(tmp_path / "k.npy", kernel)
    shape = (3, 11, 14)
    operator = OPERATORS["blur"](shape, kernel=str(tmp_path / "k.npy"), boundary=boundary)
    torch.testing.assert_close(
        operator(image(shape)), direct(image(shape), kernel, boundary), rtol=0, atol=1e-12
    )
    if boundary == "circular":
        assert isinstance(operator, CircularBlur)
    elif kind in ("separable", "symmetric") or 1 in size:
        assert isinstance(operator, Kronecker)
    elif kind == "mirrored" and boundary == "reflect" and all(n % 2 for n in size):
        assert isinstance(operator, CosineBlur)
    else:
        assert isinstance(operator, Convolution)
    if isinstance(operator, SVDOperator):
        check(operator)
    else:  # conjugate gradient stops at a residual of 100 eps
        check(operator, solved=1e-9)


def test_a_disk_larger_than_the_picture_by_cosines():
    """Reflected as often as needed; negative and vanishing responses, too."""
    for taps in (9, 21):
        operator = OPERATORS["blur"]((1, 7, 10), kernel="disk", taps=taps)
        assert isinstance(operator, CosineBlur) and (operator.response < 0).any()
        expected = direct(image((1, 7, 10)), kernels.disk(taps).numpy(), "reflect")
        torch.testing.assert_close(operator(image((1, 7, 10))), expected, rtol=0, atol=1e-12)
        check(operator)


def test_a_disk_of_any_diameter_is_centred_and_as_wide_as_it_says():
    """Its variance along an axis is d^2 / 16, and 1 / 12 of the pixels that it is drawn on."""
    for diameter in (4.0, 5.3, 8.4, 12.6, 200.0):
        kernel = kernels.disk(diameter)
        assert len(kernel) % 2 and torch.equal(kernel, kernel.flip(0)) and torch.equal(kernel, kernel.T)
        d = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
        variance = float(kernel.sum(0) @ d**2)
        assert variance == pytest.approx(diameter**2 / 16 + 1 / 12, rel=0.04)  # pixels: 3.4 % at 4
    assert isinstance(OPERATORS["blur"]((1, 16, 18), kernel="disk", taps=7.5), CosineBlur)


def test_only_mirrored_kernels_go_by_cosines():
    for kernel in (kernels.motion(9, 30.0), kernels.uniform(4)):
        with pytest.raises(ValueError, match="mirror images; use a Convolution"):
            CosineBlur((1, 16, 18), kernel)


def test_circular_is_a_product_of_spectra():
    kernel = kernels.motion(9, 30.0)
    operator, x = CircularBlur((1, 16, 18), kernel), image((1, 16, 18))
    centred = np.zeros((16, 18))
    centred[:9, :9] = kernel
    centred = np.roll(centred, (-4, -4), (0, 1))
    expected = np.fft.ifft2(np.fft.fft2(x.numpy()) * np.fft.fft2(centred)).real
    torch.testing.assert_close(operator(x), torch.from_numpy(expected), rtol=0, atol=1e-13)


@pytest.mark.parametrize("boundary", SCIPY)
def test_kernels_larger_than_the_image(boundary):
    shape = (1, 7, 10)
    operator = OPERATORS["blur"](shape, kernel="gaussian", std=6.0, boundary=boundary)
    kernel = kernels.gaussian(37, 6.0, 6.0)
    if boundary == "zero":
        planes = [signal.convolve2d(p, kernel, mode="full")[18:25, 18:28] for p in image(shape)[:, 0]]
        expected = torch.from_numpy(np.stack(planes)).unsqueeze(1)
    else:
        expected = direct(image(shape), kernel.numpy(), boundary)
    torch.testing.assert_close(operator(image(shape)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": "uniform", "taps": 4},
        {"kernel": "disk", "taps": 7},
        {"kernel": "motion", "taps": 9, "angle": 90.0},
        {"kernel": "motion", "angle": 45.0},
        {"kernel": "gaussian", "std": 1.0, "std_y": 3.0},
    ],
    ids=str,
)
def test_built_in_kernels_keep_the_mean(options):
    ones = torch.ones(1, 1, 20, 17, dtype=torch.float64)
    operator = OPERATORS["blur"]((1, 20, 17), **options)
    torch.testing.assert_close(operator(ones), ones, rtol=0, atol=1e-12)


def test_orientation():
    """std is horizontal, std_y vertical; a motion at 90 degrees is vertical."""
    point = torch.zeros(1, 1, 31, 31, dtype=torch.float64)
    point[..., 15, 15] = 1
    y = OPERATORS["deblur_aniso"]((1, 31, 31))(point)[0, 0]
    assert y.sum(0).std() < y.sum(1).std()  # nearly flat along columns, peaked along rows
    y = OPERATORS["blur"]((1, 31, 31), kernel="motion", taps=9, angle=90.0)(point)[0, 0]
    assert (y.sum(1) > 1e-12).sum() == 9 and (y.sum(0) > 1e-12).sum() == 1


def test_the_presets_of_ddrm():
    k = kernels.gaussian(5, 10.0, 10.0)
    assert float(k.max() / k.min()) == pytest.approx(np.exp(4 / 100), rel=1e-12)
    assert isinstance(OPERATORS["deblur_uni"]((3, 256, 256)), Kronecker)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_bicubic_equals_torch_inside(factor):
    """torch renormalises at the edges, this one reflects: equal beyond two small pixels of an edge."""
    x = image((3, 6 * factor, 8 * factor))
    y = OPERATORS["downsample"]((3, 6 * factor, 8 * factor), factor=factor)(x)
    theirs = torch.nn.functional.interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True)
    torch.testing.assert_close(y[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], rtol=0, atol=1e-6)


def test_lanczos_equals_pillow_inside():
    x = image((1, 40, 40)).float()
    y = OPERATORS["downsample"]((1, 40, 40), kernel="lanczos3", factor=4)(x.double())
    theirs = Image.fromarray(x[0, 0].numpy()).resize((10, 10), Image.Resampling.LANCZOS)
    torch.testing.assert_close(
        y[0, 0, 3:-3, 3:-3].float(), torch.from_numpy(np.array(theirs))[3:-3, 3:-3], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_pool_is_average_pooling(factor):
    x = image((3, 13, 17))
    y = OPERATORS["pool"]((3, 13, 17), factor=factor)(x)
    theirs = torch.nn.functional.avg_pool2d(x, factor, ceil_mode=True, count_include_pad=False)
    torch.testing.assert_close(y, theirs, rtol=0, atol=1e-13)
    even = x[..., : 13 // factor * factor, : 17 // factor * factor]
    box = OPERATORS["downsample"](tuple(even.shape[1:]), kernel="box", factor=factor)(even)
    torch.testing.assert_close(box, torch.nn.functional.avg_pool2d(even, factor), rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [(5, 5), (4, 4), (3, 8)], ids=str)
@pytest.mark.parametrize("factor", [2, 3])
def test_a_kernel_file_reduces_at_block_centres(factor, size, tmp_path):
    """Blur, then keep one pixel in factor: the phase follows from the block centre, rounded down."""
    kernel = np.random.default_rng(2).random(size)
    kernel /= kernel.sum()
    np.save(tmp_path / "k.npy", kernel)
    shape, x = (1, 12, 18), image((1, 12, 18))
    operator = OPERATORS["downsample"](shape, kernel=str(tmp_path / "k.npy"), factor=factor)
    full = direct(x, kernel, "reflect")
    first = [(factor + k - 2) // 2 - (k - 1) // 2 for k in size]
    torch.testing.assert_close(
        operator(x), full[..., first[0] :: factor, first[1] :: factor], rtol=0, atol=1e-12
    )
    check(operator, solved=1e-6)


def test_options_without_effect_are_refused():
    for options, words in [
        ({"kernel": "disk", "std": 2.0}, "std=2 has no meaning for kernel disk; it takes taps"),
        ({"kernel": "uniform", "normalise": True}, "normalise=True has no meaning"),
        ({"kernel": "gausian"}, "no kernel 'gausian'"),
        ({"kernel": "uniform", "taps": 4.5}, "taps=4.5 for kernel uniform; expected a whole number"),
    ]:
        with pytest.raises(ValueError, match=words):
            OPERATORS["blur"]((1, 8, 8), **options)
    with pytest.raises(ValueError, match="std=1.0 has no meaning for kernel bicubic"):
        OPERATORS["downsample"]((1, 8, 8), std=1.0)


@pytest.mark.parametrize("kind", ["16 bits", "transparent"])
def test_a_kernel_picture_of_another_kind_is_the_same_kernel(tmp_path, kind):
    values = np.array([[0, 10, 0], [20, 200, 40], [0, 10, 0]], np.uint8)
    Image.fromarray(values).save(tmp_path / "grey.png")
    if kind == "16 bits":
        Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "other.png")
    else:  # white, as much as there is of it
        Image.fromarray(np.dstack([np.full_like(values, 255)] * 3 + [values])).save(tmp_path / "other.png")
    x = torch.randn(1, 1, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grey, other = (build(f"blur:kernel={tmp_path / name}.png", (1, 9, 8)) for name in ("grey", "other"))
    torch.testing.assert_close(other(x), grey(x))
