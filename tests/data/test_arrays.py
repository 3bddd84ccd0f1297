"""npz: mapped, never unpickled, never believed."""

import struct
import zipfile

import numpy as np
import pytest
import torch

from undiffuse.data import Unusable, npz

IMAGES = np.arange(5 * 6 * 7 * 3, dtype=np.int64).reshape(5, 6, 7, 3).astype(np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "set.npz", **arrays)
        return tmp_path / "set.npz"

    return save


@pytest.mark.parametrize("order", ["C", "F"])
def test_equals_numpy(save, order):
    data = npz(save(x=np.asarray(IMAGES, order=order), y=LABELS), labels="y")
    assert len(data) == 5 and data.channels == 3 and isinstance(data.images, np.memmap)
    for i in range(5):
        assert (
            np.array_equal(data[i].image.numpy(), IMAGES[i].transpose(2, 0, 1)) and data[i].label == LABELS[i]
        )
    with pytest.raises(IndexError):
        data[5]


def test_layouts(save):
    first = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2))
    data = npz(save(x=first))
    assert np.array_equal(data[1].image.numpy(), first[1]) and "NCHW" in data.notes[0]
    assert npz(save(x=IMAGES[..., 0]))[0].image.shape == (1, 6, 7)
    doubtful = save(x=np.zeros((2, 3, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="may be NHWC or NCHW"):
        npz(doubtful)
    assert npz(doubtful, layout="NCHW")[0].image.shape == (3, 8, 3)


def test_floats_need_their_range(save):
    at = save(x=np.full((2, 8, 8, 1), 2.0))
    with pytest.raises(ValueError, match="expected its range to be said"):
        npz(at)
    with pytest.raises(Unusable, match=r"beyond 0\.\.1"):
        npz(at, range="0..1")[0]
    image = npz(save(x=np.array([[[0.0, 0.25]]])), range="0..1")[0].image
    assert image.dtype == torch.float32 and image.flatten().tolist() == [-1, -0.5]
    with pytest.raises(ValueError, match="drop range"):
        npz(save(x=IMAGES), range="0..1")


def test_floats_of_another_byte_order_are_the_same(save):
    values = np.random.default_rng(0).random((3, 8, 8, 1)).astype("<f4")
    expected = npz(save(x=values), range="0..1")
    expected = [(expected[i].image.clone(), expected.digest(i)) for i in range(3)]
    found = npz(save(x=values.astype(">f4")), range="0..1")
    for i, (image, digest) in enumerate(expected):
        assert torch.equal(found[i].image, image) and found.digest(i) == digest


def test_floats_wider_than_torch_has_are_refused(save):
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("long double is double here")
    at = save(x=np.zeros((2, 8, 8, 1), np.longdouble))
    with pytest.raises(ValueError, match="expected uint8, or float of at most 64 bits"):
        npz(at, range="0..1")


def test_keys(save):
    at = save(a=IMAGES, b=IMAGES, y=LABELS)
    with pytest.raises(ValueError, match="2 arrays could be the images"):
        npz(at)
    assert npz(at, images="a").notes[1] == "arrays not used: b, y"
    with pytest.raises(ValueError, match="no array 'c'; choose from a, b, y"):
        npz(at, images="c")
    with pytest.raises(ValueError, match="expected 5 integers"):
        npz(save(x=IMAGES, y=LABELS[:4]), images="x", labels="y")
    with pytest.raises(ValueError, match="labels from -1"):
        npz(save(x=IMAGES, y=LABELS.astype(int) - 2), images="x", labels="y")


def test_objects_are_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    at = tmp_path / "set.npz"
    np.savez(at, x=np.array([[[Hostile()]]], object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects, which can run code"):
        npz(at)
    assert not (tmp_path / "ran").exists()


def lying(path, shape, size=630):
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\1\0" + struct.pack("<H", 118) + head.encode() + bytes(size))
    return path


@pytest.mark.parametrize(
    "shape",
    ["(5, 6, 7, 4)", "(9999999999, 6, 7, 3)", "(4, 6, 7, 3)", "(-5, -6, 7, 3)", "(2**9,)", "(0, 6, 7, 3)"],
)
def test_lying_about_its_shape(tmp_path, shape):
    at = lying(tmp_path / "x.npz", shape)
    with pytest.raises(ValueError, match="x.npz") as error:
        npz(at, images="x")
    assert "\n" not in str(error.value)


def test_honest_twin_is_read(tmp_path):
    assert len(npz(lying(tmp_path / "x.npz", "(5, 6, 7, 3)"))) == 5


@pytest.mark.parametrize("keep", [10, 200, 500])
def test_truncated_or_none(save, keep):
    at = save(x=IMAGES)
    at.write_bytes(at.read_bytes()[:keep])
    with pytest.raises(ValueError, match="cannot be opened"):
        npz(at)


def test_compressed_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "c.npz", x=IMAGES)
    with pytest.raises(ValueError, match="write it again with numpy.savez"):
        npz(tmp_path / "c.npz")


def test_damaged_anywhere_is_a_value_error_or_read(save):
    """Every 7th byte flipped in turn: no other exception, no read beyond the file."""
    at = save(x=IMAGES[:1, :2, :2])
    whole = at.read_bytes()
    for place in range(0, len(whole), 7):
        at.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            data = npz(at, images="x", layout="NHWC")
            assert data[0].image.dtype == torch.uint8
        except ValueError as error:
            assert "\n" not in str(error)
