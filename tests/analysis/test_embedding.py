import math

import pytest
import torch

from undiffuse.analysis.embedding import pca, tsne, umap

EXACT = 1e-12  # float64, some hundred operations


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotated(points, seed=1):
    q, _ = torch.linalg.qr(normal(points.shape[1], points.shape[1], seed=seed))
    return points @ q.T, q


def ellipse(n=64):
    """Points whose covariance is known exactly: 4.5 and 0.5 along two axes, whatever n > 2."""
    angle = torch.arange(n, dtype=torch.float64) * 2 * math.pi / n
    return torch.stack([3 * angle.cos(), angle.sin(), 0 * angle, 0 * angle, 0 * angle], 1)


@pytest.mark.parametrize("wide", [False, True], ids=["covariance", "gram"])
def test_pca_of_an_ellipse(wide):
    points, q = rotated(ellipse(4 if wide else 64))
    frame = pca(points + 7, 3)
    assert torch.allclose(frame.variances, torch.tensor([4.5, 0.5, 0.0]).double(), atol=EXACT)
    assert torch.allclose(frame.explained, torch.tensor([0.9, 0.1, 0.0]).double(), atol=EXACT)
    assert torch.allclose((frame.axes[:2] @ q[:, :2]).abs(), torch.eye(2).double(), atol=1e-7)
    assert torch.allclose(frame.axes @ frame.axes.T, torch.eye(3).double(), atol=EXACT)
    assert torch.allclose(frame.back(frame(points + 7)), points + 7, atol=1e-10)
    assert torch.allclose(frame(points + 7).mean(0), torch.zeros(3).double(), atol=1e-10)
    assert frame.seen(points + 7) == pytest.approx(1)


def test_pca_keeps_what_it_sees_of_other_points():
    frame = pca(ellipse(), 1)
    assert frame.seen(torch.tensor([[5.0, 0, 0, 0, 0]])) == pytest.approx(1)
    assert frame.seen(torch.tensor([[0.0, 5, 0, 0, 0]])) == pytest.approx(0, abs=EXACT)
    assert frame.seen(torch.tensor([[3.0, 4, 0, 0, 0]])) == pytest.approx(9 / 25)


def test_pca_knows_no_order():
    points = normal(40, 6)
    one, other = pca(points), pca(points.flip(0))
    assert torch.allclose(one.axes, other.axes, atol=1e-10)
    assert torch.allclose(one(points), other(points), atol=1e-10)


@pytest.mark.parametrize("n, dims", [(1, 1), (5, 6), (20, 7), (5, 0)])
def test_pca_of_too_little(n, dims):
    with pytest.raises(ValueError, match=f"{dims} dimensions from {n} points of 6 numbers"):
        pca(normal(n, 6), dims)


def test_pca_of_what_diverged():
    with pytest.raises(ValueError, match="not finite"):
        pca(torch.tensor([[1.0, 2], [math.inf, 0], [0, 1]]), 1)


def test_pca_of_points_that_do_not_differ():
    frame = pca(torch.ones(5, 4), 2)
    assert frame.explained.tolist() == [1, 1] and frame.seen(torch.ones(2, 4)) == 1


def groups():
    """Three clouds of deviation 1 around points 40 apart, in 20 dimensions."""
    centres = 40 * torch.eye(20, dtype=torch.float64)[:3]
    which = torch.arange(60) % 3
    return centres[which] + normal(60, 20), which


def nearest_is_of_the_same(found, which):
    distance = torch.cdist(found.double(), found.double())
    distance.fill_diagonal_(math.inf)
    return (which[distance.argmin(1)] == which).double().mean().item()


@pytest.mark.parametrize("dims", [2, 3])
def test_tsne_keeps_groups_together(dims):
    points, which = groups()
    found = tsne(points, dims)
    assert found.shape == (60, dims)
    assert nearest_is_of_the_same(found, which) > 0.9  # 1/3 by chance; a point far out may be left alone
    assert torch.equal(found, tsne(points, dims))


@pytest.mark.slow  # umap-learn is compiled at its first use, half a minute
def test_umap_keeps_groups_together_and_places_others_among_them():
    points, which = groups()
    found = umap(points, 2, fitted=45)
    assert found.shape == (60, 2)
    assert nearest_is_of_the_same(found, which) > 0.9
    assert torch.equal(found, umap(points, 2, fitted=45))
    assert torch.equal(
        found[:45], umap(points[:45], 2, fitted=45)
    )  # what others do moves no point of the frame
