"""Sets behind optional packages: clear messages without them, decoded here with them."""

import importlib.util
import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from undiffuse.data import Unusable, lsun, public


def png(value, mode="RGB"):
    with BytesIO() as out:
        Image.new(mode, (5, 4), value).save(out, "PNG")
        return out.getvalue()


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="pip install lmdb"):
        lsun(tmp_path)
    with pytest.raises(ValueError, match="pip install datasets"):
        public("cifar10")


@pytest.mark.skipif(importlib.util.find_spec("lmdb") is None, reason="needs lmdb")
def test_lsun(tmp_path):
    import lmdb

    env = lmdb.open(str(tmp_path / "set"), map_size=2**20)
    with env.begin(write=True) as transaction:
        transaction.put(b"bb", png((1, 2, 3)))
        transaction.put(b"aa", png(9, "L"))
        transaction.put(b"cc", b"RIFFxxxxWEBPnonsense")
    env.close()
    data = lsun(tmp_path / "set")
    assert [data.name(i) for i in range(len(data))] == ["aa", "bb", "cc"] and data.channels == 3
    assert data[0].image.shape == (3, 4, 5) and data[1].image[:, 0, 0].tolist() == [1, 2, 3]
    assert data.digest(0) != data.digest(1)
    with pytest.raises(Unusable, match="set#cc: cannot be decoded"):
        data[2]
    with pytest.raises(ValueError, match="no data.mdb"):
        lsun(tmp_path)
    (tmp_path / "data.mdb").write_bytes(b"nonsense" * 1000)
    with pytest.raises(ValueError, match="cannot be opened"):
        lsun(tmp_path)


class Rows(list):
    column_names = ["image", "label"]
    features = {"label": SimpleNamespace(names=["cat", "dog"]), "image": None}

    def cast_column(self, name, kind):
        assert name == "image" and kind == "encoded"
        return self


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in for the package: what of it is used, and how."""
    (tmp_path / "x.png").write_bytes(png((4, 5, 6)))
    rows = Rows(
        {"image": image, "label": label}
        for image, label in (
            ({"bytes": png((1, 2, 3)), "path": None}, 1),
            ({"bytes": None, "path": str(tmp_path / "x.png")}, 0),
            ({"bytes": png((1, 2, 3, 4), "RGBA"), "path": None}, 0),
            ({"bytes": None, "path": None}, 0),
            ({"bytes": png(0), "path": None}, -1),
        )
    )

    def load_dataset(path, config, *, split, revision):
        if split != "train":
            raise KeyError(f"no split\n{split}")
        return rows

    stand_in = SimpleNamespace(
        load_dataset=load_dataset, Image=lambda decode: "decoded" if decode else "encoded"
    )
    monkeypatch.setitem(sys.modules, "datasets", stand_in)


def test_public(hub):
    data = public("pets", label="label")
    assert len(data) == 5 and data.classes == ("cat", "dog") and data.name(1) == "pets#1"
    assert data[0].label == 1 and data[0].image[:, 0, 0].tolist() == [1, 2, 3]
    assert data[1].image[:, 0, 0].tolist() == [4, 5, 6]
    assert public("pets")[0].label is None and "revision newest" in data.notes[0]
    for i, reason in ((2, "transparency"), (3, "no image in 'image'"), (4, "the label -1")):
        with pytest.raises(Unusable, match=reason):
            data[i]


def test_public_refuses_in_one_line(hub):
    with pytest.raises(ValueError, match="no split") as error:
        public("pets", split="tset")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no column class; choose from image, label"):
        public("pets", label="class")


def test_grey_sets(hub):
    image = public("pets", channels=1)[0].image
    assert image.shape == (1, 4, 5) and image[0, 0, 0] == np.round(0.299 + 0.587 * 2 + 0.114 * 3)
