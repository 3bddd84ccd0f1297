"""Masks for inpainting: drawn ones, files, and files that must be refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.registry import OPERATORS

SHAPE = (3, 10, 14)


@pytest.mark.parametrize("name", ["random", "box", "half", "brush"])
@pytest.mark.parametrize("missing", [0.1, 0.5])
def test_drawn_masks(name, missing):
    operator = OPERATORS["inp"]((1, 60, 50), mask=name, missing=missing, seed=2)
    share = 1 - operator.s.mean().item()
    assert share == pytest.approx(missing, abs=0.15 if name == "brush" else 0.02)
    again = OPERATORS["inp"]((1, 60, 50), mask=name, missing=missing, seed=2)
    assert torch.equal(again.s, operator.s)


def test_random_masks_lose_an_exact_count_and_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert OPERATORS["inp"](SHAPE, missing=0.5).measurements == 3 * 70
    assert torch.equal(before, torch.get_rng_state())


def test_missing_channels():
    operator = OPERATORS["inp"](SHAPE, channels=[0, 2])
    assert operator.measurements == 140
    x = torch.ones(1, *SHAPE, dtype=torch.float64)
    assert operator(x)[0].sum((1, 2)).tolist() == [0, 140, 0]
    both = OPERATORS["inp"](SHAPE, mask="half", channels=[0])
    assert both(x)[0].sum((1, 2)).tolist() == [0, 70, 70]
    with pytest.raises(ValueError, match=r"channels \[3\]"):
        OPERATORS["inp"](SHAPE, channels=[3])


def test_mask_files(tmp_path):
    kept = np.random.default_rng(0).random((10, 14)) > 0.3
    Image.fromarray(np.where(kept, 255, 40).astype(np.uint8)).save(tmp_path / "m.png")
    np.save(tmp_path / "m.npy", kept.astype(np.uint8))
    x = torch.randn(1, *SHAPE, dtype=torch.float64)
    for name in ("m.png", "m.npy"):
        operator = OPERATORS["inp"](SHAPE, mask=str(tmp_path / name))
        assert torch.equal(operator(x), x * torch.from_numpy(kept))
    each = np.random.default_rng(0).random(SHAPE) > 0.3
    np.save(tmp_path / "each.npy", each)
    assert torch.equal(
        OPERATORS["inp"](SHAPE, mask=str(tmp_path / "each.npy")).s, torch.from_numpy(each).double()
    )


@pytest.mark.parametrize("kind", ["grey", "16 bits", "transparent", "floats"])
def test_the_soft_edge_of_a_stroke_is_missing(tmp_path, kind):
    """A pixel that is half scratch is no measurement of the picture."""
    values = np.tile(np.array([255, 250, 200, 128, 40, 0, 255], np.uint8), (10, 2))
    path = tmp_path / ("m.npy" if kind == "floats" else "m.png")
    if kind == "floats":
        np.save(path, values / 255)
    elif kind == "16 bits":
        Image.fromarray(values.astype(np.uint16) * 257).save(path)
    elif kind == "transparent":  # black strokes on a layer of nothing
        layer = np.zeros((*values.shape, 4), np.uint8)
        layer[..., 3] = 255 - values
        Image.fromarray(layer).save(path)
    else:
        Image.fromarray(values).save(path)
    kept = OPERATORS["inp"](SHAPE, mask=str(path)).s
    assert torch.equal(kept, torch.from_numpy(values >= 250)[None].double())


@pytest.mark.parametrize(
    ("paint", "stop"), [("black", None), ("red", None), ("white", "white"), (None, "nothing")]
)
def test_a_layer_is_missing_where_it_is_painted_and_white_paint_is_refused(tmp_path, paint, stop):
    """White on nothing would be kept on a white ground and on a black one: all of it, without a word."""
    layer = Image.new("RGBA", (14, 10), (255, 255, 255, 0))
    if paint is not None:
        layer.paste(paint, (2, 3, 9, 5))
    layer.save(tmp_path / "m.png")
    if stop is None:
        assert int((OPERATORS["inp"](SHAPE, mask=str(tmp_path / "m.png")).s == 0).sum()) == 14
        return
    with pytest.raises(ValueError, match=f"m.png' has {stop} painted on a transparent ground") as caught:
        OPERATORS["inp"](SHAPE, mask=str(tmp_path / "m.png"))
    assert "\n" not in str(caught.value)


def test_an_opaque_alpha_channel_changes_no_mask(tmp_path):
    grey = Image.new("L", (14, 10), 255)
    grey.save(tmp_path / "grey.png")
    grey.convert("RGBA").save(tmp_path / "opaque.png")
    for name in ("grey.png", "opaque.png"):
        assert OPERATORS["inp"](SHAPE, mask=str(tmp_path / name)).s.all()


def test_masks_of_another_size_are_refused_with_both_sizes(tmp_path):
    Image.new("L", (20, 10), 255).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"\(10, 20\).*\(3, 10, 14\)"):
        OPERATORS["inp"](SHAPE, mask=str(tmp_path / "m.png"))


def test_masks_that_measure_nothing_are_refused(tmp_path):
    Image.new("L", (14, 10), 127).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match="white is kept"):
        OPERATORS["inp"](SHAPE, mask=str(tmp_path / "m.png"))


def test_unknown_masks_are_refused():
    with pytest.raises(ValueError, match="no mask 'boks'; choose from random, box, half, brush"):
        OPERATORS["inp"](SHAPE, mask="boks")
    with pytest.raises(ValueError, match="no mask file 'gone.png'"):
        OPERATORS["inp"](SHAPE, mask="gone.png")
