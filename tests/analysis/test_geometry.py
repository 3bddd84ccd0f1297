import math

import pytest
import torch

from undiffuse.analysis.geometry import Walk, angle, distance, geometry, joined

EXACT = 1e-12  # float64, some hundred operations


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def circle(points, radius, turns=1.0):
    """(points, 1, 2): a regular polygon's corners, of which the first comes again for a whole turn."""
    phase = torch.linspace(0, 2 * math.pi * turns, points, dtype=torch.float64)
    return radius * torch.stack([phase.cos(), phase.sin()], -1)[:, None]


def test_a_straight_line():
    """By 3 in each of 5 numbers, in steps of all sizes: length 3, whatever the dimension."""
    at = torch.tensor([0, 0.1, 0.5, 2, 3], dtype=torch.float64)
    found = geometry(at[:, None, None].expand(5, 4, 5) + normal(1, 4, 5))
    assert torch.allclose(found.length, torch.full((4,), 3.0).double(), atol=EXACT)
    assert torch.allclose(found.steps[:, 0], at.diff(), atol=EXACT)
    assert torch.allclose(found.straightness, torch.ones(4).double(), atol=EXACT)
    assert found.turning.max() < 1e-7 and found.curvature.max() < 1e-6  # rounding of unit vectors
    assert torch.allclose(found.chord, found.length, atol=EXACT)


@pytest.mark.parametrize("radius", [0.1, 5.0])
def test_a_circle(radius):
    """Chords of 2 r sin(a / 2) that turn by a = 2 pi / 200 each; the mean over two numbers halves the squares."""
    n, step = 201, 2 * math.pi / 200
    found = geometry(circle(n, radius))
    chord = 2 * radius * math.sin(step / 2) / math.sqrt(2)
    assert torch.allclose(found.steps, torch.full((200, 1), chord).double(), atol=EXACT)
    assert torch.allclose(found.turns, torch.full((199, 1), step).double(), atol=1e-10)
    assert found.turning.item() == pytest.approx(199 * step, rel=1e-9)
    assert found.curvature.mean().item() == pytest.approx(step / chord, rel=1e-9)
    assert found.curvature.mean().item() == pytest.approx(
        math.sqrt(2) / radius, rel=1e-3
    )  # the polygon's own 4e-5
    assert found.chord.item() == pytest.approx(0, abs=EXACT)
    assert found.straightness.item() == pytest.approx(0, abs=1e-10)


def test_half_a_circle():
    """Chord over arc: 2 / pi, but for the polygon's 1 - a^2 / 24."""
    found = geometry(circle(1001, 1.0, turns=0.5))
    assert found.straightness.item() == pytest.approx(2 / math.pi, rel=1e-6)


def test_there_and_back():
    found = geometry(torch.tensor([0.0, 1, 0], dtype=torch.float64)[:, None, None])
    assert (found.length, found.chord, found.straightness) == (2, 0, 0)
    assert found.turns.item() == pytest.approx(math.pi)


def test_a_path_that_stands_still():
    found = geometry(torch.ones(4, 2, 3))
    assert found.length.tolist() == [0, 0] and found.straightness.tolist() == [1, 1]
    assert found.turns.isnan().all() and found.turning.tolist() == [0, 0]


def test_a_path_of_one_point_never_moves():
    found = geometry(torch.ones(1, 2, 3))
    assert found.steps.shape == found.turns.shape == (0, 2)
    assert found.length.tolist() == found.turning.tolist() == [0, 0] and found.straightness.tolist() == [1, 1]
    with pytest.raises(ValueError, match="a path without points"):
        geometry([])


@pytest.mark.parametrize("small", [1e-3, 1e-6])
def test_small_angles(small):
    u = torch.tensor([1.0, 0], dtype=torch.float64)
    v = torch.tensor([math.cos(small), math.sin(small)], dtype=torch.float64)
    assert angle(u, 7 * v).item() == pytest.approx(small, rel=1e-9)  # acos would have 1e-4 at 1e-6


def test_turned_moved_and_scaled():
    """Rotations and shifts change nothing; a factor goes into lengths, its inverse into curvature."""
    points = normal(6, 3, 8)
    q, _ = torch.linalg.qr(normal(8, 8, seed=1))
    one, other = geometry(points), geometry(3 * points @ q + 5)
    assert torch.allclose(other.length, 3 * one.length, atol=1e-10)
    assert torch.allclose(other.turns, one.turns, atol=1e-10)
    assert torch.allclose(other.curvature, one.curvature / 3, atol=1e-10)
    assert torch.allclose(other.straightness, one.straightness, atol=1e-10)


def test_point_by_point_and_in_parts():
    points, walk = normal(5, 6, 2, 3, 3), Walk()
    whole = geometry(points)
    for x in points:
        walk(x)
    assert torch.equal(walk.geometry().steps, whole.steps)
    parts = joined([geometry(points[:, :2]), geometry(points[:, 2:])])
    for name in ("steps", "turns", "chord"):
        assert torch.equal(getattr(parts, name), getattr(whole, name))


def test_distance():
    a = normal(4, 3, 7)
    assert torch.equal(distance(a, a.clone()), torch.zeros(4, 3).double())
    assert torch.allclose(distance(a, a - 0.25), torch.full((4, 3), 0.25).double(), atol=EXACT)
    order = torch.tensor([2, 0, 1])
    assert torch.equal(distance(a[:, order], 2 * a[:, order]), distance(a, 2 * a)[:, order])
    with pytest.raises(ValueError, match="same levels and pictures"):
        distance(a, a[:3])
