"""Folders of images: what is found, what is refused, and the layouts of published sets."""

import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.config import options, validated
from undiffuse.data import Unusable, celeba, celeba_hq, ffhq, folder, subrange
from undiffuse.registry import DATASETS


def picture(path, value=0, size=(5, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def root(tmp_path):
    picture(tmp_path / "b" / "2.png", (255, 0, 7))
    picture(tmp_path / "a" / "deep" / "1.PNG", 9, mode="L")
    picture(tmp_path / "a" / "0.png", (1, 2, 3))
    (tmp_path / "a" / "notes.txt").write_text("x")
    return tmp_path


def test_found_sorted_and_as_stored(root):
    data = folder(root)
    assert [data.name(i) for i in range(len(data))] == ["a/0.png", "a/deep/1.PNG", "b/2.png"]
    assert data[0].image.dtype == torch.uint8 and data[0].image.shape == (3, 4, 5)
    assert data[2].image[:, 0, 0].tolist() == [255, 0, 7] and data[0].label is None
    assert data[1].image[:, 0, 0].tolist() == [9, 9, 9]
    assert any("1 other" in note for note in data.notes)


def test_of_samples_the_numbered_pictures(tmp_path):
    for name in ("00000.png", "00001.png", "grid.png", "path.png"):
        picture(tmp_path / name)
    assert len(folder(tmp_path)) == 4
    (tmp_path / "sample.json").write_text("{}")
    found = folder(tmp_path)
    assert [found.name(i) for i in range(len(found))] == ["00000.png", "00001.png"]
    assert "2 picture(s) beside the samples left out" in found.notes
    for name in ("00000.png", "00001.png"):
        (tmp_path / name).unlink()
    assert len(folder(tmp_path)) == 2  # a record of something else


def test_grey_is_luma(root):
    data = folder(root, channels=1)
    assert data[2].image.shape == (1, 4, 5) and data.channels == 1
    assert data[2].image[0, 0, 0] == round(0.299 * 255 + 0.114 * 7)


def test_classes_by_folder(root):
    data = folder(root, classes=True)
    assert data.classes == ("a", "b") and [data[i].label for i in range(3)] == [0, 0, 1]
    picture(root / "stray.png")
    with pytest.raises(ValueError, match=r"1 images are in no sub-folder \(stray.png\)"):
        folder(root, classes=True)


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names of folders are always text there")
def test_a_class_whose_name_is_no_text(root):
    odd = root / os.fsdecode(b"c\xff")
    odd.mkdir()
    picture(odd / "1.png")
    with pytest.raises(ValueError, match=r"the sub-folder 'c\\udcff' is no text in UTF-8; .* rename it"):
        folder(root, classes=True)


def test_list_gives_names_and_labels(root, tmp_path):
    at = tmp_path / "val.txt"
    at.write_text("b/2.png 7\na/0.png\t3\n\n")
    data = folder(root, list_file=at)
    assert [(data.name(i), data[i].label) for i in range(2)] == [("b/2.png", 7), ("a/0.png", 3)]
    at.write_text("b/2.png\n")
    assert folder(root, list_file=at)[0].label is None
    at.write_text("b/2.png\n", encoding="utf-8-sig")
    assert folder(root, list_file=at).name(0) == "b/2.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("../../etc/passwd 1", "leads out of the data folder"),
        ("a/../../x.png", "leads out of the data folder"),
        ("/etc/passwd", "leads out of the data folder"),
        ("C:\\x.png 1", "leads out of the data folder"),
        ("a/0.png 1\nb/2.png", "1 of 2 lines end in a label"),
        ("a/9.png 1", r"1 of 1 images .* missing \(a/9.png\)"),
        ("a/0.png 1\nb/2.png 1000001", "line 2: the label 1000001; expected 0 to 1000000"),
        ("\n", "an empty list"),
    ],
)
def test_bad_lists_are_refused(root, tmp_path, text, message):
    at = tmp_path / "list.txt"
    at.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        folder(root, list_file=at)
    assert "\n" not in str(error.value)


def test_empty_and_missing(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        folder(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        folder(tmp_path / "none")
    with pytest.raises(ValueError, match="cannot be read"):
        picture(tmp_path / "a.png")
        folder(tmp_path, list_file=tmp_path / "none")


def test_damaged_image_is_unusable(root):
    (root / "a" / "0.png").write_bytes((root / "a" / "0.png").read_bytes()[:40])
    with pytest.raises(Unusable, match="0.png"):
        folder(root)[0]


def test_a_pipe_is_unusable_and_is_not_waited_for(root):
    os.mkfifo(root / "a" / "pipe.png")
    data = folder(root)
    (at,) = [i for i in range(len(data)) if data.name(i) == "a/pipe.png"]
    for asked in (data.digest, data.__getitem__):
        with pytest.raises(Unusable, match="is not a regular file"):
            asked(at)


def test_kept_in_memory_within_its_budget(root):
    data = folder(root, keep_mb=1)
    first = data[0].image
    assert data[0].image is first and data.name(0) == "a/0.png" and len(data) == 3
    assert folder(root)[0].image is not folder(root)[0].image


def test_sixteen_bits_are_floats(tmp_path):
    Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(tmp_path / "x.png")
    image = folder(tmp_path)[0].image
    assert image.dtype == torch.float32 and image.shape == (3, 4, 4) and (image == 1).all()


def test_subrange(root):
    part = subrange(folder(root), 1, 3)
    assert len(part) == 2 and part.name(0) == "a/deep/1.PNG" and part.digest(1) == folder(root).digest(2)
    with pytest.raises(ValueError, match="range 2:4 of a dataset of 3"):
        subrange(folder(root), 2, 4)


def test_celeba_by_its_own_split(tmp_path):
    for i in range(4):
        picture(tmp_path / "img_align_celeba" / f"{i}.jpg", (i, i, i))
    at = tmp_path / "list_eval_partition.txt"
    at.write_text("0.jpg 0\n1.jpg 1\n2.jpg 0\n3.jpg 2\n")
    for name, expected in {"train": 2, "validation": 1, "test": 1, "all": 4}.items():
        assert len(celeba(tmp_path, split=name)) == expected
    at.write_text("../secret.jpg 0\n")
    with pytest.raises(ValueError, match="leads out"):
        celeba(tmp_path)
    at.write_text("0.jpg 5\n")
    with pytest.raises(ValueError, match="line 1: '0.jpg 5'"):
        celeba(tmp_path)
    at.unlink()
    with pytest.raises(ValueError, match="no list_eval_partition.txt"):
        celeba(tmp_path)


def test_faces_say_when_the_set_is_not_whole(tmp_path):
    picture(tmp_path / "images1024x1024" / "00000" / "00012.png")
    picture(tmp_path / "images1024x1024" / "60000" / "60001.png")
    assert "2 images where the published set has 70000" in ffhq(tmp_path).notes
    assert ffhq(tmp_path, split="train").name(0) == "00000/00012.png"
    assert ffhq(tmp_path, split="validation").name(0) == "60000/60001.png"
    picture(tmp_path / "CelebA-HQ-img" / "0.jpg")
    assert len(celeba_hq(tmp_path)) == 1


@pytest.mark.parametrize("name", list(DATASETS))
def test_options_of_each_dataset_have_a_schema(name):
    assert DATASETS[name].summary and DATASETS[name].example.startswith(name)
    assert options(DATASETS[name].factory).model_fields
    with pytest.raises(ValueError, match="has no option 'nonsense'"):
        validated(DATASETS[name], {"nonsense": 1})
