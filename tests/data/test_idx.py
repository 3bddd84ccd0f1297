"""The MNIST family: header and length checked."""

import gzip
import struct

import numpy as np
import pytest

from undiffuse.data import idx

IMAGES = np.arange(4 * 3 * 5, dtype=np.uint8).reshape(4, 3, 5)
LABELS = np.array([0, 2, 1, 2], np.uint8)


def encoded(values):
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def write(folder, *, pack=False, prefix="train", dash="-"):
    for name, values in (("images", IMAGES), ("labels", LABELS)):
        at = folder / f"{prefix}-{name}{dash}idx{values.ndim}-ubyte{'.gz' if pack else ''}"
        at.write_bytes(gzip.compress(encoded(values)) if pack else encoded(values))
    return folder


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("dash", ["-", "."])
def test_read(tmp_path, pack, dash):
    data = idx(write(tmp_path, pack=pack, dash=dash))
    assert len(data) == 4 and data.channels == 1 and data.classes == ("0", "1", "2")
    assert [data[i].label for i in range(4)] == LABELS.tolist()
    assert np.array_equal(data[2].image.numpy(), IMAGES[2:3])


def test_a_file_alone_and_splits(tmp_path):
    write(tmp_path, prefix="t10k", pack=True)
    assert len(idx(tmp_path, split="test")) == 4
    with pytest.raises(ValueError, match="no images of the train split"):
        idx(tmp_path)
    at = tmp_path / "t10k-images-idx3-ubyte.gz"
    assert idx(at)[1].label == 2
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    assert idx(at)[1].label is None and idx(at).notes == ("no labels beside the images",)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encoded(IMAGES)[:-1], "claims 60 bytes of data and holds 59"),
        (encoded(IMAGES) + b"x", "holds more"),
        (encoded(IMAGES)[:9], "begins with"),
        (b"", "begins with b''"),
        (encoded(LABELS), "begins with"),
        (b"\0\0\x0d\3" + encoded(IMAGES)[4:], "begins with"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, *3 * (2**32 - 1,)), "are allowed"),
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 0, 3, 5), "are allowed"),
        (gzip.compress(encoded(IMAGES), mtime=0)[:-9], "expected an idx file"),
        (b"\x1f\x8bnonsense", "expected an idx file"),
        (gzip.compress(encoded(IMAGES) + bytes(10**6), mtime=0), "holds more"),
    ],
)
def test_hostile(tmp_path, data, message):
    at = tmp_path / "train-images-idx3-ubyte"
    at.write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        idx(at)
    assert str(at) in str(error.value) and "\n" not in str(error.value)


def test_labels_must_fit(tmp_path):
    write(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(encoded(LABELS[:3]))
    with pytest.raises(ValueError, match="expected 4 integers"):
        idx(tmp_path)


def test_names_of_classes_and_rows_that_are_columns(tmp_path):
    write(tmp_path)
    assert idx(tmp_path, names=["cat", "dog", "owl"]).classes == ("cat", "dog", "owl")
    assert np.array_equal(idx(tmp_path, transposed=True)[2].image.numpy(), IMAGES[2:3].swapaxes(1, 2))
    for names in (["cat", "dog"], ["cat", "dog", "dog"]):
        with pytest.raises(ValueError, match="give each class a name of its own"):
            idx(tmp_path, names=names)
