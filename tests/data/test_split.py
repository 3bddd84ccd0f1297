"""A split that does not leak: by content, whatever is added, renamed or copied."""

import numpy as np
import pytest
from PIL import Image

from undiffuse.data import folder, npz, split


def write(root, names, seed=0):
    for i, name in enumerate(names):
        at = root / name
        at.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng([seed, i]).integers(0, 256, (4, 4, 3), np.uint8)).save(at)


def names(side):
    return {side.name(i) for i in range(len(side))}


@pytest.fixture
def root(tmp_path):
    write(tmp_path, [f"{i:03}.png" for i in range(200)])
    return tmp_path


@pytest.mark.parametrize("by", ["content", "name"])
def test_share_and_stability(root, by):
    training, validation = split(folder(root), share=0.25, by=by)
    assert len(training) + len(validation) == 200 and not names(training) & names(validation)
    assert 25 < len(validation) < 75  # four deviations of 50
    assert f"by {by}" in validation.notes[-1] and validation.channels == 3
    write(root, [f"a{i:03}.png" for i in range(50)], seed=1)
    (root / "000.png").unlink()
    later = split(folder(root), share=0.25, by=by)
    for before, after in zip((training, validation), later, strict=True):
        assert names(before) - {"000.png"} <= names(after)


def test_copies_and_renamed_files_stay_together(root):
    before = [names(side) for side in split(folder(root), share=0.5)]
    for i in range(200):
        (root / f"copy{(i * 7) % 200}.png").write_bytes((root / f"{i:03}.png").read_bytes())
    for side, old in zip(split(folder(root), share=0.5), before, strict=True):
        digests = {side.digest(i) for i in range(len(side))}
        assert len(side) == 2 * len(old) and len(digests) == len(old)
        assert "200 copies kept with their twins" in side.notes[-1]


def test_a_larger_share_only_moves_items_to_validation(root):
    small, large = (names(split(folder(root), share=share)[1]) for share in (0.1, 0.3))
    assert small < large


def test_arrays(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), np.uint8)
    np.savez(tmp_path / "x.npz", x=np.concatenate([images, images]))
    training, validation = split(npz(tmp_path / "x.npz"), share=0.5)
    sides = [{side.indices[i] % 40 for i in range(len(side))} for side in (training, validation)]
    assert not sides[0] & sides[1] and len(training) == 2 * len(sides[0])


def test_refusals(root):
    for share in (0, 1, -0.5, float("nan")):
        with pytest.raises(ValueError, match="more than 0 and less than 1"):
            split(folder(root), share=share)
    with pytest.raises(ValueError, match="200 to train on and 0 to validate"):
        split(folder(root), share=1e-9)
