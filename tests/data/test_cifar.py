"""CIFAR's pickles: read as published, and never run."""

import os
import pickle

import numpy as np
import pytest

from undiffuse.data import cifar
from undiffuse.data.cifar import load

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3072), np.uint8)
NAMES = [b"plane", b"car", b"bird"]


def published(held, protocol=2):
    """As Python 2 and the NumPy of that day wrote it."""
    data = pickle.dumps(held, protocol)
    return data if protocol > 3 else data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write(folder, data=IMAGES, labels=(2, 0, 1), protocol=2):
    folder.mkdir(exist_ok=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(published({b"data": data, b"labels": list(labels)}, protocol))
    (folder / "batches.meta").write_bytes(published({b"label_names": NAMES}, protocol))
    return folder


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_ten(tmp_path, protocol, order):
    write(tmp_path / "cifar-10-batches-py", np.asarray(IMAGES, order=order), protocol=protocol)
    data = cifar(tmp_path, split="test")
    assert len(data) == 3 and data.channels == 3 and data.classes == ("plane", "car", "bird")
    assert (
        len(cifar(tmp_path)) == 15 and "15 images where the published set has 50000" in cifar(tmp_path).notes
    )
    for i, label in enumerate((2, 0, 1)):
        assert np.array_equal(data[i].image.numpy(), IMAGES[i].reshape(3, 32, 32)) and data[i].label == label


def test_hundred(tmp_path):
    held = {b"data": IMAGES, b"fine_labels": [1, 0, 1], b"coarse_labels": [0, 0, 0]}
    (tmp_path / "train").write_bytes(published(held))
    (tmp_path / "meta").write_bytes(published({b"fine_label_names": NAMES, b"coarse_label_names": NAMES[:1]}))
    assert [cifar(tmp_path)[i].label for i in range(3)] == [1, 0, 1]
    assert cifar(tmp_path, labels="coarse").classes == ("plane",)


class Hostile:
    def __init__(self, function, *given):
        self.function, self.given = function, given

    def __reduce__(self):
        return self.function, self.given


def test_code_is_refused_and_not_run(tmp_path):
    write(tmp_path)
    ran = tmp_path / "ran"
    for call in (
        Hostile(os.system, f"touch {ran}"),
        Hostile(eval, f"open({str(ran)!r}, 'w')"),
        Hostile(getattr, [], "append"),
        Hostile(np.fromfile, "/etc/passwd"),
    ):
        for protocol in (0, 2, 5):
            (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": call}, protocol))
            with pytest.raises(ValueError, match="asks for .*, which no CIFAR file needs") as error:
                cifar(tmp_path, split="test")
            assert "\n" not in str(error.value)
    assert not ran.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"cos\nsystem\n(S'true'\ntR.",  # protocol 0
        b"\x80\x02}q\x01.",  # an empty dict
        b"\x80\x02]q\x01.",
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".",  # a byte array that claims a terabyte
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b".",
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # a memo of two billion
        b"\x80\x02cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R}b.",
        b"\x80\x02Q.",
    ],
)
def test_nonsense(tmp_path, data):
    write(tmp_path)
    (tmp_path / "test_batch").write_bytes(data)
    with pytest.raises(ValueError, match="test_batch"):
        cifar(tmp_path, split="test")


@pytest.mark.parametrize(
    "images",
    [IMAGES.astype(np.int16), IMAGES[:, :-1], IMAGES[:0], IMAGES.astype(object), IMAGES.reshape(-1), [1, 2]],
)
def test_other_arrays_are_refused(tmp_path, images):
    write(tmp_path, images)
    with pytest.raises(ValueError, match="download it again"):
        cifar(tmp_path)


def test_labels_are_checked(tmp_path):
    for labels, message in (
        ((0, 1), "expected 3 integers"),
        ((0, 1, 7), "label 7 of 3"),
        ((0, 1, -1), "labels from"),
    ):
        write(tmp_path, labels=labels)
        with pytest.raises(ValueError, match=message):
            cifar(tmp_path)
    with pytest.raises(ValueError, match="no batches.meta nor meta"):
        cifar(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no coarse labels"):
        cifar(tmp_path, labels="coarse")


def test_a_file_cannot_change_the_reader(tmp_path):
    """BUILD sets attributes of whatever a name stands for: of no later reader's."""
    at = tmp_path / "x"
    for name in (b"c_codecs\nencode\n", b"cnumpy\nndarray\n"):
        at.write_bytes(b"\x80\x02" + name + b"N}U\x01xK\x01s\x86b0}.")
        try:
            load(at)
        except ValueError as error:
            assert "TypeError" in str(error)
    at.write_bytes(published({b"data": IMAGES}, 0))
    assert load(at)[b"data"].values("x").shape == (3, 3, 32, 32)
