"""Transforms: exact where they can be, random only through their generator."""

import pytest
import torch

from undiffuse.data import Unusable, prepare
from undiffuse.data.transforms import (
    centre_crop,
    dequantised,
    flipped,
    item_generator,
    random_crop,
    resized,
    shorter_to,
    signed,
    texture,
    textured_crop,
)

GRID = torch.arange(9 * 12, dtype=torch.uint8).reshape(1, 9, 12)


def seeds(n):
    return (torch.Generator().manual_seed(i) for i in range(n))


def test_centre_crop():
    assert torch.equal(centre_crop(GRID, 5), GRID[:, 2:7, 3:8])
    assert torch.equal(centre_crop(GRID, 9), GRID[:, :, 1:10])
    with pytest.raises(Unusable, match="is 9 x 12 pixels; expected at least 10 x 10"):
        centre_crop(GRID, 10)


def test_random_crop_reaches_every_place():
    places = {int(random_crop(GRID, 8, g)[0, 0, 0]) for g in seeds(200)}
    assert places == {12 * top + left for top in range(2) for left in range(5)}


def test_textured_crop_prefers_texture():
    """One half flat: a crop of 8 in 64 columns is flat in about 4 of 10 draws, in 4 of 4 in about 3 %."""
    image = torch.zeros(1, 8, 64)
    image[..., ::2, 32:] = 1.0
    flat = [sum(texture(textured_crop(image, 8, g, tries=n)) == 0 for g in seeds(300)) for n in (1, 4)]
    assert flat[0] > 100 and flat[1] < 25
    for a, b in zip(seeds(5), seeds(5), strict=True):
        assert torch.equal(textured_crop(image, 8, a, tries=1), random_crop(image, 8, b))
    assert texture(torch.ones(1, 1, 1)) == 0


def test_flip_half_of_the_time():
    flips = sum(torch.equal(flipped(GRID, g), GRID.flip(2)) for g in seeds(400))
    assert 160 < flips < 240  # four deviations of a fair coin


def test_resize_keeps_constants_type_and_range():
    for image in (torch.full((3, 9, 12), 200, dtype=torch.uint8), torch.full((3, 9, 12), 0.3)):
        small = resized(image, 4, 7)
        assert small.shape == (3, 4, 7) and small.dtype == image.dtype
        torch.testing.assert_close(small, image[:, :4, :7], atol=1e-6, rtol=0)
    edge = (torch.arange(16) > 7).float().mul(2).sub(1).expand(1, 16, 16)
    assert resized(edge, 40, 40).abs().max() <= 1
    assert resized(GRID, 9, 12) is GRID and shorter_to(GRID, 6).shape == (1, 6, 8)


def test_resize_is_antialiased():
    stripes = torch.zeros(1, 64, 64)
    stripes[..., ::2] = 1.0
    inner = resized(stripes, 16, 16)[..., 2:-2]
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5), atol=0.02, rtol=0)


def test_signed_reaches_both_ends():
    assert signed(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]
    assert signed(torch.tensor([0.25])).item() == 0.25


def test_dequantised_is_uniform_within_its_bin():
    """A million draws: the mean of a uniform is known to 0.0003."""
    image = torch.full((1, 1000, 1000), 7, dtype=torch.uint8)
    u = (dequantised(image, next(seeds(1))).double() + 1) * 128 - 7
    assert (
        u.min() >= 0 and u.max() < 1 and (u.mean() - 0.5).abs() < 0.0015 and (u.var() - 1 / 12).abs() < 0.001
    )
    top = dequantised(torch.full((1, 2000, 2000), 255, dtype=torch.uint8), next(seeds(1)))
    assert top.max() < 1
    with pytest.raises(ValueError, match="no 8 bits"):
        dequantised(torch.zeros(1, 2, 2), next(seeds(1)))


def test_generators_differ_by_each_key():
    draws = {
        float(torch.rand((), generator=item_generator(*key)))
        for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0))
    }
    assert len(draws) == 4


def test_prepare():
    g = next(seeds(1))
    assert torch.equal(prepare(9)(GRID, g), signed(centre_crop(GRID, 9)))
    assert torch.equal(prepare(4, window=8)(GRID, g), signed(resized(centre_crop(GRID, 8), 4, 4)))
    assert prepare(5, crop="none")(GRID, g).shape == (1, 5, 5)
    for crop in ("random", "textured"):
        x = prepare(4, crop=crop, shorter=6, flip=True, dequantise=True)(GRID, g)
        assert x.shape == (1, 4, 4) and x.dtype == torch.float32 and x.abs().max() <= 1 and x.is_contiguous()
    with pytest.raises(Unusable):
        prepare(10, crop="random")(GRID, g)


@pytest.mark.parametrize(
    "wrong", [{"shorter": 3}, {"window": 0}, {"tries": 0}, {"shorter": 9, "crop": "none"}]
)
def test_prepare_refuses(wrong):
    with pytest.raises(ValueError, match="expected"):
        prepare(4, **wrong)
