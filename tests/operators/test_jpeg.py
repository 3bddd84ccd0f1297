"""JPEG against a codec, and what its steps leave open."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from undiffuse.core.images import read
from undiffuse.operators import Jpeg
from undiffuse.operators.jpeg import as_text, tables_of
from undiffuse.operators.truncated import truncated
from undiffuse.registry import OPERATORS
from undiffuse.restore import Problem, certify
from undiffuse.restore.data_step import data_step

SAMPLING = {"444": 0, "422": 1, "420": 2}  # as Pillow counts it


def photograph(height, width):
    return data.astronaut()[60 : 60 + height, 150 : 150 + width]


def as_tensor(pixels):
    return torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1)[None].double() / 127.5 - 1


def codec(pixels, quality, subsampling):
    with io.BytesIO() as buffer:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=SAMPLING[subsampling])
        return as_tensor(np.array(Image.open(buffer)))


def decibels(a, b):
    return 10 * torch.log10(4 / (a - b).square().mean()).item()


@pytest.mark.parametrize("size", [(128, 128), (67, 90)], ids=str)
@pytest.mark.parametrize("quality", [5, 20, 50, 75, 95])
@pytest.mark.parametrize(("channels", "subsampling"), [(1, "444"), (3, "444"), (3, "422"), (3, "420")])
def test_jpeg_is_pillows(channels, subsampling, quality, size):
    """The codec rounds to 8 bits before and after its transform: half a level each time is 59 dB.

    Where such a rounding tips a coefficient to the next multiple of a large table entry, a block differs
    visibly, or four where colours are halved; this is rare, and 34 dB over a small picture allows for it. The
    compression itself is at 20 to 40 dB.
    """
    pixels = photograph(*size) if channels == 3 else photograph(*size)[..., 1]
    x = as_tensor(pixels)
    y = OPERATORS["jpeg"]((channels, *size), quality=quality, subsampling=subsampling)(x)
    theirs = codec(pixels, quality, subsampling)
    assert decibels(y, theirs) > 34
    assert decibels(y, theirs) > decibels(y, x) + 5 or quality == 95


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
def test_a_file_tells_how_it_was_stored(tmp_path, subsampling, orientation):
    """Steps of no quality, colours and turn: what is stored again is the file, but for what its decoder rounds."""
    pixels, exif = photograph(83, 110), Image.Exif()
    exif[274] = orientation
    steps = [tables_of(70, "444", 3).components[k][0].ravel() + 1 for k in (0, 1)]
    Image.fromarray(pixels).save(
        tmp_path / "a.jpg", qtables=[list(map(int, table)) for table in steps], exif=exif,
        subsampling=SAMPLING[subsampling],
    )  # fmt: skip
    y = read(tmp_path / "a.jpg").pixels[None].double()
    A = OPERATORS["jpeg"](tuple(y.shape[1:]), like=str(tmp_path / "a.jpg"))
    again = A(A.nearest(torch.zeros_like(y), A.read(y)))
    inside = (
        slice(None),
        slice(None),
        slice(16, -16),
        slice(16, -16),
    )  # blocks at the edge have unseen pixels
    assert decibels(again[inside], y[inside]) > 50  # three roundings to 8 bits are 53 dB
    plain = OPERATORS["jpeg"](tuple(y.shape[1:]), quality=70)
    worse = plain(plain.nearest(torch.zeros_like(y), y))
    assert decibels(again[inside], y[inside]) > decibels(worse[inside], y[inside]) + 6


def test_a_quality_is_told_as_one(tmp_path):
    Image.fromarray(photograph(64, 64)).save(tmp_path / "a.jpg", quality=83, subsampling=2)
    found = read(tmp_path / "a.jpg", measured=True).jpeg
    assert found is not None and as_text(found.tables) == "jpeg:quality=83,subsampling=420"
    Image.fromarray(photograph(64, 64)[..., 0]).save(tmp_path / "grey.jpg", quality=31)
    grey = read(tmp_path / "grey.jpg", measured=True).jpeg
    assert grey is not None and as_text(grey.tables) == "jpeg:quality=31,subsampling=444"


def test_what_does_not_tell_is_refused(tmp_path):
    Image.fromarray(photograph(32, 32)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="a.png' does not tell; expected a JPEG"):
        OPERATORS["jpeg"]((3, 32, 32), like=str(tmp_path / "a.png"))
    Image.fromarray(photograph(32, 32)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="tells quality and subsampling"):
        OPERATORS["jpeg"]((3, 32, 32), like=str(tmp_path / "a.jpg"), quality=50)
    with pytest.raises(ValueError, match="a JPEG of 3 channels for a picture of 1"):
        OPERATORS["jpeg"]((1, 32, 32), like=str(tmp_path / "a.jpg"))
    with pytest.raises(ValueError, match="JPEG of 4 channels; it stores 1 or 3"):
        OPERATORS["jpeg"]((4, 8, 8))


def test_jpeg_passes_gradients_through():
    x = (0.5 * torch.rand(1, 3, 9, 12, dtype=torch.float64)).requires_grad_()
    operator = OPERATORS["jpeg"]((3, 9, 12), quality=50)
    weights = torch.randn(1, 3, 9, 12, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((operator(x) * weights).sum(), x)
    torch.testing.assert_close(
        gradient[..., :8, :8], weights[..., :8, :8], rtol=0, atol=1e-12
    )  # inside, the chain is the identity


@pytest.mark.parametrize(
    ("channels", "size", "subsampling"), [(3, (24, 32), "444"), (1, (19, 13), "444"), (3, (32, 48), "420")]
)
def test_what_a_jpeg_leaves_open(channels, size, subsampling):
    """`nearest` is stored as y is and moves no picture that is; `estimate` lies between it and the data."""
    generator = torch.Generator().manual_seed(0)
    x, other = (0.2 * torch.randn(2, 2, channels, *size, generator=generator, dtype=torch.float64)).clamp(
        -0.9, 0.9
    )
    A = OPERATORS["jpeg"]((channels, *size), quality=30, subsampling=subsampling)
    y = A(x)
    assert (y.abs() < 1).all()  # else the clamp of the decoder hides what was stored
    whole = (
        ...,
        *(slice(n // 8 * 8) for n in size),
    )  # blocks beyond the edge repeat its pixels, which may change
    found = A.nearest(other, y)
    assert torch.allclose(A(found)[whole], y[whole], atol=1e-9)
    assert torch.allclose(A.nearest(found, y)[whole], found[whole], atol=1e-9)
    assert (found - x).square().sum() < (other - x).square().sum()
    assert torch.allclose(A.estimate(x, y, torch.tensor(1e-12), 0.0), A.nearest(x, y), atol=1e-5)
    if subsampling == "444":
        assert torch.allclose(A.estimate(other, y, torch.tensor(1e9), 0.0)[whole], y[whole], atol=1e-4)
    noisy = A.estimate(found, y, torch.tensor([1e-3, 1e-3]).reshape(2, 1, 1, 1), 10.0)  # hides every step
    assert torch.allclose(noisy, found, atol=1e-3)
    torch.testing.assert_close(A.nearest(other, y, 10.0), other)


def test_each_picture_of_a_batch_has_its_variance():
    generator = torch.Generator().manual_seed(1)
    x, other = 0.2 * torch.randn(2, 2, 3, 16, 16, generator=generator, dtype=torch.float64)
    A = OPERATORS["jpeg"]((3, 16, 16), quality=50, subsampling="420")
    y, variance = A(x), torch.tensor([0.01, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    both = A.estimate(other, y, variance, 0.0)
    each = [A.estimate(other[i : i + 1], y[i : i + 1], variance[i : i + 1], 0.0) for i in range(2)]
    torch.testing.assert_close(both, torch.cat(each))


def test_clamped_pixels_do_not_hide_what_was_stored():
    """A black square on white rings beyond white; three quarters of the coefficients that this moved are found."""
    pixels = np.full((64, 64), 250, np.uint8)
    pixels[19:43, 21:44] = 3
    x = as_tensor(pixels)
    A = OPERATORS["jpeg"]((1, 64, 64), quality=20)
    y, stored = A(x), A._encoded(x)[0].round()
    wrong = [(A._decoded(given)[0].round() != stored).sum().item() for given in (y, A.read(y))]
    assert wrong[0] > 10 and wrong[1] < wrong[0] / 4


@pytest.mark.parametrize("quality", [10, 30, 75, 90])
@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
@pytest.mark.parametrize("contrast", [1.0, 0.05])
def test_the_rounding_of_a_decoder_is_foreseen(contrast, subsampling, quality):
    """Of a photograph, and of one in a fog, whose blocks are rounded alike: Pillow's, to 10 %.

    Three roundings in a hundred tip over where half a level is met in other digits, and at small steps what is read
    follows some of the rounding. White noise in every rounding, as strong in all of them, would be off by 60 %.
    """
    fog = (1 - contrast) * np.array([200, 120, 60])
    pixels = np.rint(contrast * photograph(128, 128) + fog).astype(np.uint8)
    y = codec(pixels, quality, subsampling)
    A = OPERATORS["jpeg"]((3, 128, 128), quality=quality, subsampling=subsampling)
    left = (A(A.nearest(y, A.read(y))) - y).square().mean().sqrt().item()
    assert A.rounding(y) == pytest.approx(left, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("deviation", [1e-6, 1e-3, 0.1, 1.0, 30.0, 1e5])
def test_the_mean_between_two_limits(deviation, dtype):
    """Against sums over a fine grid, from the middle to far outside."""
    low, high = -0.4, 0.6
    means = torch.tensor([0.1, 0.0, -0.39, 0.601, 1.0, -7.0, 40.0], dtype=torch.float64)
    reach = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    nearest = means.clamp(low, high)
    left, right = (nearest - 40 * deviation).clamp(min=low), (nearest + 40 * deviation).clamp(max=high)
    at = left[:, None] + (right - left)[:, None] * reach
    weight = torch.softmax(-((at - means[:, None]) ** 2) / 2 / deviation**2, 1)
    limits = [torch.tensor(value, dtype=dtype) for value in (deviation, low, high)]
    found = truncated(means.to(dtype), *limits)
    rounding = 4 * torch.finfo(torch.float32).eps * means.abs().clamp(min=1)
    error = 1e-3 * min(deviation, 1) + rounding  # 1e-3: where the limits are taken for close
    assert ((found.double() - (weight * at).sum(1)).abs() < error).all()


def test_an_operator_of_a_file_travels(tmp_path):
    """To another precision, and to another process."""
    import pickle

    A = Jpeg((3, 16, 16), tables_of(40, "420", 3))
    x = 0.3 * torch.randn(1, 3, 16, 16, dtype=torch.float64)
    assert torch.equal(pickle.loads(pickle.dumps(A))(x), A(x))
    assert decibels(A.float()(x.float()).double(), A.double()(x)) > 60


@pytest.mark.parametrize("subsampling", ["444", "420"])
@pytest.mark.parametrize("size", [(71, 96), (67, 93)], ids=str)
def test_blocks_that_the_edge_cuts_off_are_not_judged(size, subsampling):
    """How they were stored is not seen; an answer that keeps all of the others keeps the data."""
    x = as_tensor(photograph(*size))
    A = OPERATORS["jpeg"]((3, *size), quality=50, subsampling=subsampling)
    problem = Problem(A, A(x), 0.0)
    kept = data_step(problem, "dpir").kept(problem.y)
    (found,) = certify(problem, kept)
    assert found.verdict == "consistent" and found.measurements < A.measurements
    kept[..., 8:16, 8:16] += 0.2
    assert certify(problem, kept)[0].verdict == "inconsistent"


def test_turned_pictures_are_judged_where_their_blocks_lie():
    tables = replace(tables_of(50, "420", 3), orientation=6)
    judged = Jpeg((3, 40, 33), tables).judged
    assert judged is not None and judged.shape == (3, 40, 33)
    stored = Jpeg((3, 33, 40), replace(tables, orientation=1)).judged
    assert stored is not None and torch.equal(judged, stored.mT.flip(-1))
    assert Jpeg((3, 32, 48), tables).judged is None and Jpeg((3, 5, 5), tables).judged is None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("subsampling", ["444", "420"])
def test_what_a_file_holds_beyond_the_edge_is_read(tmp_path, subsampling, orientation, progressive):
    """As of the picture that the encoder made of it, of whole blocks: it repeats the last row and column."""
    exif = Image.Exif()
    exif[274] = orientation
    pixels = photograph(75, 93)
    found: list[list[torch.Tensor]] = []
    for name, stored in (("cut", pixels), ("whole", np.pad(pixels, ((0, 5), (0, 3), (0, 0)), mode="edge"))):
        Image.fromarray(stored).save(
            tmp_path / f"{name}.jpg", quality=50, subsampling=SAMPLING[subsampling], exif=exif,
            progressive=progressive,
        )  # fmt: skip
        y = read(tmp_path / f"{name}.jpg", measured=True).pixels[None].double()
        A = OPERATORS["jpeg"](tuple(y.shape[1:]), like=str(tmp_path / f"{name}.jpg"))
        found.append([data.round() for data in A._decoded(A._as_stored(A.read(y)))])
        assert A.read(-y).shape == y.shape  # of another picture the file does not tell
    assert all(torch.equal(cut, whole) for cut, whole in zip(*found, strict=True))
