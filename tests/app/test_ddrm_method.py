"""DDRM's degradations, timesteps and guidance: ours and theirs."""

import numpy as np
import pytest
import torch

from tests.pictures import photograph
from undiffuse.app.ddrm import degrade, method
from undiffuse.app.priors import Opened, open_prior
from undiffuse.priors import DiscreteSchedule, NoisyClassifier
from undiffuse.priors.schedules import linear

DEGS = ["cs2", "inp", "deno", "deblur_uni", "deblur_gauss", "deblur_aniso", "sr4", "sr_bicubic4", "color"]


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("deg", DEGS)
def test_y0(deg, compat, tmp_path):
    """The picture of the measurement, in the cases that can be written down at once."""
    x = photograph(32, 32)[None].double()
    A = degrade.operator(deg, (3, 32, 32), 5, tmp_path, compat)
    y0 = degrade.shown(A, deg, A(x))
    assert y0.shape == x.shape and y0.isfinite().all()
    if deg == "deno":
        assert torch.allclose(y0, x)
    elif deg == "sr4":
        blocks = x.reshape(1, 3, 8, 4, 8, 4).mean((3, 5))
        assert torch.allclose(y0, blocks.repeat_interleave(4, 2).repeat_interleave(4, 3))
    elif deg == "color":
        assert (y0 - x.mean(1, keepdim=True)).abs().max() < (2e-4 if compat else 1e-12)  # 0.3334 for 1/3
    elif deg == "inp":
        missing = (y0 == -1).all(1)
        assert missing.float().mean() == 0.5 and torch.allclose(y0[:, :, ~missing[0]], x[:, :, ~missing[0]])
    elif deg.startswith("deblur"):
        assert torch.equal(y0, A(x))


def test_published_and_corrected_blurs_differ(tmp_path):
    """The corrected one is a blur: it keeps a flat picture inside. The published one is not."""
    flat = torch.ones(1, 3, 32, 32, dtype=torch.float64)
    for compat, kept in ((False, True), (True, False)):
        y = degrade.operator("deblur_uni", (3, 32, 32), 0, tmp_path, compat)(flat)
        assert bool((y[..., 8:-8, 8:-8] - 1).abs().max() < 1e-9) == kept


def test_masks_of_the_authors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="inp_masks/lorem3.npy.*authors' code"):
        degrade.operator("inp_lorem", (3, 16, 16), 0, tmp_path, False)
    mask = np.ones((16, 16), np.uint8)
    mask[3:5, 2:] = 0
    (tmp_path / "exp/inp_masks").mkdir(parents=True)
    np.save(tmp_path / "exp/inp_masks/lorem3.npy", mask)
    x = photograph(16, 16)[None].double()
    for compat in (False, True):
        A = degrade.operator("inp_lorem", (3, 16, 16), 0, tmp_path / "exp", compat)
        y0 = degrade.shown(A, "inp_lorem", A(x))
        assert torch.allclose(y0, torch.where(torch.from_numpy(mask) > 0, x, -1))
    with pytest.raises(ValueError, match="has size"):
        degrade.operator("inp_lorem", (3, 32, 32), 0, tmp_path / "exp", True)


@pytest.mark.parametrize("deg", ["jpeg:quality=10", "blur:motion,angle=30"])
def test_degradations_without_svd(deg, tmp_path):
    with pytest.raises(ValueError, match="singular value decomposition"):
        degrade.operator(deg, (3, 32, 32), 0, tmp_path, False)
    with pytest.raises(ValueError, match="with --compat; the authors have"):
        degrade.operator(deg, (3, 32, 32), 0, tmp_path, True)


def test_the_authors_timesteps():
    schedule = DiscreteSchedule.from_betas(linear())
    levels = method.authors_levels(schedule, 20)
    assert len(levels) == 20 and levels[0] == schedule.sigmas[950] and levels[-1] == schedule.sigmas[0]
    assert len(method.authors_levels(schedule, 30)) == 31
    with pytest.raises(ValueError, match="this prior has 1000"):
        method.authors_levels(schedule, 1001)


class Quadratic(torch.nn.Module):
    """Logits -|x_t - t/1000 c|^2 for two colours c, so that gradients can be written down."""

    def forward(self, x, t):
        centres = torch.tensor([-0.5, 0.5], dtype=x.dtype)
        c = (t.to(x).view(-1, 1, 1, 1, 1) / 1000) * centres.view(1, 2, 1, 1, 1)
        return -(x.unsqueeze(1) - c).square().flatten(2).sum(2)


def test_published_guidance_looks_at_the_start():
    """eps - sqrt(1 - abar) grad log p(y | x_T, t), in the authors' own variables."""
    schedule = DiscreteSchedule.from_betas(linear())
    classifier, labels, scale = NoisyClassifier(Quadratic(), schedule), torch.tensor([0, 1]), 0.7

    class Known(torch.nn.Module):
        def forward(self, x, sigma):
            return 0.3 * x

    prior = Opened(Known(), "known")
    x, start = torch.randn(2, 2, 3, 4, 4, dtype=torch.float64)
    sigma_T, t = schedule.sigmas[950], 600
    sigma, abar = schedule.sigmas[t], schedule.alphas_cumprod[t]
    x_T = (start / (1 + sigma_T**2).sqrt()).requires_grad_()  # variance preserving
    log_p = Quadratic()(x_T, torch.full((2,), float(t))).log_softmax(1)[[0, 1], labels].sum()
    (gradient,) = torch.autograd.grad(log_p, x_T)
    eps = (x - 0.3 * x) / sigma - (1 - abar).sqrt() * scale * gradient
    published = method.frozen(prior, labels, classifier, scale, start, sigma_T)
    assert torch.allclose(published(x, sigma), x - sigma * eps)
    assert torch.allclose(
        published(x + 1, sigma) - 0.3 * (x + 1), published(x, sigma) - 0.3 * x
    )  # x has no say


def test_guidance_looks_at_the_current_picture(monkeypatch):
    """The same at x_t: the authors' formula with cls_fn(xt, t, classes)."""
    schedule = DiscreteSchedule.from_betas(linear())
    classifier, labels, scale = NoisyClassifier(Quadratic(), schedule), torch.tensor([0, 1]), 0.7
    prior = open_prior("photo").prior
    assert prior is not None
    x, sigma, abar = torch.randn(2, 3, 16, 16), schedule.sigmas[600], schedule.alphas_cumprod[600]
    x_t = (x * abar.sqrt()).double().requires_grad_()
    log_p = Quadratic()(x_t, torch.full((2,), 600.0)).log_softmax(1)[[0, 1], labels].sum()
    (gradient,) = torch.autograd.grad(log_p, x_t)
    with torch.no_grad():
        eps = (x - prior(x, sigma)) / sigma - (1 - abar).sqrt() * scale * gradient
    found = method.denoiser(Opened(prior, "photo"), labels, classifier, scale)(x, sigma.float())
    assert (found - (x - sigma * eps)).abs().max() < 1e-4  # float32
